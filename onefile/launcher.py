"""The first thing that runs of the single file: unpack what this Python needs, once, and go.

PEX has built the file, and its own start-up is still in it (`PEX_INTERPRETER=1 ./pupgevent` is
a Python with all packages). For the command it is not taken: it unpacks the wheels twice over
and builds a virtual environment from them, which takes seconds, and where a server is in its
way it ends in a traceback. Here a manifest names each file that the running Python needs; what
is missing in the cache folder, or has another size, is written, each file whole by a rename. So
a first start, a start beside another first start, and a start after somebody has tidied up are
one and the same thing, and no lock is needed. Nothing is put into the environment, which the
children inherit.

This must compile on every Python that a server may call `python3`, or even `python`: it tells
the wrong ones so.
"""
# ruff: noqa: B904, UP
# Python 2 knows no `raise ... from`.

import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # by mypy; Python 2 has no such module
    from typing import Dict, List, Optional, Tuple  # noqa: F401

#: Names the build: versions of pupgevent side by side do not disturb each other.
BUILD = "@BUILD@"
SUPPORTED = "CPython 3.6 to 3.14 on Linux (x86-64, arm64) with glibc 2.17 or newer"
#: The newest Python 3 that there are wheels for.
NEWEST = 14
#: Tells over one exec which of them is tried, so that two do not hand the start to each other.
RETRIED = "PUPGEVENT_RETRIED"
#: Asks for what PEX itself has to offer.
PEX_REQUESTS = ("PEX_INTERPRETER", "PEX_MODULE", "PEX_SCRIPT", "PEX_TOOLS")


class Refusal(Exception):
    """Why it cannot start here: one line."""


def start():  # type: () -> int
    """Everything up to the command's own `main`; its exit code is returned."""
    folder = "its archive"
    try:
        folder = unpacked(archive_for_this_python())
        # A system's own `zope` namespace, set up by a .pth file, would hide the zope in here.
        sys.modules.pop("zope", None)
        sys.path[0] = folder
        from pupgevent_app.pupgevent import main

        return int(main())
    except ImportError as error:
        # A Python without zlib or ctypes, a system without libstdc++, a file that somebody has
        # changed.
        raise Refusal("cannot be loaded by %s from %s: %s" % (sys.executable, folder, error))


# Is this a Python that the file has wheels for?


def archive_for_this_python():  # type: () -> Archive
    """The wheels for this Python; else hand over to a better Python, else Refusal."""
    tried = os.environ.pop(RETRIED, "")
    below = int(tried) if tried.isdigit() else NEWEST + 1
    try:
        refuse_unknown_python()
        return Archive(target())
    except Refusal:
        if not os.environ.get("PUPGEVENT_PYTHON"):
            hand_over_to_a_better_python(below)
        raise


def refuse_unknown_python():  # type: () -> None
    name = "Python %s (%s)" % (sys.version.split()[0], sys.executable)
    if tuple(sys.version_info) < (3, 6):
        raise Refusal("%s is too old; it needs %s" % (name, SUPPORTED))
    if sys.implementation.name != "cpython":
        raise Refusal("%s is %s; it needs %s" % (name, sys.implementation.name, SUPPORTED))
    libc = libc_version()
    if libc is None:
        raise Refusal("the C library of this system is not glibc; it needs %s" % SUPPORTED)
    if libc < (2, 17):
        raise Refusal("glibc %d.%d of this system is too old; it needs %s" % (libc + (SUPPORTED,)))


def target():  # type: () -> str
    """Implementation, version, kind of build and machine: cpython-39-x86_64-linux-gnu."""
    from importlib.machinery import EXTENSION_SUFFIXES

    return EXTENSION_SUFFIXES[0].lstrip(".").rsplit(".", 1)[0]


def libc_version():  # type: () -> Optional[Tuple[int, int]]
    """(2, 31), or None where it is another C library than glibc."""
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION") or ""
        major, minor = text.split()[1].split(".")[:2]
        return int(major), int(minor)
    except (ValueError, OSError, AttributeError, IndexError):
        return None


