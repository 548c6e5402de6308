"""`pupgevent init`: what it writes is accepted by `check` and runs, and nothing is overwritten."""

import os
import re
import shutil
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

import configuration
import drafts
import init
import new_file
from errors import ConfigurationError, PupgeventError
from nobody import as_nobody
from running import PUPGEVENT, Running, run

pytest_plugins = ["runs"]

MIGRATIONS = Path(__file__).resolve().parent / "migrations"
SOURCES = ["Procfile", "ecosystem.config.json", "supervisord.conf", "pup.jsonc"]

#: Answers each request with its words.
ECHO = """\
import http.server, os, sys
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        words = sys.argv[1:] + [os.environ.get(name, "") for name in ("GREETING", "WORKER")]
        self.wfile.write((" ".join(words) + "\\n").encode())
port = int(sys.argv[1])
http.server.HTTPServer(("127.0.0.1", port), Echo).serve_forever()
"""


@pytest.fixture
def shop(folder: Path) -> Path:
    """A folder with a file of each tool in it."""
    for name in SOURCES:
        shutil.copy(str(MIGRATIONS / name), str(folder))
    shutil.copy(str(MIGRATIONS / "env"), str(folder / ".env"))
    return folder


def init_in(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """`pupgevent init WORDS` in a folder; a traceback fails the test."""
    done = subprocess.run(
        [*PUPGEVENT, "init", *words], cwd=str(folder), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, universal_newlines=True, timeout=100,
        check=False)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


def made_in(folder: Path, *words: str) -> str:
    """The text of the pupgevent.toml that it writes."""
    done = init_in(folder, *words)
    assert (done.returncode, done.stderr) == (0, "")
    return (folder / "pupgevent.toml").read_text(encoding="utf-8")


def made_from(folder: Path, name: str, text: str) -> Dict[str, Any]:
    """The processes by id of what a source becomes."""
    source, target = folder / name, folder / "made.toml"
    source.write_text(text, encoding="utf-8")
    written = init.make(str(target), str(source))
    target.write_text(written.text, encoding="utf-8")
    return {process.id: process for process in configuration.load(str(target)).processes}


def text_from(folder: Path, name: str, text: str) -> str:
    made_from(folder, name, text)
    return (folder / "made.toml").read_text(encoding="utf-8")


def refusal(folder: Path, name: str, text: str) -> str:
    source = folder / name
    source.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        init.make(str(folder / "made.toml"), str(source))
    assert caught.value.exit_status == 2
    (line,) = caught.value.lines
    return line.replace(str(folder) + "/", "")


# Whatever the source is.


@pytest.mark.parametrize("source", SOURCES)
def test_what_becomes_of_each_source_is_accepted_by_check(shop: Path, source: str) -> None:
    done = init_in(shop, "--from=" + source, "made.toml")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("wrote made.toml from %s: " % source)
    assert lines[-2:] == ["next: pupgevent check made.toml", "      pupgevent made.toml"]
    text = (shop / "made.toml").read_text()
    lost = len(re.findall("^# %s: " % drafts.LOST, text, re.M))
    assert lost >= 1
    assert "%d thing%s could not be carried over" % (lost, "s" * (lost > 1)) in done.stdout
    checked = run("check", str(shop / "made.toml"))
    assert checked.returncode == 0
    assert checked.stdout


@pytest.mark.parametrize("source", SOURCES)
def test_no_secret_is_printed_and_only_its_user_can_read_one(shop: Path, source: str) -> None:
    os.chmod(str(shop / source), 0o644)
    done = init_in(shop, "--from=" + source, "made.toml")
    assert "hunter" not in done.stdout + done.stderr
    text = (shop / "made.toml").read_text()
    private = stat.S_IMODE((shop / "made.toml").stat().st_mode) == 0o600
    # foreman's .env is named, not copied.
    assert private == (source != "Procfile") == ("hunter" in text)
    assert ("only you can read it" in done.stdout) == private


def test_a_source_that_others_cannot_read_becomes_a_file_that_they_cannot_read(
    folder: Path
) -> None:
    (folder / "Procfile").write_text("worker: serve --token=hunter2\n")
    os.chmod(str(folder / "Procfile"), 0o640)
    assert "hunter2" in made_in(folder, "--from=Procfile")
    assert stat.S_IMODE((folder / "pupgevent.toml").stat().st_mode) == 0o600


def test_options_of_plug_ins_are_taken_for_secrets(folder: Path) -> None:
    (folder / "pup.json").write_text(
        """{"processes": [{"id": "a", "cmd": "a"}], "plugins": [{"options": "hunter2"}]}""")
    os.chmod(str(folder / "pup.json"), 0o644)
    assert "hunter2" in made_in(folder, "--from=pup.json")
    assert stat.S_IMODE((folder / "pupgevent.toml").stat().st_mode) == 0o600


@pytest.mark.parametrize("source", SOURCES)
def test_paths_hold_where_the_file_is_made_in_another_folder(shop: Path, source: str) -> None:
    (shop / "etc").mkdir()
    done = init_in(shop, "--from=" + source, "etc/app.toml")
    assert (done.returncode, done.stderr) == (0, "")
    for process in configuration.load(str(shop / "etc" / "app.toml")).processes:
        assert os.path.realpath(process.cwd) == os.path.realpath(str(shop))


@pytest.mark.parametrize("supported", [True, False])
def test_a_key_that_is_not_there_is_a_comment_until_it_is(folder: Path, supported: bool) -> None:
    import keys
    from drafts import Draft, Section
    from schema import Table

    table = Table("processes", tuple(
        key for key in keys.PROCESS.keys if supported or key.name != "restartLimit"))
    section = Section(table, Draft(str(folder / "made.toml")))
    assert section.set("restartLimit", 3) == supported
    lines = [line for line in section.lines() if "restartLimit =" in line]
    assert lines[-1] == ("restartLimit = 3" if supported else "#restartLimit = 3")


def test_two_names_that_would_be_one_id_become_two(folder: Path) -> None:
    found = made_from(folder, "a.json", """{"apps": [
        {"name": "my app", "script": "a.js"}, {"name": "my/app", "script": "a.js"},
        {"name": "all", "script": "a.js"}, {"name": "x", "script": "a.js", "instances": 2},
        {"name": "x-1", "script": "a.js"}, {"name": "é", "script": "a.js"}]}""")
    assert list(found) == ["my-app", "my-app_2", "all_2", "x", "x-1_2", "app"]


# Nothing is overwritten.


def test_a_file_that_is_there_stays_as_it_is(folder: Path) -> None:
    (folder / "pupgevent.toml").write_text("mine")
    done = init_in(folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "pupgevent.toml: is there already, and stays as it is\n"
    assert (folder / "pupgevent.toml").read_text() == "mine"


def test_a_link_to_nowhere_is_a_file_that_is_there(folder: Path) -> None:
    (folder / "pupgevent.toml").symlink_to("elsewhere.toml")
    assert init_in(folder).returncode == 2
    with pytest.raises(ConfigurationError, match="is there already"):
        new_file.write(str(folder / "pupgevent.toml"), b"new", private=False)
    assert os.listdir(str(folder)) == ["pupgevent.toml"]


def test_of_several_at_once_one_writes_the_file(folder: Path) -> None:
    children = [subprocess.Popen(
        [*PUPGEVENT, "init"], cwd=str(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        universal_newlines=True) for _ in range(5)]
    said = [child.communicate(timeout=100) for child in children]
    assert sorted(child.returncode for child in children) == [0, 2, 2, 2, 2], said
    assert os.listdir(str(folder)) == ["pupgevent.toml"]
    configuration.load(str(folder / "pupgevent.toml"))


@pytest.mark.parametrize("count", [2, 8])
def test_who_comes_second_between_the_look_and_the_writing_is_refused(
    folder: Path, count: int
) -> None:
    path = str(folder / "a.toml")
    new_file.check(path)
    new_file.write(path, b"first", private=False)
    for _ in range(count):
        with pytest.raises(ConfigurationError, match="is there already"):
            new_file.write(path, b"second", private=False)
    assert (folder / "a.toml").read_bytes() == b"first"
    assert os.listdir(str(folder)) == ["a.toml"]


def test_a_file_system_without_links_gets_the_file_all_the_same(folder: Path) -> None:
    def link(source: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    path = str(folder / "a.toml")
    new_file.write(path, b"first", private=True, link=link)
    with pytest.raises(ConfigurationError, match="is there already"):
        new_file.write(path, b"second", private=True, link=link)
    assert (folder / "a.toml").read_bytes() == b"first"
    assert os.listdir(str(folder)) == ["a.toml"]


def test_a_file_that_cannot_be_written_whole_is_not_there_at_all(folder: Path) -> None:
    """As on a full disk: no file may have more than 512 bytes (or 1024, with bash)."""
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", *PUPGEVENT, "init"], cwd=str(folder),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=100,
        check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pupgevent: pupgevent.toml cannot be written: file too large\n"
    assert os.listdir(str(folder)) == []


def test_a_folder_that_is_not_there_is_told(folder: Path) -> None:
    done = init_in(folder, "not/there.toml")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pupgevent: not/there.toml cannot be written: no such file or directory\n"


def test_a_folder_that_one_may_not_write_to_is_told(folder: Path) -> None:
    os.chmod(str(folder), 0o555)

    def attempt() -> str:
        try:
            new_file.write(str(folder / "a.toml"), b"new", private=False)
        except PupgeventError as error:
            return str(error)
        return "written"

    assert as_nobody(attempt).endswith("a.toml cannot be written: permission denied")
    os.chmod(str(folder), 0o755)
    assert os.listdir(str(folder)) == []


# What is refused.


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("Procfile", "", "Procfile: no process is in it (name: command)"),
        ("Procfile", "web: a\n\nweb: b", 'Procfile:3: "web" is the process of line 1 already'),
        ("Procfile", "web: \n# worker: a", "Procfile: no process is in it (name: command)"),
        ("Procfile", "web: a\0", "Procfile:1: holds a NUL byte: is it text?"),
        ("a.json", '{"apps": [{"name": "a",, }]}', "a.json:1: "),
        ("a.json", '{"apps": []}', "a.json:1: apps is empty"),
        ("a.json", '{"apps": [\n{"script": "a"},\n{"name": "b"}]}',
         "a.json:3: an application has no script, or none that is a string"),
        ("a.json", '{"apps": [7]}', "a.json:1: an application is no object"),
        ("a.json", '{"scripts": {}}', "a.json: it is not a Procfile, a PM2 ecosystem file as JSON,"
         " a supervisord.conf, a pup.json: pupgevent init alone reads a package.json"),
        ("pup.json", '{"processes": []}', "pup.json:1: processes has none"),
        ("pup.json", '{"processes": [{"cmd": "a"},\n3]}', "pup.json:2: processes[1] is no object"),
        ("pup.json", '{"processes": [{"id": "a", "worker": ["a.ts"]}]}',
         "pup.json:1: no process in it has a cmd"),
        ("pup.json", '{"processes": [{"id": "a", "cmd": ""}]}',
         'pup.json: check would refuse what it becomes: processes[0]: "cmd" is missing'),
        ("a.conf", "[supervisord]\n[include]\nfiles=b.conf", "a.conf: no [program:...] is in it:"
         " give the files that [include] names to --from, one after the other"),
        ("a.service", "[Unit]\n[Service]\nExecStart=a", "a.service: no [program:...] is in it: this"
         " is a unit of systemd, which is not read"),
        ("a.conf", "command=a", "a.conf:1: this is in no [section]"),
        ("a.conf", "[program:a]\ncommand=a\nnonsense", "a.conf:3: this is no [section], option or"),
        ("a.conf", "[program:a]\nuser=b", "a.conf:1: [program:a] has no command"),
        ("a.conf", "[program:a]\ncommand=a 'b", "a.conf:2: command: its quotes do not end"),
        ("a.conf", "[program:a]\ncommand=a %(b)s", "a.conf:2: command: %(b)s cannot be expanded"),
        ("a.conf", "[program:a]\ncommand=a\nnumprocs=x", 'a.conf:3: numprocs: "x" is not a whole'),
        ("a.conf", "[program:a]\ncommand=a\nenvironment=A", "a.conf:3: environment: it is not"),
        ("a.txt", "hello", "a.txt: it is not a Procfile, a PM2 ecosystem file as JSON, a"),
        ("a.toml", "", "a.toml: it is TOML, as configurations of pupgevent are"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(
    folder: Path, name: str, text: str, message: str
) -> None:
    assert refusal(folder, name, text).startswith(message)
    done = init_in(folder, "--from", name)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert not (folder / "pupgevent.toml").exists()


def test_a_source_that_is_not_there_is_told(folder: Path) -> None:
    done = init_in(folder, "--from=Procfile")
    assert (done.returncode, done.stderr) == (2, "Procfile: there is no such file\n")


def test_a_configuration_in_json_is_not_written(folder: Path) -> None:
    done = init_in(folder, "pup.json")
    assert done.returncode == 2
    assert "--from=pup.json" in done.stderr
    assert os.listdir(str(folder)) == []


@pytest.mark.skipif(shutil.which("node") is None, reason="the command is for node")
@pytest.mark.parametrize(
    "name, text",
    [
        ("ecosystem.config.js", "module.exports = { apps: [{ name: 'a', script: 'a.js' }] }"),
        ("ecosystem.config.cjs", "module.exports = { apps: [{ name: 'a', script: 'a.js' }] }"),
        ("eco.config.mjs", "export default { apps: [{ name: 'a', script: 'a.js' }] }"),
        ("process.json", "{ apps: [{ name: 'a', script: 'a.js' }] } // JavaScript, to PM2"),
    ],
)
def test_the_command_that_makes_json_of_javascript_does_so(
    folder: Path, name: str, text: str
) -> None:
    (folder / name).write_text(text)
    done = init_in(folder, "--from=" + name)
    assert done.returncode == 2
    command = done.stderr.strip().split("give that to --from: ")[1]
    subprocess.run(["sh", "-c", command], cwd=str(folder), check=True, timeout=100)
    made = command.rpartition(" > ")[2]
    assert 'cmd = ["node", "a.js"]' in made_in(folder, "--from=" + made)


# A first configuration.


def test_the_example_runs_at_once(folder: Path, free_ports: Callable[[int], List[int]]) -> None:
    text = made_in(folder)
    ports = free_ports(3)
    text = re.sub(r"(?m)^commonPort = \d+", "commonPort = %d" % ports[0], text)
    text = re.sub(r"(?m)^startPort = \d+", "startPort = %d" % ports[1], text)
    (folder / "pupgevent.toml").write_text(text)
    served = serving(folder, ports[0], 2)
    assert served == {"Hello from instance 0\n", "Hello from instance 1\n"}


def serving(folder: Path, port: int, count: int) -> "set[str]":
    """Run the folder's pupgevent.toml; the answers of so many instances at a port."""
    app = Running(folder)
    app.config = folder / "pupgevent.toml"
    try:
        app.start()
        return {answer_of(port) for _ in range(count * 3)}
    finally:
        app.end()


def answer_of(port: int) -> str:
    with urllib.request.urlopen("http://127.0.0.1:%d/" % port, timeout=40) as answer:
        return str(answer.read().decode())


def test_each_key_behind_a_hash_can_be_used(folder: Path) -> None:
    text = made_in(folder)
    used = re.sub(r"(?m)^#(\w+ = )", r"\1", text)
    assert used.count("\n#") < text.count("\n#")
    (folder / "pupgevent.toml").write_text(used)
    assert configuration.load(str(folder / "pupgevent.toml")).processes[0].restart_limit == 10


@pytest.mark.parametrize(
    "files, line",
    [
        ({"package.json": '{"name": "@shop/web", "scripts": {"start": "node server.js"}}'},
         "node server.js"),
        ({"package.json": '{"scripts": {"start": "a", "prestart": "b"}}'}, "npm start"),
        ({"app.py": "import flask\napp = flask.Flask(__name__)\n"},
         "gunicorn --bind 127.0.0.1:$PUP_CLUSTER_PORT app:app"),
        ({"main.py": "api: FastAPI = FastAPI()\n", ".venv/bin/uvicorn": ""},
         ".venv/bin/uvicorn --host 127.0.0.1 --port $PUP_CLUSTER_PORT main:api"),
        ({"manage.py": "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n",
          "shop/wsgi.py": ""}, "gunicorn --bind 127.0.0.1:$PUP_CLUSTER_PORT shop.wsgi"),
    ],
)
def test_an_application_in_the_folder_is_known(
    folder: Path, files: Dict[str, str], line: str
) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        os.chmod(str(folder / name), 0o755)
    made_in(folder)
    (process,) = configuration.load(str(folder / "pupgevent.toml")).processes
    assert process.cmd == line
    assert process.cluster is not None and process.cluster.common_port
    assert process.cluster.protocol == "http"


@pytest.mark.parametrize("text", ['{"scripts": {"start": 7}}', "{", "[]", '{"scripts": []}'])
def test_a_package_json_without_a_start_script_is_passed_over(folder: Path, text: str) -> None:
    (folder / "package.json").write_text(text)
    assert "An example that runs at once" in made_in(folder)


def test_files_of_other_tools_in_the_folder_are_pointed_out(shop: Path) -> None:
    done = init_in(shop)
    assert "Procfile lies here: pupgevent init --from=Procfile OTHER.toml" in done.stdout
    assert "pup.jsonc lies here" in done.stdout


def test_ports_that_are_taken_are_passed_over(folder: Path, free_port: Callable[[], int]) -> None:
    import socket

    from drafts import Draft
    from first_configuration import _free

    port = free_port()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen(1)
        assert _free(port, 1, Draft("a.toml")) > port


# Each source, run for real.


def test_a_procfile_serves(folder: Path, free_ports: Callable[[int], List[int]]) -> None:
    ports = free_ports(2)
    (folder / "echo.py").write_text(ECHO)
    (folder / "Procfile").write_text(
        "web: %s echo.py ${PORT:-$PUP_CLUSTER_PORT}\nworker: sleep 600\n" % sys.executable)
    text = made_in(folder, "--from=Procfile")
    assert "commonPort = 5000\nstartPort = 8000\n" in text
    (folder / "pupgevent.toml").write_text(text.replace(
        "= 5000", "= %d" % ports[0]).replace("= 8000", "= %d" % ports[1]))
    assert serving(folder, ports[0], 1) == {"%d  \n" % ports[1]}


@pytest.mark.skipif(shutil.which("node") is None, reason="PM2's applications are node's")
def test_an_ecosystem_file_serves(folder: Path, free_ports: Callable[[int], List[int]]) -> None:
    ports = free_ports(3)
    (folder / "server.js").write_text(
        "const port = process.env.PORT || process.env.PUP_CLUSTER_PORT;\n"
        "require('http').createServer((request, response) => response.end(\n"
        "  process.argv[2] + ' ' + port + ' ' + process.env.GREETING + '\\n'))"
        ".listen(port, '127.0.0.1');\n")
    (folder / "eco.json").write_text("""{"apps": [{"script": "server.js", "args": "'two words'",
        "instances": 2, "env": {"PORT": %d, "GREETING": "hello"}}]}""" % ports[0])
    text = made_in(folder, "--from=eco.json")
    (folder / "pupgevent.toml").write_text(text.replace("= 8000", "= %d" % ports[1]))
    assert serving(folder, ports[0], 2) == {
        "two words %d hello\n" % port for port in ports[1:]}


def test_a_supervisord_conf_serves(
    folder: Path, free_ports: Callable[[int], List[int]], monkeypatch: "pytest.MonkeyPatch"
) -> None:
    monkeypatch.setenv("SHOP", "the $HOME of `all`")
    ports = free_ports(3)
    (folder / "echo.py").write_text(ECHO)
    (folder / "supervisord.conf").write_text(
        "[program:web]\ncommand=%s %%(here)s/echo.py %%(process_num)d 'a  $b' ; words\n"
        "process_name=%%(program_name)s_%%(process_num)d\nnumprocs=2\nnumprocs_start=%d\n"
        'environment=GREETING="%%(ENV_SHOP)s, ""100%%%%",WORKER="w-%%(process_num)d"\n'
        % (sys.executable, ports[1]))
    text = made_in(folder, "--from=supervisord.conf")
    assert "startPort = %d\n" % ports[1] in text
    (folder / "pupgevent.toml").write_text(text.replace(
        "startPort =", "commonPort = %d\nstartPort =" % ports[0]))
    assert serving(folder, ports[0], 2) == {
        "%d a  $b the $HOME of `all`, 100%% w-%d\n" % (port, port) for port in ports[1:]}


def test_a_pup_json_serves(folder: Path, free_ports: Callable[[int], List[int]]) -> None:
    ports = free_ports(3)
    (folder / "echo.py").write_text(ECHO)
    (folder / "pup.json").write_text("""{"processes": [{"id": "web", "autostart": true,
        "cmd": "%s echo.py $PUP_CLUSTER_PORT", "env": {"GREETING": "hello"}, "plugins": [],
        "cluster": {"instances": 2, "commonPort": %d, "startPort": %d}}]}""" % (
            sys.executable, ports[0], ports[1]))
    assert "Not carried over: " in made_in(folder, "--from=pup.json")
    assert serving(folder, ports[0], 2) == {"%d hello \n" % port for port in ports[1:]}
