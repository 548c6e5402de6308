"""Does the jobs in the folder `data`, each once, and again if it was under way at a crash."""

import os
import signal
import time

FOLDER = "data"
#: Behind the name of a job that this instance has taken: no other one has this number.
TAKEN = ".taken-" + os.environ.get("PUP_CLUSTER_INSTANCE", "0")

stopping = False


def stop(number: int, frame: object) -> None:
    """Only make a note: the job under way is finished."""
    global stopping
    stopping = True


def take_job() -> str:
    """The path of the next job, taken so that nobody else has it; "" if there is none.

    What the predecessor of this instance had taken, and not finished, comes first.
    """
    names = sorted(os.listdir(FOLDER))
    for name in [name for name in names if name.endswith(TAKEN)]:
        return os.path.join(FOLDER, name)
    for name in [name for name in names if name.endswith(".job")]:
        path = os.path.join(FOLDER, name)
        try:
            os.rename(path, path + TAKEN)
            return path + TAKEN
        except FileNotFoundError:
            continue  # another instance was quicker
    return ""


def do(path: str) -> None:
    """The work proper. It may be done twice, and must not do harm then."""
    with open(path) as file:
        text = file.read()
    print("begins %s" % text.strip())
    time.sleep(1)
    print("has done %s" % text.strip())


def main() -> None:
    signal.signal(signal.SIGTERM, stop)
    os.makedirs(FOLDER, exist_ok=True)
    while not stopping:
        path = take_job()
        if path:
            do(path)
            os.remove(path)
        else:
            time.sleep(0.2)


if __name__ == "__main__":
    main()
