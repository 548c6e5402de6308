"""Programs of others that tests run: where they are, and what follows when one is missing."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Optional

import pytest

#: Where .ci/run has npm install Deno.
NPM_FOLDER = Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")), "pupgevent-deno")

#: Debian's own programs, also where another Python or Node comes first on PATH.
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def tool(name: str) -> str:
    """Where it is. On a developer's machine it may be missing, in CI it may not."""
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    return path or missing(name)


def missing(name: str) -> str:
    """End the test that needs it."""
    message = "%s is not installed" % name
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
    raise AssertionError("not reached")


def needs_modules(python: str, *names: str) -> None:
    """That a Python has these modules."""
    done = subprocess.run([python, "-c", "import " + ", ".join(names)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, cwd="/", check=False, timeout=60)
    if done.returncode:
        missing("one of the Python modules %s" % ", ".join(names))


def find_deno() -> Optional[str]:
    """On PATH, or where .ci/run has put it. Without a network nobody has it: a test may skip."""
    packages = NPM_FOLDER / "node_modules" / "@deno"
    return shutil.which("deno") or next(map(str, packages.glob("linux-*/deno")), None)
