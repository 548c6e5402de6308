"""The command that PM2 makes of `script`, `interpreter`, `node_args` and `args`."""

import os
import re
from typing import Any, List, Mapping

#: What PM2 runs a script with, by its suffix.
_INTERPRETERS = {
    ".sh": "bash", ".py": "python3", ".rb": "ruby", ".php": "php", ".pl": "perl", ".js": "node",
    ".cjs": "node", ".mjs": "node", ".coffee": "coffee", ".ls": "lsc", ".ts": "bun", ".tsx": "bun",
}  # fmt: skip

#: The words of arguments in one string: in quotes, NAME="in quotes", or without any.
_ARGUMENT = re.compile(
    r"""[^\s"'=]+="[^"]*"|[^\s"'=]+='[^']*'|"[^"]*"|'[^']*'|\S+""")


def words(app: Mapping[str, Any], folder: str) -> List[str]:
    """The command as PM2 runs it, without a shell; one with blanks in `script` is bash's."""
    script = app["script"]
    if " " in script:
        return ["bash", "-c", script]
    cwd = app.get("cwd")
    place = os.path.join(folder, cwd if isinstance(cwd, str) and "\0" not in cwd else "")
    interpreter = app.get("interpreter")
    if not isinstance(interpreter, str) or not interpreter:
        interpreter = _interpreter(script, place)
    arguments = _arguments(app.get("args"))
    if interpreter == "none":
        return [_as_program(script, place), *arguments]
    return [interpreter, *_arguments(app.get("node_args")), script, *arguments]


def _interpreter(script: str, folder: str) -> str:
    """node for a text without a known suffix, unless the file can be run by itself."""
    known = _INTERPRETERS.get(os.path.splitext(script)[1])
    if known:
        return known
    file = os.path.join(folder, script)
    return "node" if os.path.isfile(file) and not os.access(file, os.X_OK) else "none"


def _as_program(script: str, folder: str) -> str:
    """PM2 looks for it in the folder first, and then on the PATH; exec does only the latter."""
    if "/" not in script and os.path.isfile(os.path.join(folder, script)):
        return "./" + script
    return script


def _arguments(given: object) -> List[str]:
    if isinstance(given, list):
        return [word if isinstance(word, str) else _number(word) for word in given]
    if not isinstance(given, str):
        return []
    found = _ARGUMENT.findall(given)
    plain = [word[1:-1] if word[0] == word[-1] and word[0] in "\"'" and len(word) > 1 else word
             for word in found]
    return [word for word in plain if word.strip()]


def _number(word: object) -> str:
    return ("true" if word else "false") if isinstance(word, bool) else str(word)
