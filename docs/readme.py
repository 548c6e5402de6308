"""Fill the parts of README.md and docs/architecture.md that are told elsewhere: `make readme`.

A part of the README stands between `<!-- name -->` and `<!-- /name -->`; of the architecture it is
what each module says of itself. The tests hold them equal to their sources, so that nothing is told
in two ways.
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
    """Each part's name and its text."""
    sys.path.insert(0, TOP)
    import cli
    import keys
    import status

    return {
        "commands": "```\n%s```" % cli.USAGE,
        "keys": keys.reference().strip(),
        "json": "```\n%s\n```" % textwrap.dedent(fields_of(status.__doc__ or "")).rstrip(),
    }


def fields_of(docstring: str) -> str:
    """The list in it: all from its first indented line on."""
    lines = docstring.splitlines(True)
    first = next(number for number, line in enumerate(lines) if line.startswith("    "))
    return "".join(lines[first:])


def filled(readme: str) -> str:
    """The text of README.md with every part as its source has it; KeyError: it has no such part."""
    for name, text in parts().items():
        opening, closing = "<!-- %s -->" % name, "<!-- /%s -->" % name
        before, found, rest = readme.partition(opening)
        _, ended, after = rest.partition(closing)
        if not (found and ended):
            raise KeyError(name)
        readme = "%s%s\n%s\n%s%s" % (before, opening, text, closing, after)
    return readme


def furnished(architecture: str) -> str:
    """The text of docs/architecture.md with the sentence of every module as the module has it."""
    return ROW.sub(
        lambda row: "| `%s.py` | %s |" % (row.group(1), sentence(row.group(1))), architecture)


def sentence(module: str) -> str:
    """The first line of its docstring."""
    with open(os.path.join(TOP, module + ".py"), encoding="utf-8") as file:
        return (ast.get_docstring(ast.parse(file.read())) or "").partition("\n")[0]


def main() -> None:
    for path, fill in ((README, filled), (ARCHITECTURE, furnished)):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        with open(path, "w", encoding="utf-8") as file:
            file.write(fill(text))


if __name__ == "__main__":
    main()
