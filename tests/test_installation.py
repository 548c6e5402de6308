"""What pip installs: one folder of our own, beside whatever else is there."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Dict, List

import pytest

from conftest import ROOT, eventually

PAGE = "docs/pupgevent.1"
#: What a wheel is built from.
PAGE_FILES = [str(path.relative_to(ROOT)) for path in ROOT.glob("page/*")]
SOURCES = [path.name for path in ROOT.glob("*.py")] + PAGE_FILES + [
    "setup.cfg", "pyproject.toml", "README.md", "LICENSE", PAGE]
#: Below the environment's folder, where `man` looks for the page of a command in its `bin`.
INSTALLED_PAGE = "share/man/man1/pupgevent.1"

#: Modules that others install, or keep on their PYTHONPATH, under names that are also ours.
STRANGERS = ("supervisor", "errors", "status")

STRANGER = "NAME = 'the stranger'\n"

#: A child finds what the operator's PYTHONPATH says, and nothing of ours.
CHILD = """
import errors, supervisor, os
try:
    import pupgevent
    print("finds pupgevent", flush=True)
except ImportError:
    print(errors.NAME, supervisor.NAME, os.environ["PYTHONPATH"], flush=True)
import time
time.sleep(600)
"""

CONFIG = """
[[processes]]
id = "job"
cmd = ["{python}", "-c", '''{child}''']
autostart = true
minUptimeMs = 0
"""


def pip(*words: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *words],
        cwd=str(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
        timeout=300, check=False)
    assert done.returncode == 0, done.stdout


def copy_sources(folder: Path) -> Path:
    """A copy, so that nothing that an earlier build has left can get into what is built."""
    for name in SOURCES:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(str(ROOT / name), str(folder / name))
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: Any) -> Path:
    folder = copy_sources(tmp_path_factory.mktemp("wheel"))
    pip("wheel", "--no-deps", "--wheel-dir", "made", ".", folder=folder)
    made: Path
    made, = (folder / "made").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: Any) -> Path:
    """The wheel installed beside strangers."""
    site: Path = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--target", str(site), str(wheel), folder=site)
    for name in STRANGERS:
        (site / (name + ".py")).write_text(STRANGER)
    return site


def environment(site: Path) -> Dict[str, str]:
    """As an operator has it who sets PYTHONPATH for the applications."""
    return dict(os.environ, PYTHONPATH=str(site))


def run(site: Path, *words: str, folder: Path) -> str:
    """The installed command; what it prints."""
    done = subprocess.run(
        [sys.executable, str(site / "bin" / "pupgevent"), *words], env=environment(site),
        cwd=str(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
        timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_but_the_manual_page_is_installed_into_one_folder(wheel: Path) -> None:
    """So an uninstall of another package takes nothing away, and ours nothing of another's."""
    with zipfile.ZipFile(str(wheel)) as archive:
        names = archive.namelist()
    project = wheel.name.rpartition("-py3")[0]
    metadata = project + ".dist-info/"
    assert sorted(name for name in names if not name.startswith(metadata)) == sorted(
        ["pupgevent_app/" + name for name in [*own_modules(), *PAGE_FILES]]
        + ["%s.data/data/%s" % (project, INSTALLED_PAGE)])


def test_man_finds_the_page_of_the_command_on_the_path(site: Path) -> None:
    """As of a virtual environment that has been activated."""
    assert (site / INSTALLED_PAGE).read_bytes() == (ROOT / PAGE).read_bytes()
    if shutil.which("man") is None:
        pytest.skip("no man here")
    path = "%s:%s" % (site / "bin", os.environ["PATH"])
    done = subprocess.run(
        ["man", "--where", "pupgevent"], env=dict(os.environ, PATH=path, MANPATH=""),
        stdout=subprocess.PIPE, universal_newlines=True, timeout=60, check=False)
    assert done.stdout == "%s\n" % (site / INSTALLED_PAGE)


