"""Programs of others that tests run: where they are, and what follows when one is missing."""

import os
import shutil
import subprocess

import pytest


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
