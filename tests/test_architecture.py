"""The architecture holds: who may import whom, what is installed, how long things are."""

import ast
import configparser
import re
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: Headings of docs/architecture.md, and the modules below each.
FLOORS = {
    text.partition("\n")[0]: re.findall(r"^\| `(\w+)\.py` ", text, re.MULTILINE)
    for text in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("\n## ")
}

#: A module imports only from further down.
READING_ORDER = [module for floor in FLOORS.values() for module in floor]

#: The two halves meet in the wiring only: one can be read, tested and moved without the other.
SUPERVISING, BALANCING = set(FLOORS["Supervising"]), set(FLOORS["Balancing"])

#: Modules of tables and choices: they know no sockets, no clock and no loop.
PURE = {"globs", "lifecycle", "proxy_protocol", "strategies"}
#: May import each other.
PURE_HTTP = {"http_errors", "http_forwarding", "http_framing", "http_heads", "http_plain"}
IMPURE_PACKAGES = {"gevent", "socket", "_socket", "select", "subprocess", "threading", "time"}

MODULES = sorted(path.stem for path in ROOT.glob("*.py"))


def source_of(module: str) -> str:
    return (ROOT / (module + ".py")).read_text(encoding="utf-8")


def tree_of(module: str) -> ast.Module:
    return ast.parse(source_of(module), module + ".py")


def imports_of(module: str) -> Set[str]:
    """Top-level names of all that a module imports, also inside its functions."""
    names: Set[str] = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


def calls_in(module: str) -> Iterator[Tuple[str, ast.Call]]:
    """Each call with the dotted name of what is called."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def offenders(found: Dict[str, Any]) -> Dict[str, Any]:
    """The modules for which something was found: the failure's message."""
    return {module: things for module, things in found.items() if things}


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return dotted(node.value) + "." + node.attr
    return node.id if isinstance(node, ast.Name) else ""


def last_line(node: ast.AST) -> int:
    """`end_lineno`, which Python has from 3.8."""
    return max(getattr(child, "lineno", 0) for child in ast.walk(node))


def test_every_module_has_its_place_in_the_reading_order() -> None:
    assert sorted(READING_ORDER) == MODULES


def test_modules_import_only_from_further_down() -> None:
    upwards = {}
    for place, module in enumerate(READING_ORDER):
        upwards[module] = imports_of(module) & set(READING_ORDER[:place + 1])
    assert offenders(upwards) == {}


def test_supervising_and_balancing_do_not_know_each_other() -> None:
    across = {module: imports_of(module) & BALANCING for module in SUPERVISING}
    across.update(
        (module, imports_of(module) & SUPERVISING) for module in BALANCING)
    assert offenders(across) == {}


def test_pure_modules_import_nothing_of_ours_and_nothing_that_acts() -> None:
    forbidden = IMPURE_PACKAGES | set(MODULES)
    assert offenders({module: imports_of(module) & forbidden for module in PURE}) == {}
    forbidden -= {*PURE_HTTP, "model"}
    assert offenders({module: imports_of(module) & forbidden for module in PURE_HTTP}) == {}


def test_only_the_command_handles_signals_and_exits() -> None:
    others = set(MODULES) - {"pupgevent"}
    assert offenders({module: set(signals_and_exits(module)) for module in others}) == {}


def signals_and_exits(module: str) -> Iterator[str]:
    for name, call in calls_in(module):
        # A forked child may go back to the defaults, and leave, before its exec.
        reset = name == "signal.signal" and dotted(call.args[1]) == "signal.SIG_DFL"
        if name.endswith(("signal.signal", "loop.signal", "signal_handler")) and not reset:
            yield name
        if name in ("sys.exit", "exit", "quit", "SystemExit"):
            yield name
        if name == "os._exit" and module != "child_setup":
            yield name


def test_nothing_is_monkey_patched() -> None:
    words = {module: {part for node in ast.walk(tree_of(module)) for part in words_of(node)}
             for module in MODULES}
    assert offenders({module: found & {"monkey"} for module, found in words.items()}) == {}


def words_of(node: ast.AST) -> List[str]:
    """The parts of the names that an import or an attribute tells."""
    if isinstance(node, ast.Attribute):
        return [node.attr]
    names = [alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
    return ".".join(names + [getattr(node, "module", None) or ""]).split(".")


def test_no_module_reads_the_state_of_the_process_while_it_is_imported() -> None:
    """It may be another by the time it is used: limits, environment, folder, user, pid."""
    words = {"getrlimit", "environ", "environb", "getenv", "getcwd", "getpid", "getppid", "getuid",
             "geteuid", "getgid", "umask", "sched_getaffinity", "argv", "monotonic", "isatty"}
    found = {}
    for module in MODULES:
        statements = [node for node in tree_of(module).body if not isinstance(
            node, (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.If))]
        found[module] = words & {word for statement in statements for node in ast.walk(statement)
                                 if isinstance(node, ast.Attribute) for word in words_of(node)}
    assert offenders(found) == {}


def test_no_assert_is_shipped() -> None:
    lines = {module: [node.lineno for node in ast.walk(tree_of(module))
                      if isinstance(node, ast.Assert)] for module in MODULES}
    assert offenders(lines) == {}


@pytest.mark.skipif(sys.version_info < (3, 8), reason="ast.parse has feature_version from 3.8")
def test_modules_parse_as_python_3_6() -> None:
    for path in [*ROOT.glob("*.py"), *ROOT.glob("conf/*.py"), *ROOT.glob("tests/**/*.py")]:
        source = path.read_text(encoding="utf-8")
        ast.parse(source, str(path), feature_version=(3, 6))


def test_no_module_is_longer_than_420_lines() -> None:
    """What it says of itself at the top aside: the hardest has an essay there."""
    lengths = {module: len(source_of(module).splitlines()) - essay_lines(module)
               for module in MODULES}
    assert {module: length for module, length in lengths.items() if length > 420} == {}


def essay_lines(module: str) -> int:
    return (ast.get_docstring(tree_of(module), clean=False) or "").count("\n")


def test_no_function_is_longer_than_45_lines() -> None:
    assert offenders({module: list(long_functions(module)) for module in MODULES}) == {}


def long_functions(module: str) -> Iterator[str]:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.FunctionDef) and last_line(node) - node.lineno >= 45:
            yield node.name


def read_setup(section: str, key: str) -> List[str]:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(str(ROOT / "setup.cfg"), encoding="utf-8")
    return setup[section][key].split("\n")[1:]


def test_nothing_but_four_packages_is_needed_to_run() -> None:
    assert read_setup("options", "install_requires") == [
        "gevent>=22.10.2", "toml", "docopt", 'tomli; python_version < "3.11"']


@pytest.mark.skipif("pupgevent" not in MODULES, reason="the command is not there yet")
def test_version_is_readable_without_importing_the_command() -> None:
    values = [node.value for node in tree_of("pupgevent").body if isinstance(node, ast.Assign)
              and [dotted(target) for target in node.targets] == ["__version__"]]
    assert len(values) == 1
    assert ast.literal_eval(values[0]).count(".") == 2


def test_the_balancer_asks_no_clock_but_the_one_it_is_given() -> None:
    """Times of two clocks are compared sooner or later. `Engine` names the default."""
    forbidden = {"monotonic", "time.time", "time.monotonic", "perf_counter", "time.perf_counter"}
    asked = {
        module: sorted({name for name, _ in calls_in(module)} & forbidden)
        for module in BALANCING | {"runtime"}
    }
    assert offenders(asked) == {}
