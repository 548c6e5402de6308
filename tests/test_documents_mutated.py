"""Thousands of damaged files: never a silently different value, never another exception."""

import json
import random
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import configuration
import documents
import scanners
from errors import ConfigurationError

#: Whatever is done to a file, this never appears in a message about its syntax.
SECRET = "hunter2"

TOML = [
    # A file as it is written every day.
    """\
# the shop
name = "shop"
terminateTimeout = 30

[[processes]]
id = "web"
cmd = ["python3", "-m", "http.server", "--bind=[::1]"]   # [a], "b"
autostart = true
env = { TOKEN = "hunter2", PORT = 80, RATIO = 0.5, ON = true }

[processes.cluster]
instances = 4
commonPort = 3_000
startPort = 8000
strategy = 'round-robin'

[[processes]]
id = "jobs"
cmd = "sh -c 'while :; do sleep 1; done'"
""",
    # Strings over lines, in both kinds of quotes, with all that looks like something else.
    '''\
a = """
first "line" \\
   joined # no comment
[not.a.table]
x = 1
""" # comment
b = \'\'\'
it's "raw" \\n
]\'\'\'
''',
    '''\
c = """one"""
d = \'\'\'two\'\'\'
[t]
e = "esc \\t \\u00e9 \\\\ \\" end"
f = 'C:\\dir\\'
g = ""
''',
    # Arrays over lines, nested, with comments and trailing commas.
    """\
a = [ 1, 2,
  3, # three ]
]
b = [["x", "y,z"], ["]"]]
c = [{k = 1}, {k = 2, l = "}"}]
d = [
  "a",

  'b',
]
e = []
f = [[], [[]]]
g = [true, false]
h = [1.5, -2e3, inf]
""",
    # Tables, dotted and quoted keys, arrays of tables in arrays of tables.
    """\
top.dotted.key = 1
top.other = "x"
"quoted key" = 2
'lit.eral' = 3
[a]
b.c = 1
[a.d]
x = 1
[ spaced . out ]
y = 1
["q.r".s]
z = 1
[[arr]]
n = 1
[arr.sub]
m = 1
[[arr.list]]
o = 1
[[arr.list]]
o = 2
[[arr]]
n = 2
""",
    # Scalars.
    """\
a=1
b = -17
c=+99
d = 1_000
e = 0xDEAD
f = 0o17
g = 0b11
h = 3.14
i = 1e10
j = -0.0
k = nan
l = -inf
m = true
n = 1979-05-27T07:32:00Z
o = 1979-05-27
p = 07:32:00
""",
]

TOKENS = [
    "\n", "\r\n", "\r", "\t", " ", "#", "=", ".", ",", "[", "]", "[[", "]]", "{", "}", '"', "'",
    '"""', "'''", "\\", "\\u0041", "\\\n", "''", '""', "[a]\n", "[[a]]\n", "a = 1\n", "a.b = 1\n",
    "x = {a = 1}\n", "x = [\n", "x = '''\n", "1", "1.0", "true", "nan", "0x1", "_", "-", "é",
    "\x00", "\x7f", "\ufeff", "\u2028", "[processes.cluster]\n", "[[processes]]\n", "2026-01-01",
]  # fmt: skip


def place(rng: random.Random, text: str) -> int:
    return rng.randint(0, len(text))


def cut_piece(rng: random.Random, text: str) -> str:
    start = place(rng, text)
    return text[:start] + text[start + rng.randint(1, 8) :]


def cut_end(rng: random.Random, text: str) -> str:
    return text[: place(rng, text)]


def swap_character(rng: random.Random, text: str) -> str:
    at = place(rng, text)
    return text[:at] + chr(rng.randint(0, 127)) + text[at + 1 :]


def double_line(rng: random.Random, text: str) -> str:
    lines = text.splitlines(True) or [""]
    at = rng.randrange(len(lines))
    lines.insert(rng.randint(0, len(lines)), lines[at])
    return "".join(lines)


def drop_line(rng: random.Random, text: str) -> str:
    lines = text.splitlines(True) or [""]
    del lines[rng.randrange(len(lines))]
    return "".join(lines)


def move_piece(rng: random.Random, text: str) -> str:
    start, end = sorted((place(rng, text), place(rng, text)))
    return text[end:] + text[start:end] + text[:start]


def change_line_ends(rng: random.Random, text: str) -> str:
    return text.replace("\n", "\r\n")


INJURIES = [cut_piece, cut_piece, cut_end, swap_character, swap_character, double_line, drop_line,
            move_piece, change_line_ends]  # fmt: skip


