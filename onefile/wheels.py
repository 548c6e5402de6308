"""What goes into the single file: the locked wheels without what no server runs, and our own.

Out go tests, C sources and headers (the licences stay), the second event loop (libuv) and the
second way to bind the first one, and the c-ares resolver: gevent takes none of them unless it is
told to by its own environment variables. Out goes also the debugging information of libraries.
"""

import configparser
import re
import tarfile
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple

from onefile import archives, elf
from onefile.targets import PACKAGES, TARGETS, TOMLI_BEFORE, Target

ROOT = Path(__file__).resolve().parent.parent
NEEDLESS = re.compile(
    r"(^|/)(tests?|testing)/|\.(c|cc|cpp|h|hpp|pxd|pyx|pxi)$|-nspkg\.pth$"
    r"|gevent/libuv/_corecffi\.|gevent/libev/_corecffi\.|gevent/resolver/cares\."
)
#: Regular packages are found before the namespace of that name that a server may have.
NAMESPACE = "zope/__init__.py"


class Wheel(NamedTuple):
    """One to put in, and the targets it is for."""

    name: str
    data: bytes
    targets: List[Target]

    @property
    def project(self) -> str:
        return self.name.split("-")[0].replace("_", ".")

    @property
    def pin(self) -> str:
        return "%s==%s" % (self.project, self.name.split("-")[1])

    def requirements(self) -> Iterator[str]:
        """A line for each target, in the words of PEP 508."""
        for target in self.targets:
            yield "%s; python_version == '%s' and platform_machine == '%s'" % (
                self.pin, target.dotted, target.machine)

    def files(self) -> Dict[str, bytes]:
        """What has to be unpacked; metadata and licences can stay inside."""
        return {path: data for path, data in archives.files_of(self.data)
                if ".dist-info/" not in path}


def all_wheels(own: Wheel, folder: Path, names: List[str]) -> List[Wheel]:
    """Ours, and those of the files that the lock names, downloaded to `folder`."""
    found = [from_source(folder / name) if name.endswith(".tar.gz") else slimmed(folder / name)
             for name in sorted(names)]
    chosen = [own] + choose(found)
    for target in TARGETS:
        check(target, chosen)
    return chosen


def choose(wheels: List[Wheel]) -> List[Wheel]:
    """Of several versions of a pure project each Python gets the newest that takes it."""
    taken: Dict[str, List[Target]] = {}
    for wheel in sorted(wheels, key=lowest_python, reverse=True):
        rivals = [each for each in wheels if each.project == wheel.project]
        mine = [target for target in targets_of(wheel)
                if not any(target in taken.get(rival.name, ()) for rival in rivals)]
        taken[wheel.name] = mine
    return [wheel._replace(targets=taken[wheel.name]) for wheel in wheels]


def targets_of(wheel: Wheel) -> List[Target]:
    python, _, platform = wheel.name[:-len(".whl")].split("-")[2:]
    if platform == "any":
        last = TOMLI_BEFORE if wheel.project == "tomli" else 1000
        return [target for target in TARGETS
                if lowest_python(wheel) <= int(target.version) < last]
    return [target for target in TARGETS
            if python == "cp" + target.version and platform.endswith(target.machine)]


def lowest_python(wheel: Wheel) -> int:
    """36 of `Requires-Python: >=3.6`, 0 where it says nothing about a Python 3."""
    for path, data in archives.files_of(wheel.data):
        if path.endswith(".dist-info/METADATA"):
            found = re.search(r"^Requires-Python:.*>=\s*3\.(\d+)", data.decode(), re.MULTILINE)
            return int("3" + found.group(1)) if found else 0
    raise ValueError("%s has no metadata" % wheel.name)


def check(target: Target, wheels: List[Wheel]) -> None:
    """Each package is there for it, once; ValueError."""
    needed = {"pupgevent", "docopt", *PACKAGES}
    if int(target.version) < TOMLI_BEFORE:
        needed.add("tomli")
    found = [wheel.project for wheel in wheels if target in wheel.targets]
    if sorted(found) != sorted(needed):
        raise ValueError("%s needs %s, the lock has %s" % (target, sorted(needed), sorted(found)))


def slimmed(path: Path) -> Wheel:
    """A downloaded wheel without what is not needed."""
    files = {name: elf.stripped(data) if elf.is_library(data) else data
             for name, data in archives.files_of(path.read_bytes()) if not NEEDLESS.search(name)}
    if any(name.startswith("zope/") for name in files):
        files[NAMESPACE] = b""
    return Wheel(path.name, archives.wheel_of(files), [])


def from_source(path: Path) -> Wheel:
    """A project of one module, of which there is no wheel, as a wheel; its set-up is not run."""
    project, version = path.name[:-len(".tar.gz")].split("-")
    with tarfile.open(str(path)) as archive:
        names = {"%s.py" % project: "", "PKG-INFO": "METADATA", "LICENSE-MIT": "LICENSE-MIT"}
        files = {}
        for name, place in names.items():
            member = archive.extractfile("%s-%s/%s" % (project, version, name))
            assert member is not None
            folder = "%s-%s.dist-info/" % (project, version) if place else ""
            files[folder + (place or name)] = member.read()
    return pure_wheel(project, version, files)


def own_wheel() -> Wheel:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(str(ROOT / "setup.cfg"), encoding="utf-8")
    package = setup["options"]["packages"]
    own = sorted([*ROOT.glob("*.py"), *ROOT.glob("page/*")])
    files = {"%s/%s" % (package, path.relative_to(ROOT)): path.read_bytes() for path in own}
    folder = "pupgevent-%s.dist-info/" % version()
    files[folder + "METADATA"] = (
        "Metadata-Version: 2.1\nName: pupgevent\nVersion: %s\nRequires-Python: %s\nLicense: MIT\n"
        % (version(), setup["options"]["python_requires"])).encode()
    files[folder + "LICENSE"] = (ROOT / "LICENSE").read_bytes()
    return pure_wheel("pupgevent", version(), files)._replace(targets=list(TARGETS))


def version() -> str:
    text = (ROOT / "pupgevent.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if found is None:
        raise ValueError("pupgevent.py tells no version")
    return found.group(1)


def pure_wheel(project: str, version: str, files: Dict[str, bytes]) -> Wheel:
    folder = "%s-%s.dist-info/" % (project, version)
    files[folder + "WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: pupgevent\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    files[folder + "RECORD"] = b""
    return Wheel("%s-%s-py3-none-any.whl" % (project, version), archives.wheel_of(files), [])
