"""What `pupgevent describe` tells: typed records, in JSON at the control socket."""

from typing import NamedTuple, Tuple

from status_report import Status


class Setting(NamedTuple):
    """A key of the file."""

    #: With the tables that it is in: "cluster.commonPort".
    name: str
    #: As the file would spell it, but for what is secret.
    value: str
    is_default: bool


class PastState(NamedTuple):
    """A state that an instance has come into."""

    #: Unix time.
    at: float
    instance: str
    state: str
    #: Why it does not run, who its child is; may be empty.
    text: str


class Description(NamedTuple):
    """Of one process, or of one of its instances."""

    #: Only with that process, and with those instances.
    status: Status
    settings: Tuple[Setting, ...]
    #: The last ones, in their order.
    history: Tuple[PastState, ...]
    #: How many more there were.
    forgotten: int
    #: What the instances, and pupgevent about them, have printed last; without orders to a
    #: terminal.
    lines: Tuple[str, ...]
