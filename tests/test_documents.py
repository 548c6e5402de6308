"""Text to plain values and lines: what is read, what is refused, and where."""

import os
import time
from pathlib import Path
from typing import Any, Callable

import pytest

import documents
import scanners
from errors import ConfigurationError
from nobody import as_nobody

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(text, name)`: the path of a file that holds the text."""

    def write_file(text: "str | bytes", name: str = "app.toml") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        return str(path)

    return write_file


def refusal(path: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        documents.read(path)
    assert "\n" not in str(caught.value)
    assert caught.value.path == path
    return caught.value


APP = """\
name = "shop"          # a comment with "quotes" and [brackets]

[[processes]]
id = "web"
cmd = ["python3", "-m",
       "server"]
env = { MODE = "live",  DEBUG = false }

[processes.cluster]
instances = 4
health.path = "/up"

[[processes]]
"id" = "jobs"
notes = \"\"\"
[not.a.table]
key = "no key"
\"\"\"
'timeout' = 1.5
[[processes.list]]
a = 1
[[processes.list]]
a = 2
[processes.list.inner]
b = [[1, 2],
  [3]]
"""

APP_LINES = [
    (("name",), 1),
    (("processes",), 3),
    (("processes", 0), 3),
    (("processes", 0, "id"), 4),
    (("processes", 0, "cmd"), 5),
    (("processes", 0, "cmd", 1), 5),
    (("processes", 0, "cmd", 2), 6),
    (("processes", 0, "env", "DEBUG"), 7),
    (("processes", 0, "cluster"), 9),
    (("processes", 0, "cluster", "instances"), 10),
    (("processes", 0, "cluster", "health"), 11),
    (("processes", 0, "cluster", "health", "path"), 11),
    (("processes", 1), 13),
    (("processes", 1, "id"), 14),
    (("processes", 1, "notes"), 15),
    (("processes", 1, "timeout"), 19),
    (("processes", 1, "list"), 20),
    (("processes", 1, "list", 0, "a"), 21),
    (("processes", 1, "list", 1), 22),
    (("processes", 1, "list", 1, "a"), 23),
    (("processes", 1, "list", 1, "inner"), 24),
    (("processes", 1, "list", 1, "inner", "b", 1, 0), 26),
    # What is not there has the line of what is around it.
    (("processes", 0, "cluster", "strategy"), 9),
    (("processes", 0, "autostart"), 3),
    (("control", "socket"), 1),
    ((), 1),
]


@pytest.mark.parametrize("path, line", APP_LINES, ids=str)
def test_each_value_of_a_toml_file_has_its_line(write: Write, path: Any, line: int) -> None:
    assert documents.read(write(APP)).line(*path) == line


@pytest.mark.parametrize("path, line", APP_LINES, ids=str)
def test_lines_are_the_same_with_crlf(write: Write, path: Any, line: int) -> None:
    assert documents.read(write(APP.replace("\n", "\r\n"))).line(*path) == line


def test_toml_values_are_plain_python(write: Write) -> None:
    values: Any = documents.read(write(APP)).values
    assert values["name"] == "shop"
    assert values["processes"][0]["cmd"] == ["python3", "-m", "server"]
    assert values["processes"][0]["env"] == {"MODE": "live", "DEBUG": False}
    assert values["processes"][0]["cluster"] == {"instances": 4, "health": {"path": "/up"}}
    assert values["processes"][1]["notes"] == '[not.a.table]\nkey = "no key"\n'
    assert type(values["processes"][0]["env"]) is dict


def test_crlf_means_what_lf_means(write: Write) -> None:
    values = documents.read(write(APP)).values
    assert documents.read(write(APP.replace("\n", "\r\n"))).values == values


def test_line_of_a_table_is_that_of_its_own_header(write: Write) -> None:
    document = documents.read(write("[a.b]\nx = 1\n[a]\ny = 2\n"))
    assert document.line("a") == 3
    assert document.line("a", "b") == 1


def test_a_table_without_a_header_is_added_to_by_dotted_keys(write: Write) -> None:
    text = "[a.b.c]\nx = 1\n[a]\nd.e = 1\nd.f.g = 2\n[[l]]\nd.e = 1\nd.f = 2\n[[l]]\nd.e = 3\n"
    values = documents.read(write(text)).values
    assert values["a"] == {"b": {"c": {"x": 1}}, "d": {"e": 1, "f": {"g": 2}}}
    assert values["l"] == [{"d": {"e": 1, "f": 2}}, {"d": {"e": 3}}]


@pytest.mark.parametrize(
    "text",
    [
        'key = "it\'s"',
        "key = '''a''''",
        'key = """a"""""',
        'key = """a\\\\"""',
        'key = """a\\"""" # "',
        'key = "\\\\" # "',
        "key = '\\' # '",
        'key = """\n"\n""\n"""',
    ],
)
def test_the_end_of_a_string_is_found(text: str) -> None:
    text += "\nlast = 1\n"
    assert set(scanners.parse_toml(text)) == {"key", "last"}
    assert scanners.scan_toml(text) == {("key",): 1, ("last",): text.count("\n")}


@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_at_the_end_of_a_string_belong_to_it(quote: str) -> None:
    text = "key = [%sa%s, 1, [%sb%s]]\n" % (quote * 3, quote * 5, quote * 3, quote * 4)
    assert scanners.parse_toml(text) == {"key": ["a" + quote * 2, 1, ["b" + quote]]}
    assert set(scanners.scan_toml(text)) == {
        ("key",),
        ("key", 0),
        ("key", 1),
        ("key", 2),
        ("key", 2, 0),
    }


NOT_TOML = [
    ("a = 1\nb = my-app\n", 2, "this value is not valid TOML (strings stand in quotes) (column 5)"),
    ("a = 1 b = 2\n", 1, "something follows where the line should end (column 7)"),
    ("a\n", 1, "an = is missing after the key (column 2)"),
    ("\n[a\nb = 1\n", 2, "the table header does not end with ] (column 3)"),
    ("[[a]\n", 1, "the table header does not end with ]] (column 4)"),
    ('a = "x\n', 1, "this character is not allowed in a string of one line (column 7)"),
    ('a = """x\n\nb = 1\n', 3, "a string does not end (end of file)"),
    ("a = '''x\n\nb = 1\n", 3, "a string does not end (end of file)"),
    ("a = '''x''' y\n", 1, "something follows where the line should end (column 13)"),
    ("a = [1, 2\nb = 3\n", 2, "an array does not end, or a comma is missing in it (column 1)"),
    ("a = {b = 1 c = 2}\n", 1, "an inline table does not end, or a comma is missing in it"),
    ("[a]\n[b]\n[a]\n", 3, "this table is there already"),
    ("a = 1\na = 2\n", 2, "this key or table is there already"),
    ("a = {b = 1, b = 2}\n", 1, "this key is there already"),
    ("a = {b = 1}\n[a.c]\n", 2, "this table is there already"),
    ("[a.b]\nx = 1\n[a]\nb.y = 2\n", 4, scanners.HAS_HEADER),
    ("[a.b.c.d]\nx = 1\n[a]\nb.c.d.e.y = 2\n", 4, scanners.HAS_HEADER),
    ("[[a.b]]\n[a]\nb.y = 2\n", 3, scanners.HAS_HEADER),
    ("[[t]]\n[[t.b]]\n[[t]]\n[t.b]\n[a.b]\n[a]\nx.y = 1\nb.y = 2\n", 8, scanners.HAS_HEADER),
    ("a = [1]\n[[a]]\n", 2, "what is written in one piece cannot be added to"),
    ('a = "\\q"\n', 1, "this backslash is not an escape: write two, or use single quotes"),
    ('a = "\\uD800"\n', 1, "this escape is not a Unicode character"),
    ('a = "\\u00"\n', 1, "this escape is not followed by its hexadecimal digits"),
    ("a = 2026-02-30\n", 1, "this date or time does not exist"),
    ("= 1\n", 1, "this is no key, table header or comment"),
    ("a. = 1\n", 1, "a key is missing, or needs quotes"),
    ("a = 1 # \x01\n", 1, "a control character is not allowed here"),
    ("a = 1\r# lone\n", 1, "something follows where the line should end"),
    ("a = 01\n", 1, "something follows where the line should end"),
]


@pytest.mark.parametrize("text, line, message", NOT_TOML, ids=repr)
def test_what_the_referee_refuses_is_refused_with_its_line(
    write: Write, text: str, line: int, message: str
) -> None:
    error = refusal(write(text))
    assert error.line == line
    assert error.message.startswith(message)


#: Valid TOML on which the package toml 0.10.2 fails, or which it misreads without a word.
VALID = [
    ('cmd = ["python3", "-c", """\nprint(1)\n"""]', {"cmd": ["python3", "-c", "print(1)\n"]}),
    ('a.b = """\nx\n"""', {"a": {"b": "x\n"}}),
    ("a.b = '''\n\nx'''", {"a": {"b": "\nx"}}),
    ('a = { b = """\nx""" }', {"a": {"b": "x"}}),
    ('b = [1, "a"]', {"b": [1, "a"]}),
    ("b=0x1F", {"b": 31}),
    ('b = """"x"\n"""', {"b": '"x"\n'}),
    ('b = """..\\"""\n,\n"""', {"b": '.."""\n,\n'}),
    ("b = ''''y'\\'''", {"b": "'y'\\"}),
    ("b = ['y'\n, 1]", {"b": ["y", 1]}),
    ("b = [''',''']", {"b": [","]}),
    ("b = '''\n\n'''", {"b": "\n"}),
    ("'a\\[\"x\"' = 1", {'a\\["x"': 1}),
    ('[""]', {"": {}}),
    ('"" = """"#b1}"""#', {"": '"#b1}'}),
    ('"".b = 1', {"": {"b": 1}}),
    ('a = """[\n"""# c', {"a": "[\n"}),
    ("[ a . 'b' ]\nc.d = 1", {"a": {"b": {"c": {"d": 1}}}}),
    ("a" * 500 + " = 1", {"a" * 500: 1}),
    ('a = "' + "9" * 70000 + '"', {"a": "9" * 70000}),
    ("a = 1" + " " * 70000 + "# " + "x" * 70000, {"a": 1}),
]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("text, values", VALID, ids=lambda value: repr(value)[:30])
def test_valid_toml_is_read_whatever_other_parsers_make_of_it(
    write: Write, text: str, values: Any, ends: str, mark: bytes
) -> None:
    written = ("# first\n" + text + "\n").replace("\n", ends)
    document = documents.read(write(mark + written.encode("utf-8")))
    assert document.values == values
    assert document.line(next(iter(values))) == 2


def test_an_array_over_several_lines_with_a_program_in_it_has_its_lines(write: Write) -> None:
    document = documents.read(write('cmd = ["python3", "-c", """\nimport x\n""",\n"y"]\nb = 1\n'))
    assert [document.line("cmd", index) for index in range(4)] == [1, 1, 1, 4]
    assert document.line("b") == 5


def test_byte_order_mark_is_passed_over(write: Write) -> None:
    for name, text in (("app.toml", "a = 1\nb = 2\n"), ("app.json", '{"a": 1,\n"b": 2}')):
        document = documents.read(write(b"\xef\xbb\xbf" + text.encode(), name))
        assert document.values == {"a": 1, "b": 2}
        assert (document.line("a"), document.line("b")) == (1, 2)
    assert refusal(write(b"\xef\xbb\xbfa = 1\nb\n")).line == 2
    assert refusal(write(b"a = 1\n\xef\xbb\xbfb = 1\n")).line == 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name, text", [("app.toml", "a = 1\n"), ("app.json", '{"a": 1}')])
def test_utf16_is_told(write: Write, name: str, text: str, encoding: str) -> None:
    error = refusal(write(text.encode(encoding), name))
    assert (error.line, error.message) == (1, "is UTF-16: save it as UTF-8")


@pytest.mark.parametrize("name", ["pup", "pup.conf", "pup.toml", "pup.json.bak"])
@pytest.mark.parametrize("text, line", [
    ('{"processes": []}', 1), ("\n // Pup's\n{}", 2), ("/* Pup's */ {}", 1), ("\n\n  {", 3),
])
def test_json_under_another_name_is_told(write: Write, name: str, text: str, line: int) -> None:
    error = refusal(write(text, name))
    assert (error.line, error.message) == (line, "this looks like JSON: let its name end in .json")


@pytest.mark.parametrize("text", [
    "# mine\na = 1", "[[processes]]\n", "[ a ]", "a = 1", "a.b = 1", "\n\nname='x'"])
def test_toml_under_the_name_of_json_is_told(write: Write, text: str) -> None:
    assert refusal(write(text, "app.json")).message.endswith(
        "; this looks like TOML: let its name end in .toml")
    for other in ("", "[1]", '["a"]', "nonsense", '{"a": }'):
        assert "TOML" not in refusal(write(other, "app.json")).message


def test_binary_file_is_refused_with_the_line(write: Write) -> None:
    error = refusal(write(b"a = 1\nb = \x00\x01\n"))
    assert (error.line, error.message) == (2, "holds a NUL byte: is it text?")


def test_file_that_is_not_utf8_is_refused_with_the_line(write: Write) -> None:
    error = refusal(write('a = 1\n\nb = "é"\n'.encode("latin-1")))
    assert (error.line, error.message) == (3, "is not UTF-8")


def test_missing_file_is_told(tmp_path: Path) -> None:
    error = refusal(str(tmp_path / "none.toml"))
    assert (error.line, error.message) == (None, "there is no such file")
    assert str(error) == "%s/none.toml: there is no such file" % tmp_path


def test_folder_is_told_and_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert refusal(str(tmp_path)).message == "is a folder, not a file"
    assert len(os.listdir("/proc/self/fd")) == before


def test_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(str(tmp_path / "fifo.toml"))
    assert refusal(str(tmp_path / "fifo.toml")).message == "is not a file that can be read"
    assert refusal("/dev/zero").message == "is not a file that can be read"


def test_unreadable_file_is_told(write: Write) -> None:
    path = write("a = 1")
    os.chmod(path, 0)
    assert as_nobody(lambda: refusal(path).message) == "cannot be read: permission denied"


def test_name_that_cannot_be_one_is_told(tmp_path: Path) -> None:
    assert refusal("a\0b.toml").message == "is not a file that can be read"
    assert refusal(str(tmp_path / ("x" * 300))).message == "cannot be read: file name too long"
    (tmp_path / "file").write_text("")
    assert refusal(str(tmp_path / "file" / "x")).message == "cannot be read: not a directory"


def test_huge_file_is_refused_and_the_largest_is_read(write: Write) -> None:
    line = b"# a comment of thirty-two bytes\n"
    text = line * (documents.SIZE_LIMIT // len(line))
    assert len(text) == documents.SIZE_LIMIT
    assert documents.read(write(text)).values == {}
    assert refusal(write(text + b"\n")).message == "is larger than 1048576 bytes"


@pytest.mark.parametrize(
    "text, line, message",
    [
        ("a = 1\nb = " + "[" * 1000 + "]" * 1000, 2, "nested deeper than 50 levels"),
        ("a = " + "[" * 100000, 1, "nested deeper than 50 levels"),
        ("\n\na = " + "{a = " * 1000 + "1" + "}" * 1000, 3, "nested deeper than 50 levels"),
        ("a = 1\n" + ".".join("b" * 60) + " = 1\n", 2, "nested deeper than 50 levels"),
        ("[" + ".".join("b" * 100000) + "]\n", 1, "nested deeper than 50 levels"),
        ("[" + ".".join("b" * 30) + "]\n" + ".".join("c" * 30) + " = 1\n", 2, "nested deeper"),
        ("a = 1\nb = " + "9" * 5000 + "\n", 2, "this number is longer than 400 characters"),
        ("b = [1,\n-" + "1_" * 500 + "1]\n", 2, "this number is longer than 400 characters"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_toml_that_would_harm_a_parser_is_refused(
    write: Write, text: str, line: int, message: str
) -> None:
    error = refusal(write(text))
    assert (error.line, error.message[: len(message)]) == (line, message)


def test_largest_that_does_no_harm_is_read(write: Write) -> None:
    for name, start, end in (("a.toml", "a = ", "\n"), ("a.json", '{"a": ', "}")):
        assert documents.read(write(start + "9" * 400 + end, name)).values["a"] == int("9" * 400)
        assert refusal(write(start + "9" * 401 + end, name)).line == 1
    key = ".".join("a" * 50)
    assert documents.read(write(key + " = 1\n")).line(*["a"] * 50) == 1
    assert refusal(write(key + ".a = 1\n")).line == 1


def test_one_line_of_a_megabyte_is_read_like_any_other(write: Write) -> None:
    """The package toml needs seconds for such a comment: time grows with its square."""
    for line in ("# %s", 'b = "%s"', "b = 1 # %s", "b = '''%s'''"):
        text = "a = 1\n" + line % ("x" * (documents.SIZE_LIMIT - 100)) + "\n[c]\n"
        began = time.process_time()
        assert documents.read(write(text)).line("c") == 3
        # It takes 0.02 s; what is quadratic takes 5 s and more.
        assert time.process_time() - began < 2


def test_brackets_dots_and_digits_in_strings_and_comments_do_no_harm(write: Write) -> None:
    inside = "[" * 60 + "." * 60 + "9" * 500
    text = 'a = "%s" # %s\nb = \'%s\'\nc = """\n%s\n"""\n' % ((inside,) * 4)
    assert documents.read(write(text)).values["b"] == inside


APP_JSON = """\
// what Pup takes
{
  "$schema": "https://example.org/pup.json",
  "processes": [ /* one
    of them */
    {
      "id": "web", "cmd": "a // b /* c */",
      "cluster":
        { "instances": 4,
          "list": [1, 2.5,
            true, null, "\\u00e9\\ud83d\\ude00\\"",],
        },
    },
  ],
}
"""

APP_JSON_LINES = [
    (("$schema",), 3),
    (("processes",), 4),
    (("processes", 0), 6),
    (("processes", 0, "cmd"), 7),
    (("processes", 0, "cluster"), 8),
    (("processes", 0, "cluster", "instances"), 9),
    (("processes", 0, "cluster", "list", 1), 10),
    (("processes", 0, "cluster", "list", 4), 11),
    (("processes", 0, "cluster", "strategy"), 8),
]


@pytest.mark.parametrize("name", ["app.json", "app.jsonc", "APP.JSON"])
def test_json_has_comments_and_trailing_commas(write: Write, name: str) -> None:
    values: Any = documents.read(write(APP_JSON, name)).values
    process = values["processes"][0]
    assert process["cmd"] == "a // b /* c */"
    assert process["cluster"]["list"] == [1, 2.5, True, None, 'é😀"']


@pytest.mark.parametrize("path, line", APP_JSON_LINES, ids=str)
def test_each_value_of_a_json_file_has_its_line(write: Write, path: Any, line: int) -> None:
    for text in (APP_JSON, APP_JSON.replace("\n", "\r\n")):
        assert documents.read(write(text, "app.json")).line(*path) == line


@pytest.mark.parametrize(
    "text, line, message",
    [
        ("", 1, "the file does not hold an object: { is missing"),
        ("\n[]", 2, "the file does not hold an object: { is missing"),
        ('{"a": 1}\n}', 2, "something follows the end of the object"),
        ('{\n"a": 1,\n"b": 2,\n"a": 3\n}', 4, "the same key stands twice in this object"),
        ('{"a": {"b": 1,\n"b": 2}}', 2, "the same key stands twice in this object"),
        ('{"a": 1\n"b": 2}', 2, "a comma or } is missing"),
        ('{"a": [1\n2]}', 2, "a comma or ] is missing"),
        ('{"a": [1,,2]}', 1, "a value is missing, or is not valid JSON"),
        ('{"a": [,]}', 1, "a value is missing, or is not valid JSON"),
        ("{,}", 1, "a key in double quotes is missing"),
        ("{a: 1}", 1, "a key in double quotes is missing"),
        ("{'a': 1}", 1, "a key in double quotes is missing"),
        ('{"a" 1}', 1, "a : is missing after the key"),
        ('{"a":\n}', 2, "a value is missing, or is not valid JSON"),
        ('{"a":\n', 2, "a value is missing, or is not valid JSON"),
        ('{"a": 1', 1, "a comma or } is missing"),
        ('{"a": 01}', 1, "a value is missing, or is not valid JSON"),
        ('{"a": 1.}', 1, "a value is missing, or is not valid JSON"),
        ('{"a": NaN}', 1, "a value is missing, or is not valid JSON"),
        ('{"a": True}', 1, "a value is missing, or is not valid JSON"),
        ('{"a": "b\nc"}', 1, "this string does not end on its line, or has a wrong escape"),
        ('{"a": "b\\x"}', 1, "this string does not end on its line, or has a wrong escape"),
        ('{"a": "\\ud800"}', 1, "half of a surrogate pair stands in this string"),
        ('{"a": 1 /* b\n\n}', 1, "this comment does not end"),
        ('{"a": 1 / 2}', 1, "a comma or } is missing"),
        ('{"a":\n' + "[" * 1000 + "]" * 1000 + "}", 2, "nested deeper than 50 levels"),
        ('{"a": ' * 100000, 1, "nested deeper than 50 levels"),
        ('{"a":\n' + "9" * 5000 + "}", 2, "this number is longer than 400 characters"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_not_json_is_refused_with_its_line(
    write: Write, text: str, line: int, message: str
) -> None:
    error = refusal(write(text, "app.json"))
    assert (error.line, error.message[: len(message)]) == (line, message)


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.toml", "token = hunter2\n"),
        ("a.toml", 'token = "hunter2\n'),
        ("a.toml", 'token = ["hunter2" 1]\n'),
        ("a.toml", "token = 'hunter2'hunter2'\n"),
        ("a.toml", "[hunter2]\n[hunter2]\n"),
        ("a.toml", "a = {hunter2 = 1, hunter2 = 2}\n"),
        ("a.toml", '{"token": "hunter2"}\n'),
        ("a.json", 'token = "hunter2"\n'),
        ("a.json", '{"token": "hunter2}\n'),
        ("a.json", '{"token": hunter2}\n'),
        ("a.json", '{"hunter2": 1, "hunter2": 2}\n'),
        ("a.json", '{"token": "a" "hunter2"}\n'),
    ],
)
def test_no_message_repeats_what_stands_in_the_file(write: Write, name: str, text: str) -> None:
    assert "hunter2" not in refusal(write(text, name)).message


def test_deepest_nesting_that_is_allowed_is_read(write: Write) -> None:
    text = "a = " + "[" * 50 + "]" * 50
    assert documents.read(write(text)).line("a", 0, 0) == 1