def injured(rng: random.Random, text: str, tokens: List[str]) -> str:
    """The text with one to three injuries."""
    for _ in range(rng.randint(1, 3)):
        kind = rng.randrange(len(INJURIES) + 3)
        at = place(rng, text)
        if kind < len(INJURIES):
            text = INJURIES[kind](rng, text)
        else:
            text = text[:at] + rng.choice(tokens) + text[at:]
    return text


def mutants(texts: List[str], tokens: List[str], seed: int, count: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    for _ in range(count):
        damaged = injured(rng, rng.choice(texts), tokens).encode("utf-8")
        if rng.random() < 0.05:  # a byte that is no character
            at = rng.randint(0, len(damaged))
            damaged = damaged[:at] + bytes([rng.randint(128, 255)]) + damaged[at:]
        yield damaged


def outcome(path: Path, content: bytes) -> "documents.Document | ConfigurationError":
    path.write_bytes(content)
    try:
        return documents.read(str(path))
    except ConfigurationError as error:
        message = str(error)
        assert message.startswith(str(path)) and "\n" not in message and message.isprintable()
        assert SECRET not in error.message
        assert error.line is None or 1 <= error.line <= content.count(b"\n") + 1
        return error


def refereed(content: bytes) -> Tuple[Optional[Dict[str, Any]], Optional[int]]:
    """What the referee reads, or the line it refuses; (None, None) at the end of the text."""
    try:
        return scanners.parse_toml(content.decode("utf-8-sig")), None
    except UnicodeDecodeError as error:
        return None, content.count(b"\n", 0, error.start) + 1
    except ValueError as error:
        found = re.search(r"at line (\d+)", str(error))
        return None, int(found.group(1)) if found else None


def paths_of(value: Any, path: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    inside = []  # type: List[Tuple[Any, Any]]
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    for step, item in inside:
        yield path + (step,)
        yield from paths_of(item, path + (step,))


def check_lines(document: documents.Document, text: str) -> None:
    """Each value has a line, and a key's name stands on it."""
    lines = text.replace("\r\n", "\n").split("\n")
    assert set(document.lines) == set(paths_of(document.values))
    for path, line in document.lines.items():
        if isinstance(path[-1], str) and re.match(r"[\w.-]+\Z", path[-1], re.ASCII):
            assert path[-1] in lines[line - 1]


def check_toml(path: Path, content: bytes) -> bool:
    """Whether the file was read."""
    result = outcome(path, content)
    values, line = refereed(content)
    if isinstance(result, ConfigurationError):
        if result.message == scanners.HAS_HEADER:
            return False  # the tomli of Python 3.6 accepts it
        # What is not UTF-8, or JSON to begin with, is told in words of our own.
        assert values is None
        if not re.search("NUL|UTF|JSON", result.message):
            assert line is None or result.line == line
        return False
    # repr tells 1 from 1.0 and from True, and one nan is as good as another.
    assert repr(result.values) == repr(values)
    check_lines(result, content.decode("utf-8-sig"))
    return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    return Path(str(tmp_path_factory.mktemp("mutants")))


@pytest.mark.parametrize("seed", range(8))
def test_mutants_of_toml_are_read_as_the_referee_reads_them_or_refused(
    folder: Path, seed: int
) -> None:
    read = [check_toml(folder / "a.toml", text) for text in mutants(TOML, TOKENS, seed, 700)]
    assert 40 < sum(read) < 600, "the mutator is too wild, or too tame"


SNIPPETS = [
    snippet
    for text in TOML
    for snippet in re.split(r"\n(?=[a-zA-Z\[\"']|\Z)", text)  # statements, more or less
    if snippet
]


@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(
    snippets=st.lists(st.sampled_from(SNIPPETS), max_size=6),
    ends=st.sampled_from(["\n", "\r\n", "\n\n", ' # it\'s a "comment"\n']),
)
def test_any_statements_together_are_read_right_or_refused(
    folder: Path, snippets: List[str], ends: str
) -> None:
    check_toml(folder / "a.toml", ends.join(snippets).encode("utf-8"))


class Writer:
    """Writes valid TOML of every kind, and knows what it says and where each value stands."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.text = ""
        self.values: Dict[str, Any] = {}
        self.lines: Dict[Tuple[Any, ...], int] = {}
        self.table: Tuple[Any, ...] = ()
        self.count = 0

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def write(self, text: str) -> None:
        self.text += text

    def note(self, path: Tuple[Any, ...]) -> None:
        self.lines.setdefault(path, self.text.count("\n") + 1)

    def key(self) -> Tuple[str, str]:
        """A new one: what it is, and how it is written."""
        self.count += 1
        name = "%s%d" % (self.one_of("k", "a-b", "_", "", "k.k", "[k]", "#", " ", "é"), self.count)
        if re.match(r"[\w-]+\Z", name, re.ASCII):
            return name, self.one_of(name, '"%s"' % name, "'%s'" % name, '"%s\\u0021"' % name)
        return name, self.one_of('"%s"' % name, "'%s'" % name)

    def blank(self) -> None:
        """What may stand between statements, and inside arrays."""
        for _ in range(self.draw(st.integers(0, 2))):
            self.write(self.one_of("\n", "  ", "\t", "# ]}\"''' [x] = 1\n", '#"""\n'))

    def statement(self) -> None:
        kind = self.one_of("pair", "pair", "pair", "table", "array of tables", "blank")
        if kind == "pair":
            self.pair(self.table, self.value(self.table))
        elif kind == "blank":
            self.blank()
        else:
            self.header(kind != "table")
        self.write(self.one_of("\n", " # it's \"\"\" ]\n", "\t\n"))

    def header(self, of_array: bool) -> None:
        arrays = [path for path in self.lines if isinstance(self.value(path), list)
                  and self.lines.get(path + ("head",))]
        again = of_array and arrays and self.draw(st.booleans())
        if again:
            path = self.one_of(*arrays)
            written = path[0] if re.match(r"\w+\Z", path[0], re.ASCII) else "'%s'" % path[0]
        else:
            name, written = self.key()
            path = (self.unescaped(name, written),)
        gap = self.one_of("", " ")
        self.note(path)
        if of_array:
            tables = self.values.setdefault(path[0], [])
            self.lines[path + ("head",)] = 1
            tables.append({})
            self.table = path + (len(tables) - 1,)
        else:
            self.values[path[0]] = {}
            self.table = path
        self.note(self.table)
        self.write(("[[%s%s%s]]" if of_array else "[%s%s%s]") % (gap, written, gap))

    def value(self, path: Tuple[Any, ...]) -> Any:
        value: Any = self.values
        for step in path:
            if step == "head":
                return None
            value = value[step]
        return value

    @staticmethod
    def unescaped(name: str, written: str) -> str:
        return name + "!" if "\\u0021" in written else name

    def pair(self, path: Tuple[Any, ...], values: Dict[str, Any]) -> None:
        """A key and its value, in the table of that path."""
        for last in [False] * self.one_of(0, 0, 1, 2) + [True]:
            name, written = self.key()
            path += (self.unescaped(name, written),)
            self.note(path)
            self.write(written + self.one_of("", " "))
            if not last:
                self.write("." + self.one_of("", " "))
                values[path[-1]] = values = {}
        self.write("=" + self.one_of("", " "))
        values[path[-1]] = self.any_value(path)

    def any_value(self, path: Tuple[Any, ...]) -> Any:
        kind = self.one_of("scalar", "scalar", "string", "string", "array", "inline table")
        if kind == "array" and len(path) < 9:
            return self.array(path)
        if kind == "inline table" and len(path) < 9:
            return self.inline_table(path)
        written, value = self.one_of(*SCALARS) if kind == "scalar" else self.one_of(*STRINGS)
        self.write(written)
        return value

    def array(self, path: Tuple[Any, ...]) -> List[Any]:
        self.write("[")
        values: List[Any] = []
        self.blank()
        for index in range(self.draw(st.integers(0, 3))):
            if index:
                self.write(",")
                self.blank()
            self.note(path + (index,))
            values.append(self.any_value(path + (index,)))
            self.blank()
        self.write(self.one_of("", ",") if values else "")
        self.blank()
        self.write("]")
        return values

    def inline_table(self, path: Tuple[Any, ...]) -> Dict[str, Any]:
        values: Dict[str, Any] = {}
        self.write("{ ")
        for index in range(self.draw(st.integers(0, 2))):
            self.write(", " if index else "")
            self.pair(path, values)
        self.write(" }")
        return values


SCALARS = [
    ("1", 1), ("-1_000", -1000), ("0xFF", 255), ("0b1", 1), ("1.5", 1.5), ("-2e3", -2000.0),
    ("true", True), ("false", False), ("inf", float("inf")),
]  # fmt: skip

STRINGS = [
    ('""', ""), ("''", ""),
    ('"a # \\" \\\\"', 'a # " \\'), ("'\\ \" ]'", '\\ " ]'), ('"é\\t"', "é\t"),
    ('"""\na\n"b" ""\n[c]\n"""', 'a\n"b" ""\n[c]\n'), ('"""a \\\n   b"""', "a b"),
    ('"""a""""', 'a"'), ('"""a\\"""""', 'a""'), ("'''\n\na = 1\n'''", "\na = 1\n"),
    ("'''a'b''''", "a'b'"), ('"""\n\n# no\n"""', "\n# no\n"),
]  # fmt: skip


@st.composite
def toml_documents(draw: Any) -> Writer:
    writer = Writer(draw)
    for _ in range(draw(st.integers(0, 8))):
        writer.statement()
    return writer


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(
    written=toml_documents(),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    ends=st.sampled_from(["\n", "\r\n"]),
)
def test_any_valid_toml_is_read_and_each_value_has_its_line(
    folder: Path, written: Writer, mark: bytes, ends: str
) -> None:
    text = written.text.replace("\n", ends)
    document = outcome(folder / "valid.toml", mark + text.encode("utf-8"))
    assert isinstance(document, documents.Document), document
    assert repr(document.values) == repr(scanners.parse_toml(text))
    assert document.values == written.values
    expected = {path: line for path, line in written.lines.items() if path[-1] != "head"}
    assert document.lines == expected


@settings(max_examples=250)
@given(content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_any_bytes_are_read_right_or_refused(folder: Path, content: bytes) -> None:
    check_toml(folder / "a.toml", content)
    outcome(folder / "a.json", content)


@pytest.mark.parametrize("seed", range(4))
def test_no_mutant_of_a_configuration_ends_in_another_exception(folder: Path, seed: int) -> None:
    path = folder / "a.toml"
    loaded = 0
    for text in mutants(TOML[:1], TOKENS, 1000 + seed, 200):
        path.write_bytes(text)
        try:
            loaded += bool(configuration.load(str(path)))
        except ConfigurationError as error:
            assert "\n" not in str(error) and str(error).isprintable()
    assert loaded > 0


JSON = [
    """\
{
  "name": "shop",
  "processes": [
    {
      "id": "web", "cmd": ["python3", "-m", "server"],
      "env": {"TOKEN": "hunter2", "PORT": 80, "RATIO": 0.5, "ON": true, "OFF": null},
      "cluster": {"instances": 4, "commonPort": 3000, "startPort": 8000}
    },
    {"id": "jobs", "cmd": "sh -c 'sleep 1'", "timeout": 1.5e3}
  ]
}
""",
    '{"a": [1, -2, 3.25, 1e5, [], {}, {"b": {"c": "\\u00e9\\n\\"\\\\ \\/"}}], "": "", "d": 0}',
]

JSON_TOKENS = [
    "\n", "\r\n", "\t", " ", ",", ":", "[", "]", "{", "}", '"', "\\", "\\u0041", "\\ud800",
    "\\ud83d\\ude00", "1", "-", "0", "1.5", "e5", "true", "null", "NaN", "Infinity", "é", "'",
    "\x01", '"a": 1,', '"a": ', '"id": "x", ', "\ufeff", "\u00a0",
]  # fmt: skip

#: What JSON does not have and pupgevent takes.
LENIENT = re.compile(r"//|/\*|,[ \t\r\n]*[}\]]")


def by_the_book(content: bytes) -> Optional[Dict[str, Any]]:
    """The object that Python's json reads, minus its liberties; None where it refuses."""
    try:
        value = json.loads(
            content.decode("utf-8-sig"), object_pairs_hook=without_twins, parse_constant=refuse
        )
        repr(value).encode("utf-8")
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # no half surrogate pair
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def without_twins(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def refuse(word: str) -> None:
    raise ValueError(word)


def check_json(path: Path, content: bytes) -> bool:
    """Whether the file was read."""
    result, expected = outcome(path, content), by_the_book(content)
    if isinstance(result, ConfigurationError):
        assert expected is None
        return False
    assert expected is not None or LENIENT.search(content.decode("utf-8-sig"))
    assert expected is None or repr(result.values) == repr(expected)
    assert set(result.lines) == set(paths_of(result.values))
    return True


@pytest.mark.parametrize("seed", range(6))
def test_mutants_of_json_are_read_by_the_book_or_refused(folder: Path, seed: int) -> None:
    read = [check_json(folder / "a.json", text) for text in mutants(JSON, JSON_TOKENS, seed, 400)]
    assert 8 < sum(read) < 300, "the mutator is too wild, or too tame"


plain_json = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(alphabet=st.characters(blacklist_categories=["Cs"]), max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=120)
@given(
    value=st.dictionaries(st.text(max_size=4), plain_json, max_size=4),
    indent=st.sampled_from([None, 0, 2, "\t"]),
    plain=st.booleans(),
)
def test_any_json_object_is_read_as_it_was_written(
    folder: Path, value: Dict[str, Any], indent: Any, plain: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=plain).encode("utf-8", "surrogatepass")
    if by_the_book(text) is not None:
        assert check_json(folder / "a.json", text)
