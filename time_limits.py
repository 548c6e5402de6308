"""How long the start and the stop of one instance may take: what exported time-outs follow from."""

from model import Process


def time_to_start(process: Process) -> float:
    """Seconds until it is up, or its start has failed."""
    if process.cluster is None or process.cluster.start_port is None:
        return process.min_uptime
    return process.cluster.ready_timeout


def time_to_stop(process: Process) -> float:
    """Seconds until it is killed."""
    return process.terminate_grace_period + process.terminate_timeout
