"""Files that change are told, by inotify and by looking again and again."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import gevent
import pytest

import file_tree
import file_watch
from concurrency import Threads
from errors import ShortageError
from file_filter import FileFilter
from file_watch import FileWatch, Watched, WatchOwner
from model import Watcher
from supervision import CHILDREN, wait_until

#: Of [watcher] in these tests; `interval` is short, as nobody types here.
SETTINGS = Watcher(0.05, (".js",), ("**/*.*",), ("**/.git/**", "**/node_modules/**"))

#: Longer than a test machine pauses between two system calls.
CALM = 1.0


class Recorder(WatchOwner):
    """Writes down what it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: List[List[str]] = []
        self.lines: List[str] = []
        self.errors: List[Exception] = []

    def on_files_changed(self, paths: Tuple[str, ...], files: List[str]) -> None:
        if self.errors:
            raise self.errors.pop()
        self.told.append(sorted(os.path.relpath(each, str(self.folder)) for each in files))

    def info(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append("warning: " + text)

    @property
    def files(self) -> List[str]:
        return sorted({name for names in self.told for name in names})


class Stage:
    """A watch over a folder, at work."""

    def __init__(self, folder: Path, *, use_inotify: bool = True, threads: Any = None) -> None:
        self.folder = folder
        self.owner = Recorder(folder)
        self.watch = FileWatch(self.owner, threads or Threads(2), use_inotify=use_inotify)

    def follow(self, *paths: str, own: Tuple[str, ...] = (), **settings: Any) -> None:
        """Watch these paths, and wait until what is there is known."""
        before = len(self.begun)
        found = tuple(str(self.folder / path) if path != "." else str(self.folder)
                      for path in paths)
        self.watch.follow([Watched(
            found, SETTINGS._replace(**settings),
            frozenset(str(self.folder / each) for each in own))])
        wait_until(lambda: len(self.begun) > before)

    @property
    def begun(self) -> List[str]:
        return [line for line in self.owner.lines if " in " in line and "folder" in line]

    def write(self, name: str, text: str = "x") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def tells(self, *files: str) -> None:
        """Wait until these are told, with no other one."""
        wait_until(lambda: set(files) <= set(self.owner.files), explain=lambda: str(
            (self.owner.told, self.owner.lines)))
        assert self.owner.files == sorted(files)
        self.owner.told.clear()

    def tells_only(self, name: str) -> None:
        """What has happened until now is no change: this one is told, and nothing else."""
        self.write(name, "what ends it")
        self.tells(name)

    @property
    def watched(self) -> List[str]:
        """The folders of which inotify tells, below the folder."""
        queue: Any = self.watch._queue
        return sorted(os.path.relpath(folder, str(self.folder))
                      for places in queue._places.values() for _, folder in places)


@pytest.fixture(params=["inotify", "looking"])
def stage(request: Any, tmp_path: Path) -> Iterator[Stage]:
    found = Stage(tmp_path, use_inotify=request.param == "inotify")
    yield found
    found.watch.close()


@pytest.fixture
def inotified(tmp_path: Path) -> Iterator[Stage]:
    found = Stage(tmp_path)
    yield found
    found.watch.close()


def append(path: Path) -> None:
    with open(str(path), "a") as file:
        file.write("more")


def write_while_open(path: Path) -> None:
    """As one who never closes it."""
    opened.append(open(str(path), "a"))  # noqa: SIM115
    opened[-1].write("more")
    opened[-1].flush()


#: What is still open.
opened: List[Any] = []


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    yield
    while opened:
        opened.pop().close()


def save_by_rename(path: Path) -> None:
    """As editors do."""
    draft = path.with_name("draft~")
    draft.write_text("new")
    draft.replace(path)


def save_with_backup(path: Path) -> None:
    """As others do: the file itself is moved away first."""
    path.replace(path.with_name("a.js~"))
    path.write_text("new")


def replace_in_the_same_size_and_time(path: Path) -> None:
    """As rsync --times does."""
    before = path.stat()
    save_by_rename(path)
    os.utime(str(path), ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [
    append, write_while_open, save_by_rename, save_with_backup, replace_in_the_same_size_and_time,
    lambda path: path.unlink(), lambda path: path.touch(), lambda path: path.chmod(0o755),
    lambda path: path.write_text(""),
], ids=["append", "still open", "rename", "backup", "same size and time", "unlink", "touch",
        "chmod", "truncate"])
def test_whatever_is_done_to_a_file_is_told(stage: Stage, change: Callable[[Path], Any]) -> None:
    stage.write("src/a.js", "old")
    stage.write("src/b.js", "old")
    stage.follow("src")
    change(stage.folder / "src" / "a.js")
    stage.tells("src/a.js")


def test_to_read_or_to_list_is_no_change(stage: Stage) -> None:
    stage.write("a.js")
    stage.follow(".")
    (stage.folder / "a.js").read_text()
    os.listdir(str(stage.folder))
    stage.tells_only("b.js")


def test_a_file_that_is_moved_is_told_at_both_places(stage: Stage) -> None:
    stage.write("a.js")
    stage.write("sub/b.js")
    stage.follow(".")
    (stage.folder / "a.js").replace(stage.folder / "sub" / "a.js")
    stage.tells("a.js", "sub/a.js")


def test_what_does_not_pass_the_patterns_is_no_change(stage: Stage) -> None:
    stage.write("a.js")
    stage.follow(".", skip=("**/.git/**", "gen/**"), match=("*.js", "src/**", "gen/**"))
    for name in ("a.py", "js", "gen/a.js", ".git/a.js", "other/a.js", "src/a.ts", "a.js.swp"):
        stage.write(name)
    stage.tells_only("src/deep/a.js")


def test_without_exts_and_match_every_file_counts(stage: Stage) -> None:
    stage.follow(".", exts=(), match=())
    stage.write("Makefile")
    stage.tells("Makefile")


def test_changes_that_come_together_are_told_once_all_is_quiet(stage: Stage) -> None:
    stage.follow(".", interval=CALM)
    names = ["%d/%d.js" % (folder, number) for folder in range(5) for number in range(10)]
    for name in names:
        stage.write(name)
    wait_until(lambda: stage.owner.told)
    assert stage.owner.told == [sorted(names)]


def test_changes_without_end_are_told_all_the_same(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_watch, "_LONGEST_WAIT", 0.5)
    monkeypatch.setattr(file_watch, "_LONGEST_INTERVALS", 0)
    stage.follow(".", interval=0.3)

    def go_on() -> None:
        for number in range(10**6):
            stage.write("a.js", str(number))
            gevent.sleep(0.01)

    writer = gevent.spawn(go_on)
    try:
        wait_until(lambda: len(stage.owner.told) > 1)
    finally:
        writer.kill()
    assert stage.owner.files == ["a.js"]


def test_files_in_new_folders_are_told_and_watched(stage: Stage) -> None:
    stage.follow(".")
    stage.write("a/b/c/d.js")
    stage.tells("a/b/c/d.js")
    append(stage.folder / "a/b/c/d.js")
    stage.tells("a/b/c/d.js")


def test_a_folder_that_is_moved_in_or_away_brings_its_files(stage: Stage) -> None:
    stage.write("other/x/a.js")
    stage.follow("src")
    (stage.folder / "src").mkdir()
    (stage.folder / "other" / "x").rename(stage.folder / "src" / "x")
    stage.tells("src/x/a.js")
    (stage.folder / "src" / "x").rename(stage.folder / "other" / "y")
    stage.tells("src/x/a.js")
    # What is not below the folder any more is none of ours.
    append(stage.folder / "other/y/a.js")
    stage.tells_only("src/b.js")


def test_a_folder_that_is_replaced_is_another(stage: Stage) -> None:
    stage.write("src/lib/a.js")
    stage.write("next/lib/b.js")
    stage.follow("src")
    (stage.folder / "src").rename(stage.folder / "old")
    (stage.folder / "next").rename(stage.folder / "src")
    stage.tells("src/lib/a.js", "src/lib/b.js")
    append(stage.folder / "src/lib/b.js")
    stage.tells("src/lib/b.js")


def test_a_folder_that_comes_later_is_watched_from_then_on(stage: Stage) -> None:
    stage.follow("dist/js")
    assert stage.begun == ["warning: %s: 0 files in 0 folders pass `exts`, `match` and `skip` of"
                           " `watcher`: no change is seen there" % (stage.folder / "dist/js")]
    stage.write("dist/js/a.js")
    stage.tells("dist/js/a.js")
    shutil.rmtree(str(stage.folder / "dist"))
    stage.tells("dist/js/a.js")
    stage.write("dist/js/b.js")
    stage.tells("dist/js/b.js")


def test_a_file_that_is_named_counts_whatever_it_is_called(stage: Stage) -> None:
    stage.write("config.yaml")
    stage.follow("config.yaml", "later.ini")
    save_by_rename(stage.folder / "config.yaml")
    stage.tells("config.yaml")
    stage.write("later.ini")
    stage.tells("later.ini")


@pytest.mark.parametrize("path", ["current", "current/src", "."])
def test_a_link_that_is_switched_is_a_change_and_what_is_there_now_is_watched(
    stage: Stage, path: str
) -> None:
    for release in "12":
        stage.write("releases/%s/src/a.js" % release)
    link = stage.folder / "current"
    link.symlink_to("releases/1")
    stage.follow(path)
    draft = stage.folder / "draft"
    draft.symlink_to("releases/2")
    draft.replace(link)
    stage.tells("current/src/a.js")
    append(link / "src" / "a.js")
    stage.tells("current/src/a.js", *["releases/2/src/a.js"] * (path == "."))


def test_a_file_behind_a_link_is_told_and_a_link_to_come_too(stage: Stage) -> None:
    stage.write("other/a.js")
    stage.write("src/x.js")
    (stage.folder / "src" / "a.js").symlink_to("../other/a.js")
    (stage.folder / "src" / "later").symlink_to("../other/later")
    stage.follow("src")
    append(stage.folder / "other/a.js")
    stage.tells("src/a.js")
    stage.write("other/later/b.js")
    stage.tells("src/later/b.js")
    (stage.folder / "src" / "new").symlink_to("../other/later")
    stage.tells("src/new/b.js")


def test_links_that_lead_in_circles_have_an_end(stage: Stage) -> None:
    stage.write("src/a/a.js")
    stage.write("src/b/b.js")
    (stage.folder / "src" / "self").symlink_to(".")
    (stage.folder / "src" / "a" / "up").symlink_to("..")
    (stage.folder / "src" / "a" / "over").symlink_to("../b")
    (stage.folder / "src" / "b" / "over").symlink_to("../a")
    stage.follow("src")
    append(stage.folder / "src/a/a.js")
    stage.tells("src/a/a.js", "src/b/over/a.js")


def test_a_path_within_another_one_has_its_own_names(stage: Stage) -> None:
    """A pattern is matched from the innermost watched folder on, as in Pup."""
    stage.write("src/a.js")
    stage.follow(".", "src", match=("*.js",))
    append(stage.folder / "src/a.js")
    stage.tells("src/a.js")
    stage.write("lib/a.js")
    stage.tells_only("b.js")


def test_our_own_files_are_no_change(stage: Stage) -> None:
    stage.follow(".", own=("run/app.pid", "logs/app.log", "app"), exts=(), match=())
    for name in ("run/app.pid", "run/app-12.pid", "run/app.pid.4711", "logs/app.log", "app",
                 "logs/app.log.1", "logs/app.log.12.gz", "logs/app-3.log.2"):
        stage.write(name)
    stage.tells_only("run/app.pidx")
    stage.tells_only("logs/applog")


def test_what_is_no_file_is_no_change(stage: Stage) -> None:
    stage.follow(".")
    os.mkfifo(str(stage.folder / "pipe.js"))
    (stage.folder / "folder.js").mkdir()
    stage.tells_only("a.js")


def test_names_that_are_not_utf_8_are_told(stage: Stage) -> None:
    stage.follow(".")
    stage.write(os.fsdecode(b"\xff\xfe.js"))
    stage.tells(os.fsdecode(b"\xff\xfe.js"))


def test_the_root_of_all_can_be_watched(tmp_path: Path) -> None:
    """As far as `skip` lets us: a path that ends in a slash of its own."""
    tree = file_tree.FileTree(["/"], FileFilter(
        SETTINGS._replace(skip=("**",), exts=()), frozenset()))
    tree.look()
    assert tree.counts() == (0, 1)


def test_other_paths_and_settings_apply_at_once_and_the_same_go_on(stage: Stage) -> None:
    stage.write("a/a.js")
    stage.write("b/b.js")
    stage.follow("a")
    watch = next(iter(stage.watch._watches.values()))
    stage.watch.follow(list(stage.watch._watches))
    assert list(stage.watch._watches.values()) == [watch]
    stage.follow("b")
    append(stage.folder / "a/a.js")
    append(stage.folder / "b/b.js")
    stage.tells("b/b.js")
    stage.follow("b", exts=(".py",))
    append(stage.folder / "b/b.js")
    stage.tells_only("b/b.py")


# inotify


def test_folders_that_are_skipped_take_no_watch(inotified: Stage) -> None:
    for number in range(20):
        inotified.write("node_modules/%d/x.js" % number)
        inotified.write("sub/.git/%d/x.js" % number)
    inotified.follow(".")
    assert inotified.watched == [".", "sub"]


def test_watches_are_given_back(inotified: Stage) -> None:
    inotified.write("a/b/a.js")
    inotified.write("c/a.js")
    inotified.follow("a", "c")
    assert inotified.watched == ["a", "a/b", "c"]
    shutil.rmtree(str(inotified.folder / "a"))
    inotified.tells("a/b/a.js")
    wait_until(lambda: inotified.watched == ["c"])
    inotified.watch.follow([])
    wait_until(lambda: inotified.watched == [])


def test_two_who_watch_one_folder_are_both_told(inotified: Stage) -> None:
    inotified.write("a/a.js")
    found = [Watched((str(inotified.folder / "a"),), SETTINGS._replace(interval=interval),
                     frozenset()) for interval in (0.01, 0.02)]
    inotified.watch.follow(found)
    wait_until(lambda: len(inotified.begun) == 2)
    append(inotified.folder / "a/a.js")
    wait_until(lambda: inotified.owner.told == [["a/a.js"]] * 2)
    inotified.watch.follow(found[1:])
    wait_until(lambda: inotified.watched == ["a"])
    append(inotified.folder / "a/a.js")
    wait_until(lambda: inotified.owner.told == [["a/a.js"]] * 3)


def test_an_overflow_of_the_queue_loses_nothing(inotified: Stage) -> None:
    """Nobody reads while this goes on."""
    inotified.write("other/x.js")
    inotified.follow(".")
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    # Of two by turns, since what happens twice in a row is one event.
    files = [open(str(inotified.folder / name), "ab", 0) for name in ("a.py", "b.py")]  # noqa: SIM115
    for number in range(limit + 10):
        files[number % 2].write(b"x")
    for file in files:
        file.close()
    append(inotified.folder / "other/x.js")
    inotified.tells("other/x.js")
    assert inotified.watch.losses > 0


def test_a_callback_that_the_loop_has_dropped_comes_back(
    inotified: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_watch, "_LINKS_EVERY", 0.05)
    inotified.follow(".")
    queue: Any = inotified.watch._queue
    queue._watcher.stop()
    inotified.write("a.js")
    inotified.tells("a.js")


def test_the_descriptor_is_not_inherited_and_closed_at_the_end(inotified: Stage) -> None:
    inotified.follow(".")
    queue: Any = inotified.watch._queue
    fd = queue._inotify.fileno()
    assert os.readlink("/proc/self/fd/%d" % fd) == "anon_inode:inotify"
    assert not os.get_inheritable(fd)
    inotified.watch.close()
    inotified.watch.close()
    with pytest.raises(OSError):
        os.fstat(fd)


#: In a user namespace of its own a process has limits of its own (user_namespaces(7)).
OWN_LIMITS = ["unshare", "--user", "--map-root-user", "sh", "-c",
              'echo "$0" > /proc/sys/user/"$1" && shift && exec "$@"']


def own_limits(limit: str, value: int) -> List[str]:
    command = [*OWN_LIMITS, str(value), limit]
    try:
        done = subprocess.run([*command, "true"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("needs unshare(1)")
    if done.returncode:
        pytest.skip("needs user namespaces with limits of their own")
    return command


@pytest.mark.parametrize("limit, value, warning", [
    ("max_inotify_watches", 3,
     "warning: there are no more watches (fs.inotify.max_user_watches): all files there are looked"
     " at again and again"),
    ("max_inotify_instances", 0,
     "warning: no inotify (Too many open files): all files are looked at again and again"),
])
def test_without_watches_there_is_one_warning_and_changes_are_found_all_the_same(
    tmp_path: Path, limit: str, value: int, warning: str
) -> None:
    command = own_limits(limit, value)
    for number in range(8):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "a.js").write_text("")
    with subprocess.Popen(
        [*command, sys.executable, "-u", str(CHILDREN / "watching.py"), str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True,
    ) as child:
        try:
            assert child.stdout is not None
            lines = [child.stdout.readline().rstrip("\n") for _ in range(3)]
            assert lines.count(warning) == 1 and sum("watching" in each for each in lines) == 2
            append(tmp_path / "7" / "a.js")
            told = [child.stdout.readline() for _ in range(2)]
            assert told == ["changed %s/7/a.js\n" % tmp_path] * 2
        finally:
            child.kill()


def test_a_file_system_without_events_is_looked_at(
    inotified: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_tree, "_file_system", lambda path: "nfs4")
    inotified.write("a.js")
    inotified.follow(".")
    assert inotified.watched == []
    assert "warning: %s is on nfs4: all files there are looked at again and again" % (
        inotified.folder) in inotified.owner.lines
    append(inotified.folder / "a.js")
    inotified.tells("a.js")


def test_the_kind_of_a_file_system_is_known() -> None:
    assert file_tree._file_system("/proc") == "proc"
    assert file_tree._file_system("/nowhere/at/all") == ""


# When something is short, or slow


class Shaky(Threads):
    """Fails now and then."""

    def __init__(self, errors: List[Exception]) -> None:
        super().__init__(1)
        self.errors = errors

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self.errors:
            raise self.errors.pop()
        return super().call(function, *arguments)


@pytest.mark.parametrize("use_inotify", [True, False])
def test_the_watch_outlives_every_shortage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_inotify: bool
) -> None:
    for name in ("_RETRY_DELAY", "_BUG_DELAY"):
        monkeypatch.setattr(file_watch, name, 0.01)
    errors = some_errors()
    stage = Stage(tmp_path, use_inotify=use_inotify, threads=Shaky(errors))
    with contextlib.closing(stage.watch):
        stage.write("a.js")
        stage.follow(".")
        assert errors == []
        errors += some_errors()
        stage.owner.errors += some_errors()
        append(tmp_path / "a.js")
        stage.tells("a.js")
        assert errors == stage.owner.errors == []
        assert any("the watch of %s met a bug" % tmp_path in each for each in stage.owner.lines)


def some_errors() -> List[Exception]:
    return [ShortageError("no thread"), MemoryError(), OSError(errno.EIO, "as it happens")]


def test_a_look_that_ran_out_of_memory_is_made_again(
    inotified: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_watch, "_RETRY_DELAY", 0.01)
    for name in "abc":
        inotified.write("%s/x.js" % name)
    inotified.follow(".")
    usual, left = file_tree.FileTree._list, [MemoryError(), MemoryError()]

    def poor(self: Any, visit: Any) -> Any:
        if left:
            raise left.pop()
        return usual(self, visit)

    monkeypatch.setattr(file_tree.FileTree, "_list", poor)
    for name in "abc":
        append(inotified.folder / name / "x.js")
    inotified.tells("a/x.js", "b/x.js", "c/x.js")
    assert left == []


def test_events_that_are_lost_for_lack_of_memory_are_made_up_for(
    inotified: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    inotified.write("a.js")
    inotified.follow(".")
    queue: Any = inotified.watch._queue
    usual, left = queue._inotify.read, [MemoryError()]

    def read() -> Any:
        for event in usual():
            if left:
                raise left.pop()
            yield event

    monkeypatch.setattr(queue._inotify, "read", read)
    append(inotified.folder / "a.js")
    inotified.tells("a.js")
    assert left == []


def test_a_folder_that_hangs_holds_up_nobody_else(
    inotified: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one on a file server that has gone: the hub goes on, and so do the other watches."""
    inotified.write("slow/a.js")
    inotified.write("quick/a.js")
    reader, writer = os.pipe()
    usual = file_tree.FileTree.look

    def look(self: Any, folders: Any = None) -> None:
        if any(path.endswith("slow") for path in self._roots):
            os.read(reader, 1)
        usual(self, folders)

    monkeypatch.setattr(file_tree.FileTree, "look", look)
    try:
        inotified.watch.follow([
            Watched((str(inotified.folder / name),), SETTINGS, frozenset())
            for name in ("slow", "quick")])
        wait_until(lambda: len(inotified.begun) == 1)
        append(inotified.folder / "quick/a.js")
        inotified.tells("quick/a.js")
    finally:
        os.write(writer, b"x" * 10)
        wait_until(lambda: len(inotified.begun) == 2)
        inotified.watch.close()
        os.close(reader)
        os.close(writer)


def test_more_folders_than_anybody_has_are_cut_off_with_a_warning(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_tree, "MOST_FOLDERS", 3)
    for number in range(9):
        stage.write("src/%d/a.js" % number)
    stage.follow("src")
    assert sum("more than 3 folders" in each for each in stage.owner.lines) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_told(stage: Stage) -> None:
    stage.write("src/a.js")
    (stage.folder / "src").chmod(0)
    try:
        stage.follow("src")
        assert "warning: %s cannot be read: permission denied" % (
            stage.folder / "src") in stage.owner.lines
    finally:
        (stage.folder / "src").chmod(0o755)


# What it costs


def test_a_file_that_is_written_without_end_costs_few_reads(inotified: Stage) -> None:
    """A log in a watched folder, say."""
    inotified.follow(".")
    queue: Any = inotified.watch._queue
    reads: Dict[str, int] = {"reads": 0}
    usual = queue._inotify.read

    def read() -> Any:
        reads["reads"] += 1
        return usual()

    queue._inotify.read = read
    began = queue_time = inotified.watch.clock()
    with open(str(inotified.folder / "app.log"), "ab", 0) as file:
        while queue_time - began < 0.5:
            file.write(b"x\n")
            gevent.sleep(0)
            queue_time = inotified.watch.clock()
    assert 1 <= reads["reads"] <= 0.5 / file_watch._REST + 2
    inotified.tells_only("a.js")
