"""The single file on servers that are in its way. `make smoke` runs this, on what it has built."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Tuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "dist" / "pupgevent"
#: For those who may not enter our folders.
SYSTEM_PYTHON = "/usr/bin/python3"
#: An ordinary user without a name and without a home.
NOBODY = 54321
#: Where the file is unpacked for them, in /var/tmp or /tmp.
CACHE = "pupgevent-cache-%d" % NOBODY
VARIABLES = ("PUPGEVENT_PYTHON", "PUPGEVENT_CACHE", "CACHE_DIRECTORY", "XDG_CACHE_HOME", "HOME")


def is_up_to_date() -> bool:
    sources = [*ROOT.glob("*.py"), *ROOT.glob("onefile/*")]
    return FILE.exists() and all(
        path.stat().st_mtime <= FILE.stat().st_mtime for path in sources if path.is_file())


pytestmark = pytest.mark.skipif(not is_up_to_date(), reason="make dist builds it (anew)")

Told = Tuple[int, str, str]

#: Starts twice; then how many folders were made beside a name that another has, and what is there.
TWICE = "/mnt/pupgevent --version && /mnt/pupgevent --version && " \
    "echo $(ls -d /var/tmp/%s-* | wc -l) $(ls /var/tmp/%s/ | wc -l)" % (CACHE, CACHE)


@pytest.fixture
def python() -> str:
    return sys.executable


def may_unshare() -> bool:
    """May we make a mount namespace, and is there a Python that everybody can run?"""
    able = shutil.which("unshare") and shutil.which("setpriv") and os.path.exists(SYSTEM_PYTHON)
    return bool(able) and subprocess.run(
        ["unshare", "--mount", "mount", "--make-rprivate", "/"], check=False,
        stderr=subprocess.DEVNULL).returncode == 0


needs_mounts = pytest.mark.skipif(not may_unshare(), reason="only root can mount")


def run(*words: str, **environment: str) -> Told:
    """The file with these words: exit code and both outputs."""
    env = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    env.update(environment)
    return told_by([str(FILE), *words], env)


def told_by(command: List[str], env: Dict[str, str]) -> Told:
    done = subprocess.run(command, env=env, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=40)
    return done.returncode, done.stdout, done.stderr


def on_server(folder: Path, options: str, preparation: str, *command: str) -> Told:
    """As a user without a home, where /tmp and /var/tmp are mounted anew with these options."""
    shutil.copy2(str(FILE), str(folder))
    script = """
        set -e
        mount --make-rprivate /
        mount --bind %s /mnt
        for place in /tmp /var/tmp; do mount -t tmpfs -o mode=1777,%s none $place; done
        cd /
        %s
        exec setpriv --reuid %d --regid %d --clear-groups env -i PATH=/usr/bin:/bin "$@"
    """ % (folder, options, preparation, NOBODY, NOBODY)
    words = ["unshare", "--mount", "sh", "-c", script, "sh", *(command or ("/mnt/pupgevent",))]
    return told_by([*words, "--version"] if not command else words, dict(os.environ))


@pytest.fixture
def server(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


def is_one_line(text: str) -> bool:
    return text.startswith("pupgevent: ") and text.count("\n") == 1 and text.endswith("\n")


def is_fine(told: Told) -> bool:
    return told[0] == 0 and told[1].startswith("pupgevent ") and told[2] == ""


def is_refused(told: Told, *words: str) -> bool:
    code, out, err = told
    return code == 1 and out == "" and is_one_line(err) and all(word in err for word in words)


def unpacked(cache: Path) -> List[Path]:
    return sorted(path for path in cache.glob("**/*")
                  if path.is_file() and "__pycache__" not in path.parts)


def test_version_names_pythons_and_the_packages_own(tmp_path: Path, python: str) -> None:
    told = run("--version", PUPGEVENT_PYTHON=python, PUPGEVENT_CACHE=str(tmp_path))
    assert is_fine(told)
    assert "Python %d.%d." % sys.version_info[:2] in told[1]
    assert "gevent" in told[1] and "greenlet" in told[1]


def test_usage_errors_keep_their_exit_code(tmp_path: Path, python: str) -> None:
    assert run("--he", PUPGEVENT_PYTHON=python, PUPGEVENT_CACHE=str(tmp_path))[0] == 2


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_its_completion_asks_the_file(tmp_path: Path, python: str) -> None:
    where = {"PUPGEVENT_PYTHON": python, "PUPGEVENT_CACHE": str(tmp_path)}
    code, script, errors = run("completion", "bash", **where)
    assert (code, errors) == (0, "")
    (tmp_path / "app.json").write_text('{"processes": [{"id": "job", "cmd": "true"}]}')
    asked = "%s\n_pupgevent_ask PROCESS -- %s/app.json" % (script, tmp_path)
    assert told_by(["bash", "-c", asked], dict(os.environ, **where)) == (0, "job\nall\n", "")


def test_cache_lies_in_the_home_folder(tmp_path: Path, python: str) -> None:
    assert is_fine(run("--version", PUPGEVENT_PYTHON=python, HOME=str(tmp_path)))
    assert (tmp_path / ".cache" / "pupgevent").is_dir()


def test_cache_lies_where_systemd_says(tmp_path: Path, python: str) -> None:
    assert is_fine(run("--version", PUPGEVENT_PYTHON=python, CACHE_DIRECTORY=str(tmp_path)))
    assert unpacked(tmp_path / "pupgevent")


def test_half_deleted_cache_is_repaired(tmp_path: Path, python: str) -> None:
    where = {"PUPGEVENT_PYTHON": python, "PUPGEVENT_CACHE": str(tmp_path)}
    assert is_fine(run("--version", **where))
    whole = unpacked(tmp_path)
    sizes = [path.stat().st_size for path in whole]
    for path in whole[::2]:
        path.unlink()
    for path in whole[1::4]:
        os.truncate(str(path), path.stat().st_size // 2)
    shutil.rmtree(str(whole[-1].parent), ignore_errors=True)
    assert is_fine(run("--version", **where))
    assert unpacked(tmp_path) == whole
    assert [path.stat().st_size for path in whole] == sizes


def test_library_that_cannot_be_loaded_gets_one_line(tmp_path: Path, python: str) -> None:
    where = {"PUPGEVENT_PYTHON": python, "PUPGEVENT_CACHE": str(tmp_path)}
    assert is_fine(run("--version", **where))
    for library in tmp_path.glob("*/greenlet/*.so"):
        library.write_bytes(b"\0" * library.stat().st_size)
    assert is_refused(run("--version", **where), str(tmp_path), "_greenlet")


def test_two_first_starts_at_once_do_not_disturb_each_other(tmp_path: Path, python: str) -> None:
    env = dict(os.environ, PUPGEVENT_PYTHON=python, PUPGEVENT_CACHE=str(tmp_path))
    started = [subprocess.Popen([str(FILE), "--version"], env=env, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE) for _ in range(4)]
    outputs = {process.communicate(timeout=40) for process in started}
    assert [process.returncode for process in started] == [0] * 4
    assert len(outputs) == 1
    assert [path for path in unpacked(tmp_path) if path.suffix == ".new"] == []


def test_folder_that_is_none_gets_one_line(python: str) -> None:
    for place, reason in (("/etc/passwd", "Not a directory"), ("/proc/none", "No such file")):
        told = run("--version", PUPGEVENT_PYTHON=python, PUPGEVENT_CACHE=place)
        assert is_refused(told, place, reason, "PUPGEVENT_CACHE")


def test_folder_that_others_may_write_to_is_refused(tmp_path: Path, python: str) -> None:
    tmp_path.chmod(0o777)
    told = run("--version", PUPGEVENT_PYTHON=python, PUPGEVENT_CACHE=str(tmp_path))
    assert is_refused(told, "others may write there")


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_what_is_unpacked_is_for_all_to_read_and_for_one_to_write(
    tmp_path: Path, python: str, umask: int
) -> None:
    """Whatever the umask is: what is in there is run."""
    before = os.umask(umask)
    try:
        assert is_fine(run("--version", HOME=str(tmp_path), PUPGEVENT_PYTHON=python))
    finally:
        os.umask(before)
    cache = tmp_path / ".cache"
    odd = {str(path): oct(path.stat().st_mode) for path in [cache, *cache.glob("**/*")]
           if path.stat().st_mode & 0o022 or (path.stat().st_mode & 0o055 != 0o055
                                              and path.is_dir())}
    assert odd == {}


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_matter(
    tmp_path: Path, python: str, closed: str
) -> None:
    env = {"HOME": str(tmp_path), "PATH": os.defpath, "PUPGEVENT_PYTHON": python}
    shell = '"$0" --version %s; first=$?; "$0" nowhere.toml %s; echo $first $?'
    told = told_by(["/bin/sh", "-c", shell % (closed, closed), str(FILE)], env)
    assert told[1].splitlines()[-1] == "0 2"
    assert "Traceback" not in told[2]


def test_python_that_is_not_there_gets_one_line() -> None:
    assert is_refused(run("--version", PUPGEVENT_PYTHON="python9"), "python9")


def test_no_python_at_all_gets_one_line(tmp_path: Path) -> None:
    assert is_refused(told_by([str(FILE), "--version"], {"PATH": str(tmp_path)}), "no python3")


def old_python() -> str:
    found = sorted(Path.home().glob(".pyenv/versions/2.7.*/bin/python2.7"))
    return str(found[0]) if found else shutil.which("python2.7") or ""


@pytest.mark.skipif(not old_python(), reason="there is no Python 2.7")
def test_python_that_is_too_old_gets_one_line(tmp_path: Path) -> None:
    told = run("--version", PUPGEVENT_PYTHON=old_python())
    assert is_refused(told, "Python 2.7", "too old", "CPython 3.6 to 3.14")
    (tmp_path / "python3").symlink_to(old_python())
    assert is_refused(run("--version", PATH=str(tmp_path)), "too old")


@pytest.mark.skipif(not old_python(), reason="there is no Python 2.7")
def test_better_python_on_the_path_takes_over(tmp_path: Path) -> None:
    """And a stand-in for a better one still, as pyenv leaves them, does not."""
    (tmp_path / "python3").symlink_to(old_python())
    scripts = {14: "exit 127", sys.version_info[1]: 'exec %s "$@"' % sys.executable}
    for minor, script in scripts.items():
        program = tmp_path / ("python3.%d" % minor)
        program.write_text("#!/bin/sh\n%s\n" % script)
        program.chmod(0o755)
    assert is_fine(run("--version", PATH=str(tmp_path), PUPGEVENT_CACHE=str(tmp_path / "cache")))


def test_pex_itself_is_still_in_the_file(tmp_path: Path, python: str) -> None:
    code, out, err = run("-c", "import gevent; print(gevent.__file__)", PUPGEVENT_PYTHON=python,
                         PEX_INTERPRETER="1", PEX_ROOT=str(tmp_path))
    assert (code, err) == (0, "")
    assert out.startswith(str(tmp_path))


def test_environment_has_nothing_new(tmp_path: Path, python: str) -> None:
    config = tmp_path / "app.toml"
    config.write_text('[[processes]]\nid = "a"\nautostart = true\nessential = true\n'
                      'restart = "never"\ncmd = "env; exit 1"\n')
    # An essential process that fails ends everything.
    told = run(str(config), PUPGEVENT_PYTHON=python, PUPGEVENT_CACHE=str(tmp_path / "c"))
    names = {line.split("] ", 1)[-1].rsplit("]", 1)[-1].split("=", 1)[0].strip()
             for line in told[1].splitlines() if "[stdout]" in line}
    assert "PUP_PROCESS_ID" in names
    assert names <= set(os.environ) | {
        "PUP_PROCESS_ID", "PUPGEVENT_PYTHON", "PUPGEVENT_CACHE", "PWD", "SHLVL", "_"}


def test_exported_unit_runs_the_file_with_this_python(tmp_path: Path, python: str) -> None:
    config = tmp_path / "app.toml"
    config.write_text('[[processes]]\nid = "a"\ncmd = "true"\n')
    told = run("export", "systemd", str(config), PUPGEVENT_PYTHON=python,
               PUPGEVENT_CACHE=str(tmp_path / "cache"))
    assert told[0] == 0, told[2]
    lines = told[1].splitlines()
    assert "ExecStart=%s %s" % (FILE, config.resolve()) in lines
    # Where systemd's own search for a python3 ends at this one, there is nothing to say.
    found = shutil.which("python3", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin")
    is_found = found is not None and os.path.samefile(found, python)
    assert ("Environment=PUPGEVENT_PYTHON=" + python in lines) is not is_found
    assert "CacheDirectory=pupgevent-%N" in lines


@needs_mounts
def test_user_without_a_home_gets_a_folder_of_their_own(server: Path) -> None:
    told = on_server(server, "size=64m", "", "sh", "-c",
                     "/mnt/pupgevent --version && stat -c '%u %a' /var/tmp/" + CACHE)
    assert told[0] == 0, told[2]
    assert told[1].endswith("%d 755\n" % NOBODY)


@needs_mounts
def test_home_that_cannot_be_written_is_passed_over(server: Path) -> None:
    home = "mkdir /tmp/home; mount -t tmpfs -o ro,uid=%d none /tmp/home" % NOBODY
    told = on_server(server, "size=64m", home, "sh", "-c",
                     "HOME=/tmp/home /mnt/pupgevent --version && ls /var/tmp")
    assert told[0] == 0, told[2]
    assert told[1].endswith(CACHE + "\n")


@needs_mounts
def test_commands_work_where_only_tmp_can_be_written(server: Path) -> None:
    """The cache and the control socket both lie there."""
    told = on_server(server, "size=64m", "mount -o remount,ro /var/tmp", "sh", "-c", """
        echo '{"processes": [{"id": "job", "cmd": "sleep 60", "autostart": true,
               "minUptimeMs": 0}]}' >/tmp/a.json
        timeout 30 /mnt/pupgevent /tmp/a.json >/tmp/log 2>&1 &
        until /mnt/pupgevent status /tmp/a.json 2>/tmp/err || ! kill -0 $!; do sleep 0.05; done
        /mnt/pupgevent shutdown /tmp/a.json && wait $! && ! grep warning /tmp/log
    """)
    assert told[0] == 0, told
    assert "job running" in told[1] and told[1].endswith("stopped\n")


@needs_mounts
def test_noexec_everywhere_gets_one_line(server: Path) -> None:
    assert is_refused(on_server(server, "noexec", ""), "noexec", "PUPGEVENT_CACHE")


@needs_mounts
def test_full_disk_gets_one_line_and_no_partial_file(server: Path) -> None:
    told = on_server(server, "size=1m", "", "sh", "-c",
                     "/mnt/pupgevent --version; code=$?; find /tmp /var/tmp -name '*.new'; "
                     "exit $code")
    assert is_refused(told, "No space left on device", "PUPGEVENT_CACHE")


@needs_mounts
def test_folders_of_other_users_are_not_trusted(server: Path) -> None:
    theirs = "for place in /tmp /var/tmp; do install -d -o 99 -m 777 $place/%s; done"
    told = on_server(server, "size=64m", theirs % CACHE, "sh", "-c", TWICE)
    assert told[0] == 0, told
    assert told[1].endswith("1 0\n")


@needs_mounts
def test_links_of_other_users_are_not_trusted(server: Path) -> None:
    link = "install -d -o %d /tmp/x; for place in /tmp /var/tmp; do " % NOBODY
    link += "ln -s /tmp/x $place/%s; chown -h 99 $place/%s; done" % (CACHE, CACHE)
    told = on_server(server, "size=64m", link, "sh", "-c", TWICE)
    assert told[0] == 0, told
    assert told[1].endswith("1 0\n")


@needs_mounts
def test_root_does_not_use_the_home_of_the_user_who_called_sudo(server: Path) -> None:
    home = server / "home"
    home.mkdir()
    shutil.chown(str(home), NOBODY)
    script = "mount --make-rprivate / && mount -t tmpfs none /var/tmp && exec %s --version" % FILE
    env = {"PATH": os.defpath, "HOME": str(home), "PUPGEVENT_PYTHON": sys.executable}
    assert is_fine(told_by(["unshare", "--mount", "sh", "-c", script], env))
    assert list(home.iterdir()) == []


@needs_mounts
def test_what_root_has_unpacked_serves_everybody(server: Path) -> None:
    cache = server / "cache"
    assert is_fine(run("--version", PUPGEVENT_PYTHON=SYSTEM_PYTHON, PUPGEVENT_CACHE=str(cache)))
    told = on_server(server, "size=64m", "", "env", "PUPGEVENT_CACHE=/mnt/cache",
                     "PUPGEVENT_PYTHON=" + SYSTEM_PYTHON, "/mnt/pupgevent", "--version")
    assert is_fine(told), told
