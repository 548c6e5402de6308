"""Writes data/report.txt, whole or not at all."""

import os
import time

FOLDER = "data"
PATH = os.path.join(FOLDER, "report.txt")


def main() -> None:
    os.makedirs(FOLDER, exist_ok=True)
    with open(PATH + ".new", "w") as file:
        file.write("%s, load %.2f\n" % (time.strftime("%Y-%m-%d %H:%M:%S"), os.getloadavg()[0]))
        file.flush()
        os.fsync(file.fileno())
    os.replace(PATH + ".new", PATH)
    print("the report is written")


if __name__ == "__main__":
    main()
