"""Does the jobs in the folder `data`, each once, and again if it was under way at a crash."""

import os
import signal
import time

FOLDER = "data"
#: Behind the name of a job that this instance has taken: no other one has this number.
TAKEN = ".taken-" + os.environ.get("PUP_CLUSTER_INSTANCE", "0")


def take_job() -> str:
    """The path of the next job, taken so that nobody else has it; "" if there is none.

    What this instance had taken before a crash, and not finished, comes first.
    """
    names = sorted(os.listdir(FOLDER))
    for name in names:
        if name.endswith(TAKEN):
            return os.path.join(FOLDER, name)
    for name in names:
        if name.endswith(".job"):
            path = os.path.join(FOLDER, name)
            try:
                os.rename(path, path + TAKEN)
                return path + TAKEN
            except FileNotFoundError:
                continue  # another instance was quicker
    return ""


def do(path: str) -> None:
    """The work proper. It may be done twice, and must do no harm then."""
    with open(path) as file:
        text = file.read().strip()
    print("begins %s" % text)
    time.sleep(1)
    print("has done %s" % text)


class Worker:
    def __init__(self) -> None:
        self.stopping = False
        signal.signal(signal.SIGTERM, self.stop)

    def stop(self, *_: object) -> None:
        """Only make a note: the job under way is finished first."""
        self.stopping = True

    def run(self) -> None:
        while not self.stopping:
            path = take_job()
            if path:
                do(path)
                os.remove(path)
            else:
                time.sleep(0.2)


if __name__ == "__main__":
    os.makedirs(FOLDER, exist_ok=True)
    Worker().run()
