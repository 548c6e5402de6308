"""Build dist/pupgevent: one file for every Python, with PEX, from the wheels of the lock file.

    python -m onefile.build [--check] OUTPUT

PEX puts wheels, entry point and its own start-up together. Then the archive is written once more:
our start-up in front (launcher.py says why), a shell's few lines before all of it, a manifest for
each Python. --check builds it a second time, elsewhere and from nothing but the downloads and
the sources, and compares.
"""

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

from pex.dist_metadata import Distribution
from pex.pex_builder import PEXBuilder

from onefile import archives, fetch, wheels
from onefile.steps import step
from onefile.targets import TARGETS
from onefile.wheels import ROOT, Wheel

HERE = Path(__file__).resolve().parent
#: Where downloads are kept between two builds.
DOWNLOADS = ROOT / "build" / "wheels"
LAUNCHER, PEX_START = "__main__.py", "__pex_main__.py"
#: What is not compressed: wheels are already.
PLAIN = (LAUNCHER, ".txt", ".whl")


def build(own: Wheel, output: Path) -> None:
    names = sorted(fetch.read_lock())
    step("taking what no server needs out of %d wheels" % len(names))
    parts = wheels.all_wheels(own, DOWNLOADS, names)
    with tempfile.TemporaryDirectory() as folder:
        step("PEX puts %d wheels together" % len(parts))
        made = run_pex(parts, Path(folder))
        step("writing the archive once more, with our start-up in front")
        data = single_file(made.read_bytes(), parts)
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(output.name + ".new")
    beside.write_bytes(data)
    beside.chmod(0o755)
    beside.replace(output)


def run_pex(parts: List[Wheel], folder: Path) -> Path:
    """What PEX makes of these wheels. There is nothing to resolve: the lock tells every file."""
    builder = PEXBuilder()
    for part in parts:
        path = folder / part.name
        path.write_bytes(part.data)
        builder.add_distribution(Distribution.load(str(path)))
        for requirement in part.requirements():
            builder.add_requirement(requirement)
    builder.set_entry_point("pupgevent_app.pupgevent:main")
    builder.set_shebang("/usr/bin/env python3")
    info = builder.info
    info.deps_are_wheel_files = True
    info.venv = info.venv_site_packages_copies = info.includes_tools = True
    # zope asks for it in its metadata, for a way to be a namespace that is not taken here.
    info.add_exclude("setuptools")
    output = folder / "made.pex"
    builder.build(str(output), bytecode_compile=False, deterministic=True, compress=False)
    return output


def single_file(pex: bytes, parts: List[Wheel]) -> bytes:
    """The archive again, in an order and with times of our own, and what goes in front of it."""
    files = dict(archives.files_of(pex))
    files[PEX_START] = files.pop(LAUNCHER)
    missing = {".deps/" + part.name for part in parts} - set(files)
    if missing:
        sys.exit("pex left out %s" % ", ".join(sorted(missing)))
    for target in TARGETS:
        chosen = [part for part in parts if target in part.targets]
        files["manifests/%s.txt" % target.manifest] = manifest(chosen)
    launcher = (HERE / "launcher.py").read_text(encoding="utf-8")
    stamp = "%s-%s" % (wheels.version(), digest_of_all(files)[:12])
    files[LAUNCHER] = launcher.replace("@BUILD@", stamp).encode()
    # A Python without zlib can still run the launcher, which tells it what it lacks.
    entries = [(name, files[name], not name.endswith(PLAIN))
               for name in sorted(files, key=lambda name: (name != LAUNCHER, name))]
    return archives.behind((HERE / "launcher.sh").read_bytes(), entries)


def manifest(parts: List[Wheel]) -> bytes:
    """A line for each file to unpack: wheel, size, path."""
    lines: Dict[str, str] = {}
    for part in parts:
        for path, data in part.files().items():
            lines[path] = "%s %d %s\n" % (part.name, len(data), path)
    return "".join(lines[path] for path in sorted(lines)).encode()


def digest_of_all(files: archives.Files) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(("%s %d\n" % (name, len(files[name]))).encode() + files[name])
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description="Build dist/pupgevent.")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("output", type=Path)
    told = parser.parse_args()
    if sys.version_info < (3, 8):
        sys.exit("the build needs Python 3.8 or newer")
    fetch.fetch(DOWNLOADS)
    own = wheels.own_wheel()
    build(own, told.output)
    digest = fetch.digest_of(told.output)
    size = told.output.stat().st_size / 1e6
    print("%s: %.1f MB, SHA-256 %s" % (told.output, size, digest), flush=True)
    if told.check:
        step("building it again, to compare")
        with tempfile.TemporaryDirectory() as folder:
            again = Path(folder) / "pupgevent"
            build(own, again)
            if fetch.digest_of(again) != digest:
                sys.exit("built again it is another: SHA-256 %s" % fetch.digest_of(again))
        print("built again: the same, byte for byte")


if __name__ == "__main__":
    main()