def test_a_wheel_can_be_built_from_the_sdist(tmp_path: Path) -> None:
    """What is needed for that is in it: the page, too."""
    setuptools = pytest.importorskip("setuptools", minversion="46.4")
    done = subprocess.run(
        [sys.executable, "-c", "from setuptools import build_meta; build_meta.build_sdist('made')"],
        cwd=str(copy_sources(tmp_path)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=300, check=False)
    assert done.returncode == 0, (setuptools.__version__, done.stdout)
    made, = (tmp_path / "made").glob("*.tar.gz")
    with tarfile.open(str(made)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert set(SOURCES) <= names


def own_modules() -> List[str]:
    return [path.name for path in ROOT.glob("*.py")]


def test_the_names_of_the_strangers_are_ours_too() -> None:
    assert {name + ".py" for name in STRANGERS} <= set(own_modules())


def test_no_module_hides_one_of_pythons_own() -> None:
    """Our folder comes first on the path of the command, before the standard library."""
    library = Path(os.__file__).parent
    taken = [name for name in own_modules() if (library / name).exists() or (
        library / name[:-3]).is_dir() or name[:-3] in sys.builtin_module_names]
    assert taken == []


def test_the_command_runs_beside_modules_of_the_same_names(site: Path, tmp_path: Path) -> None:
    assert run(site, "--version", folder=tmp_path).startswith("pupgevent ")
    config = tmp_path / "app.toml"
    config.write_text(CONFIG.format(python=sys.executable, child=CHILD))
    assert run(site, "check", str(config), folder=tmp_path) == "job\n"
    with open(str(tmp_path / "output"), "wb") as output:
        child = subprocess.Popen(
            [sys.executable, str(site / "bin" / "pupgevent"), str(config)],
            env=environment(site), cwd=str(tmp_path), stdout=output, stderr=output)
    try:
        told = "[job][stdout] the stranger the stranger %s\n" % site
        eventually(lambda: told in (tmp_path / "output").read_text(),
                   message="the child finds what PYTHONPATH says")
        assert "job running" in " ".join(run(
            site, "status", str(config), folder=tmp_path).split())
        assert run(site, "shutdown", str(config), folder=tmp_path) == "stopped\n"
        assert child.wait(60) == 0
    finally:
        child.kill()
        child.wait()


def test_a_large_file_is_read_again_beside_them(site: Path, tmp_path: Path) -> None:
    """By a process of its own, which has to find our modules as the command has."""
    config = tmp_path / "app.toml"
    config.write_text("#" * 100000 + CONFIG.format(python=sys.executable, child=CHILD))
    code = (
        "import sys; from pupgevent_app import pupgevent; import background_loader;"
        "print(background_loader.load_in_process(sys.argv[1]).name)")
    done = subprocess.run(
        [sys.executable, "-c", code, str(config)], env=environment(site), cwd=str(tmp_path),
        stdout=subprocess.PIPE, universal_newlines=True, timeout=60, check=False)
    assert done.stdout == "app\n"


def test_it_can_be_run_as_a_module_in_any_folder(site: Path, tmp_path: Path) -> None:
    (tmp_path / "errors.py").write_text(STRANGER)
    done = subprocess.run(
        [sys.executable, "-m", "pupgevent_app.pupgevent", "--version"], env=environment(site),
        cwd=str(tmp_path), stdout=subprocess.PIPE, universal_newlines=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("pupgevent ")


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_its_completion_asks_the_installed_command(site: Path, tmp_path: Path) -> None:
    (tmp_path / "app.toml").write_text(CONFIG.format(python=sys.executable, child=CHILD))
    script = run(site, "completion", "bash", folder=tmp_path)
    done = subprocess.run(
        ["bash", "-c", script + "\n_pupgevent_ask PROCESS -- app.toml"], env=environment(site),
        cwd=str(tmp_path), stdout=subprocess.PIPE, universal_newlines=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "job\nall\n")
