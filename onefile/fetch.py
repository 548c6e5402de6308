"""Get the wheels of the lock file, each checked against its hash; or make the lock file anew.

    python -m onefile.fetch FOLDER      download what is missing there
    python -m onefile.fetch --lock      ask the index for the newest that fit, write the lock

The lock file names each file and its SHA-256, in the format of sha256sum. pip is the one that
talks to the index, as it is set up on the machine.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Dict, Iterable, List

from onefile.steps import step
from onefile.targets import MACHINES, SOURCES, TARGETS, platforms

LOCK = Path(__file__).with_name("wheels.lock")
#: Calls of pip side by side: most of their time they wait for the index.
AT_ONCE = 4
HEAD = """\
# Every file that goes into dist/pupgevent, with its SHA-256. `make lock` makes it anew.
"""


class PipError(Exception):
    """No SystemExit: a pool waits for ever for a call that one has ended."""


def read_lock() -> Dict[str, str]:
    """{file name: SHA-256}"""
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    pairs = (line.split() for line in lines if line and not line.startswith("#"))
    return {name: digest for digest, name in pairs}


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch(folder: Path) -> None:
    """Download what the lock names and `folder` has not; exits where pip or a hash says no."""
    folder.mkdir(parents=True, exist_ok=True)
    locked = read_lock()
    wanted = {name: digest for name, digest in locked.items()
              if not (folder / name).exists() or digest_of(folder / name) != digest}
    step("%d of %d wheels are to be downloaded" % (len(wanted), len(locked)))
    done = 0
    with ThreadPool(AT_ONCE) as pool:
        calls = pool.imap_unordered(lambda batch: download(batch, wanted, folder), batches(wanted))
        try:
            for batch in calls:
                done += len(batch)
                step("%d of %d downloaded, last those for %s" % (done, len(wanted), kind(batch[0])))
        except PipError as error:
            sys.exit(str(error))
    for name, digest in locked.items():
        if digest_of(folder / name) != digest:
            sys.exit("%s is not the one of the lock file" % name)


def batches(names: Iterable[str]) -> List[List[str]]:
    """Files that one call of pip can get: of one target, no project twice."""
    found: Dict[str, List[str]] = {}
    for name in sorted(names):
        turn = 0
        while project(name) in map(project, found.get("%s %d" % (kind(name), turn), [])):
            turn += 1
        found.setdefault("%s %d" % (kind(name), turn), []).append(name)
    return list(found.values())


def project(name: str) -> str:
    return name.split("-")[0].replace("_", ".")


def requirement(name: str) -> str:
    return "==".join(name.replace(".tar.gz", "").split("-")[:2])


def kind(name: str) -> str:
    """What pip has to be told: "cp36-cp36m-x86_64", "any", or "source"."""
    if not name.endswith(".whl"):
        return "source"
    python, abi, platform = name[:-len(".whl")].split("-")[2:]
    machines = [machine for machine in MACHINES if platform.endswith(machine)]
    return "%s-%s-%s" % (python, abi, machines[0]) if machines else "any"


def download(batch: List[str], digests: Dict[str, str], folder: Path) -> List[str]:
    """The batch again, once it is there."""
    arguments = ["--ignore-requires-python"]
    if kind(batch[0]) == "source":
        arguments += ["--no-binary", ":all:"]
    else:
        arguments += ["--only-binary", ":all:"]
    if kind(batch[0]) not in ("source", "any"):
        python, abi, machine = kind(batch[0]).split("-")
        arguments += of_target(python[2:], abi, machine)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        for name in batch:
            file.write("%s --hash=sha256:%s\n" % (requirement(name), digests[name]))
        file.flush()
        pip(arguments + ["--require-hashes", "-r", file.name], folder)
    return batch


def of_target(version: str, abi: str, machine: str) -> List[str]:
    arguments = ["--python-version", version, "--implementation", "cp", "--abi", abi]
    for name in platforms(machine):
        arguments += ["--platform", name]
    return arguments


def pip(arguments: List[str], folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check", "download",
               "--no-deps", "--dest", str(folder)]
    code = subprocess.call(command + arguments)
    if code != 0:
        raise PipError("pip ended with exit code %d" % code)


def lock() -> None:
    """Ask for the newest that fit; the lock file is what comes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        step("asking the index for %s" % ", ".join(SOURCES))
        pip(["--no-binary", ":all:", *SOURCES], folder)
        for target in TARGETS:
            step("asking the index for the newest for %s" % target.manifest)
            pip(["--only-binary", ":all:", "--abi", "none", "--platform", "any",
                 *of_target(target.version, target.abi, target.machine),
                 *target.requirements()], folder)
        lines = sorted("%s  %s\n" % (digest_of(path), path.name) for path in folder.iterdir())
        LOCK.write_text(HEAD + "".join(sorted(lines, key=lambda line: line.split()[1])))


def main() -> None:
    parser = argparse.ArgumentParser(description="Get the wheels of the lock file.")
    parser.add_argument("--lock", action="store_true")
    parser.add_argument("folder", nargs="?", type=Path)
    told = parser.parse_args()
    if told.lock:
        try:
            lock()
        except PipError as error:
            sys.exit(str(error))
    elif told.folder:
        fetch(told.folder)
    else:
        parser.error("where to?")


if __name__ == "__main__":
    main()
