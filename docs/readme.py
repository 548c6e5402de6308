"""Fill in the generated parts of README.md and docs/architecture.md: `make readme`.

It also has manpage.py write the manual page, which is made from the README.

A generated part of the README is between `<!-- name -->` and `<!-- /name -->`. In the architecture
it is the first sentence of each module's docstring. tests/test_readme.py checks both.
"""

import ast
import os
import re
import sys
import textwrap
from typing import Dict

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
README = os.path.join(TOP, "README.md")
ARCHITECTURE = os.path.join(TOP, "docs", "architecture.md")

#: A row of the architecture: a module and its sentence.
ROW = re.compile(r"^\| `(\w+)\.py` \|.*\|$", re.MULTILINE)


def parts() -> Dict[str, str]:
    """The names of the generated parts, and their texts."""
    sys.path.insert(0, TOP)
    import keys
    import status_report
    import usage

    return {
        "commands": "```\n%s```" % usage.USAGE,
        "keys": keys.reference().strip(),
        "json": "```\n%s\n```" % textwrap.dedent(fields_of(status_report.__doc__ or "")).rstrip(),
    }


def fields_of(docstring: str) -> str:
    """The list in a docstring: everything from its first indented line on."""
    lines = docstring.splitlines(True)
    first = next(number for number, line in enumerate(lines) if line.startswith("    "))
    return "".join(lines[first:])


def fill_readme(readme: str) -> str:
    """The text of README.md with its generated parts; raises KeyError if it lacks one."""
    for name, text in parts().items():
        opening, closing = "<!-- %s -->" % name, "<!-- /%s -->" % name
        before, found, rest = readme.partition(opening)
        _, ended, after = rest.partition(closing)
        if not (found and ended):
            raise KeyError(name)
        readme = "%s%s\n%s\n%s%s" % (before, opening, text, closing, after)
    return readme


def fill_architecture(architecture: str) -> str:
    """The text of docs/architecture.md with the first sentence of each module."""
    return ROW.sub(
        lambda row: "| `%s.py` | %s |" % (row.group(1), sentence(row.group(1))), architecture)


def sentence(module: str) -> str:
    """The first line of a module's docstring."""
    with open(os.path.join(TOP, module + ".py"), encoding="utf-8") as file:
        return (ast.get_docstring(ast.parse(file.read())) or "").partition("\n")[0]


def main() -> None:
    for path, fill in ((README, fill_readme), (ARCHITECTURE, fill_architecture)):
        with open(path, encoding="utf-8") as file:
            text = fill(file.read())
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    # It imports this module, for what both need.
    import manpage

    manpage.main()


if __name__ == "__main__":
    main()
