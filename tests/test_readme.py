"""The generated parts of the documents are up to date, and their examples and links are right."""

import os
import re
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "docs"))

import readme  # noqa: E402


def text_of(*path: str) -> str:
    with open(os.path.join(TOP, *path), encoding="utf-8") as file:
        return file.read()


def test_commands_and_keys_stand_in_the_readme_as_they_stand_in_the_code() -> None:
    current = text_of("README.md")
    assert readme.fill_readme(current) == current, "make readme brings it up to date"


def test_modules_stand_in_the_architecture_with_their_own_words() -> None:
    current = text_of("docs", "architecture.md")
    assert readme.fill_architecture(current) == current, "make readme brings it up to date"


def test_the_example_of_the_readme_is_the_demonstration() -> None:
    example = re.findall(r"```toml\n(.*?)```", text_of("README.md"), re.S)[0]
    lines = [line for line in example.splitlines() if line and not line.startswith("#")]
    demonstration = text_of("conf", "app.toml")
    assert lines
    for line in lines:
        assert line in demonstration


def test_every_file_that_the_readme_links_to_exists() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", text_of("README.md"))
    assert targets
    for target in targets:
        assert os.path.exists(os.path.join(TOP, target)), target
