"""Fill the parts of README.md that are told elsewhere: `make readme`.

A part stands between `<!-- name -->` and `<!-- /name -->`. The tests hold them equal to their
sources, so that nothing is told in two ways.
"""

import os
import sys
import textwrap
from typing import Dict

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
README = os.path.join(TOP, "README.md")


def parts() -> Dict[str, str]:
    """Each part's name and its text."""
    sys.path.insert(0, TOP)
    import arguments
    import configuration
    import status

    return {
        "commands": "```\n%s```" % arguments.USAGE,
        "keys": configuration.reference().strip(),
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


def main() -> None:
    with open(README, encoding="utf-8") as file:
        readme = file.read()
    with open(README, "w", encoding="utf-8") as file:
        file.write(filled(readme))


if __name__ == "__main__":
    main()
