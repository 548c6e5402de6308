"""Which Pythons the single file carries wheels for, and by what names pip, PEX and they call it."""

from typing import Dict, List, NamedTuple, Tuple

#: For each Python what holds its packages back: the newest gevent with wheels for glibc 2.17.
PINS: Dict[str, Dict[str, str]] = {
    "36": {"gevent": "22.10.2"},
    "37": {"gevent": "22.10.2"},
    "38": {"gevent": "24.2.1"},
    "39": {},
    "310": {},
    "311": {},
    "312": {},
    "313": {},
    "314": {},
}

#: 22.10.2 is the newest gevent with a wheel for arm64 and these.
ARM_PINS = {"38": {"gevent": "22.10.2"}, "39": {"gevent": "22.10.2"}}

MACHINES = ("x86_64", "aarch64")
PACKAGES = ("gevent", "greenlet", "zope.interface", "zope.event", "toml")
#: Python's own from 3.11.
TOMLI_BEFORE = 311
#: It comes without a wheel; what it consists of is a single module.
SOURCES = ("docopt==0.6.2",)


class Target(NamedTuple):
    """One build of CPython."""

    #: "36", "311"
    version: str
    machine: str

    @property
    def abi(self) -> str:
        return "cp%s%s" % (self.version, "m" if int(self.version) < 38 else "")

    @property
    def dotted(self) -> str:
        return "3.%s" % self.version[1:]

    @property
    def pex_platform(self) -> str:
        return "manylinux2014_%s-cp-%s-%s" % (self.machine, self.version, self.abi)

    @property
    def manifest(self) -> str:
        """As that Python calls it in the names of its extension modules."""
        return "cpython-%s-%s-linux-gnu" % (self.abi[2:], self.machine)

    def requirements(self) -> List[str]:
        """What to ask an index for when the lock is made anew."""
        pins = dict(PINS[self.version])
        if self.machine == "aarch64":
            pins.update(ARM_PINS.get(self.version, {}))
        names = PACKAGES + (("tomli",) if int(self.version) < TOMLI_BEFORE else ())
        return ["%s==%s" % (name, pins[name]) if name in pins else name for name in names]


TARGETS: Tuple[Target, ...] = tuple(
    Target(version, machine) for machine in MACHINES for version in PINS
)


def platforms(machine: str) -> List[str]:
    """Wheels for glibc 2.17 or older, in all ways to say so."""
    older = ("manylinux2010", "manylinux_2_12", "manylinux1", "manylinux_2_5")
    names = ("manylinux2014", "manylinux_2_17") + (older if machine == "x86_64" else ())
    return ["%s_%s" % (name, machine) for name in names]