def hand_over_to_a_better_python(below):  # type: (int) -> None
    """Become the newest of the supported Pythons on the PATH below 3.`below`; returns when there
    is none."""
    for minor in range(below - 1, 5, -1):
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
            python = os.path.join(folder, "python3.%d" % minor)
            if os.access(python, os.X_OK) and os.path.isfile(python) and runs(python):
                os.environ[RETRIED] = str(minor)
                os.execv(python, [python, "-Es"] + sys.argv)


def runs(python):  # type: (str) -> bool
    """pyenv and others leave a stand-in for versions that are not there."""
    import subprocess

    with open(os.devnull, "r+") as nowhere:
        try:
            return subprocess.call([python, "-Esc", ""], stdout=nowhere, stderr=nowhere) == 0
        except OSError:
            return False


# What has to lie in the cache folder


class Archive:
    """The wheels in this file for one target, and where each of their files goes."""

    def __init__(self, target):  # type: (str) -> None
        self._read = globals()["__loader__"].get_data
        try:
            manifest = self._read("manifests/%s.txt" % target).decode()
        except OSError:
            raise Refusal("Python %s (%s, %s) is not among those in this file; it needs %s"
                          % (sys.version.split()[0], sys.executable, target, SUPPORTED))
        #: (wheel, size, path) of each file.
        self.files = [line.split(" ", 2) for line in manifest.splitlines()]

    def missing(self, folder):  # type: (str) -> Dict[str, List[str]]
        """The files that are not in `folder` as they should be: {wheel: [path, ...]}."""
        found = {}  # type: Dict[str, List[str]]
        for wheel, size, path in self.files:
            try:
                if os.stat(folder + "/" + path).st_size == int(size):
                    continue
            except OSError:
                pass
            found.setdefault(wheel, []).append(path)
        return found

    def write(self, folder, missing):  # type: (str, Dict[str, List[str]]) -> None
        """Put these files there; OSError where that does not work."""
        import io
        import zipfile

        for wheel in sorted(missing):
            data = self._read(".deps/" + wheel)
            with zipfile.ZipFile(io.BytesIO(data)) as opened:
                for path in missing[wheel]:
                    write_whole(folder + "/" + path, opened.read(path))


def write_whole(path, data):  # type: (str, bytes) -> None
    """The file is there whole or not at all, whoever looks, whoever else writes it."""
    import tempfile

    parent, name = os.path.split(path)
    make(parent)
    if name.endswith(".py"):
        # Python would make it at the first import, as the umask of that moment has it.
        make(parent + "/__pycache__")
    # Two containers that share a cache have the same pids.
    descriptor, partial = tempfile.mkstemp(".new", name + ".", parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)
            file.write(data)
        os.rename(partial, path)
    except BaseException:
        try:
            os.unlink(partial)
        except OSError:
            pass
        raise


def make(folder):  # type: (str) -> None
    """Have it there; what is made is for everybody to read and for us to write, whatever the
    umask is: others run what they find in it."""
    if os.path.isdir(folder):
        return
    make(os.path.dirname(folder))
    try:
        os.mkdir(folder, 0o700)
    except OSError as error:
        if os.path.isdir(folder):
            return  # another start was quicker
        if error.errno == errno.EEXIST:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        raise
    else:
        os.chmod(folder, 0o755)


# Where the cache folder is


def unpacked(archive):  # type: (Archive) -> str
    """The folder with everything in it, from the first place that allows it; Refusal."""
    reasons = []
    for place in places():
        try:
            folder = os.path.join(place, BUILD + "-" + target())
            prepare(place, folder)
            missing = archive.missing(folder)
            if missing:
                archive.write(folder, missing)
            hold(place)
            return folder
        except (Refusal, OSError) as error:
            reasons.append("%s: %s" % (place, getattr(error, "strerror", None) or error))
    raise Refusal("no folder to unpack into (%s); PUPGEVENT_CACHE can name one"
                  % "; ".join(reasons))


def places():  # type: () -> List[str]
    """Cache folders in the order of preference; only the first when it was chosen by hand."""
    chosen = os.environ.get("PUPGEVENT_CACHE")
    if chosen:
        return [os.path.abspath(chosen)]
    found = []
    # systemd sets it for a unit with CacheDirectory=; several are parted by colons.
    service = os.environ.get("CACHE_DIRECTORY", "").split(":")[0]
    if os.path.isabs(service):
        found.append(os.path.join(service, "pupgevent"))
    # su and sudo may leave the folders of another user: not a place for root's own code.
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg) and is_mine(xdg):
        found.append(os.path.join(xdg, "pupgevent"))
    home = home_folder()
    if os.path.isabs(home) and is_mine(home):
        found.append(os.path.join(home, ".cache", "pupgevent"))
    # The folder without `cache` in its name is that of sockets and locks, closed to others.
    name = "pupgevent-cache-%d" % os.geteuid()
    return found + [for_all_in("/var/tmp", name), for_all_in("/tmp", name)]


def for_all_in(base, name):  # type: (str, str) -> str
    """A folder of ours where everybody may make one, so that anybody can be the first to take the
    name: then it is one whose name cannot be foreseen, found again by whose it is."""
    usual = os.path.join(base, name)
    if owner(usual) in (None, 0, os.geteuid()):
        return usual
    try:
        others = [os.path.join(base, each) for each in sorted(os.listdir(base))
                  if each.startswith(name + "-")]
    except OSError:
        return usual
    unforeseen = "%s-%016x" % (usual, int.from_bytes(os.urandom(8), "big"))
    return ([each for each in others if owner(each) == os.geteuid()] + [unforeseen])[0]


def owner(path):  # type: (str) -> Optional[int]
    """Of a link itself; None where there is nothing."""
    try:
        return os.lstat(path).st_uid
    except OSError:
        return None


def home_folder():  # type: () -> str
    try:
        return os.path.expanduser("~")
    except KeyError:  # before Python 3.8, where no user has this number
        return ""


def is_mine(path):  # type: (str) -> bool
    """One that is not there yet is whose the folder is that it will lie in."""
    try:
        if not os.path.lexists(path):
            path = os.path.dirname(path)
        return os.stat(path).st_uid == os.geteuid()
    except OSError:
        return False


def prepare(place, folder):  # type: (str, str) -> None
    """Make both folders unless they are there, and see that nobody else can write there."""
    make(folder)
    for each in (place, folder):
        # Neither the folder nor a link to it may be somebody else's; root's are trusted.
        owners = {os.lstat(each).st_uid, os.stat(each).st_uid}
        if not owners <= {0, os.geteuid()}:
            raise Refusal("belongs to another user")
        if os.stat(each).st_mode & 0o022:
            raise Refusal("others may write there")
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        raise Refusal("mounted noexec, no library can be loaded from there")


def hold(place):  # type: (str) -> None
    """systemd-tmpfiles passes over a folder that is locked: nothing of us goes while we run."""
    try:
        import fcntl

        opened = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        # Never closed, not inherited, and not in the place of a standard stream that is closed.
        descriptor = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 3)
        os.close(opened)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (ImportError, OSError):
        pass


def run_pex():  # type: () -> None
    """What PEX would have run had we not come first."""
    # PEX runs what it has unpacked, this file again: then it is no zip archive that we lie in.
    path = os.path.join(os.path.dirname(__file__), "__pex_main__.py")
    source = globals()["__loader__"].get_data(path)
    exec(compile(source, __file__, "exec"), globals())


def main():  # type: () -> int
    try:
        return start()
    except Refusal as refusal:
        sys.stderr.write("pupgevent: %s\n" % refusal)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    if any(os.environ.get(name) for name in PEX_REQUESTS) and sys.version_info >= (3, 6):
        run_pex()
    else:
        sys.exit(main())
