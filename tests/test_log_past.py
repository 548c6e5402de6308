"""What `logs` shows of before: each line once, in order, wherever memory ends and files begin."""

import gzip
import os
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import gevent
import pytest
from hypothesis import given, settings, strategies as st

from log_history import Wanted
from log_stage import Stage, numbers, only, texts, without_times
from supervision import PATIENCE, wait_until

pytest_plugins = ["log_stages"]


# Memory and files


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("compress", [False, True])
@settings(max_examples=50)
@given(st.data())
def test_each_line_is_there_once_and_in_order(
    small_memory: None, raw: bool, compress: bool, data: st.DataObject
) -> None:
    """Whatever the sizes, the rotations, the number that is asked for, and the moment."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(
            Path(folder), max_bytes=data.draw(st.integers(60, 1500)), backups=99,
            compress=compress, decorate_files=not raw)
        stage.have("job")
        written: List[str] = []
        for width in data.draw(st.lists(st.integers(0, 120), max_size=50)):
            written.append("%d %s" % (len(written), "x" * width))
            stage.say("job", written[-1])
            what = data.draw(st.integers(0, 9))
            if what == 0:
                stage.flush()
            elif what == 1:
                gevent.sleep(0)
            elif what == 2:
                most = data.draw(st.integers(1, 60))
                assert texts(stage.shown(most)) == written[-most:]
            elif what == 3 and not raw:
                assert texts(stage.shown(since=0)) == written
        assert texts(stage.shown(1000)) == written
        if not raw:
            assert texts(stage.shown(since=0)) == written
        assert texts(stage.shown()) == written[-7:]
        stage.close()


@settings(max_examples=50)
@given(st.data())
def test_lines_of_several_in_one_file_are_told_apart(
    small_memory: None, data: st.DataObject
) -> None:
    """A quiet one is remembered for longer than a loud one beside it."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), max_bytes=data.draw(st.integers(200, 3000)), backups=99)
        stage.have("a", 2, path="all.log")
        stage.have("b", path="all.log")
        written: Dict[str, List[str]] = {"a-1": [], "a-2": [], "b": []}
        for name in data.draw(st.lists(st.sampled_from(["a-1", "a-2", "a-2", "a-2", "b"]),
                                       max_size=70)):
            written[name].append(str(len(written[name])))
            stage.say(name, written[name][-1])
            if data.draw(st.integers(0, 5)) == 0:
                stage.flush()
        for name, lines in written.items():
            most = data.draw(st.integers(1, 80))
            assert stage.shown(most, wanted=only(name)) == [
                "[%s][stdout] %s" % (name, line) for line in lines[-most:]]
        everything = stage.shown(1000)
        assert len(everything) == sum(map(len, written.values()))
        for name, lines in written.items():
            assert texts([each for each in everything if "[%s]" % name in each]) == lines
        of_a = stage.shown(1000, wanted=Wanted({"a"}, set()))
        assert of_a == [each for each in everything if "[b]" not in each]
        stage.close()


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("compress", [False, True])
def test_past_and_what_follows_are_what_was_written_also_in_a_flood(
    tmp_path: Path, small_memory: None, raw: bool, compress: bool
) -> None:
    stage = Stage(tmp_path, max_bytes=20000, backups=400, compress=compress,
                  decorate_files=not raw)
    stage.have("job")
    count = [0]
    goes_on = [True]

    def flood() -> None:
        while goes_on:
            # As a child does, whose pipe is full.
            if not stage.writer("job").sink.full and count[0] < 150000:
                for _ in range(20):
                    count[0] += 1
                    stage.say("job", count[0])
            gevent.sleep(0.001)

    flooding = gevent.spawn(flood)
    try:
        for most in (1, 10, 300, 3000, 10**6):
            wait_until(lambda most=most: count[0] > min(most, 3000))  # type: ignore[misc]
            follower = stage.outlets.history.follow(None, 1 << 30)
            began = count[0]
            found = texts(stage.shown(most))
            found += texts(without_times(follower.take(0)))
            follower.close()
            assert int(found[-1]) >= began
            assert found == numbers(int(found[0]), int(found[-1]))
            assert int(found[0]) == max(1, began - most + 1)
    finally:
        goes_on.clear()
        flooding.join(PATIENCE)
        stage.close()


def test_what_a_file_has_of_before_is_older(
    log_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    first = log_stage()
    first.have("a", path="all.log")
    for number in range(1, 21):
        first.say("a", number)
    first.close()
    second = log_stage()
    second.have("a", path="all.log")
    assert texts(second.shown(3)) == numbers(18, 20)
    assert second.shown() == []
    for number in range(21, 36):
        second.say("a", number)
    assert texts(second.shown(100)) == numbers(1, 35)
    assert texts(second.shown(20)) == numbers(16, 35)
    assert texts(second.shown(5)) == numbers(31, 35)
    assert texts(second.shown()) == numbers(29, 35)


def test_lines_that_were_lost_are_still_in_memory(
    log_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    here = log_stage()
    here.have("a", path="later/a.log")
    for number in range(1, 4):
        here.say("a", number)
    here.flush()
    assert texts(here.shown(100, wanted=only("a"))) == numbers(1, 3)
    (tmp_path / "later").mkdir()
    wait_until(lambda: time.monotonic() > here.outlets._files._files[
        str(tmp_path / "later" / "a.log")]._closed_until)
    for number in range(4, 6):
        here.say("a", number)
    here.flush()
    assert texts(here.shown(100, wanted=only("a"))) == numbers(1, 5)
    for number in range(6, 20):
        here.say("a", number)
    # The first three are in no file, and no longer in memory.
    assert texts(here.shown(100, wanted=only("a"))) == numbers(4, 19)


@pytest.mark.parametrize("how", ["copytruncate", "moved", "compressed", "removed"])
def test_what_other_tools_do_to_the_files(
    log_stage: Callable[..., Stage], tmp_path: Path, how: str
) -> None:
    here = log_stage()
    here.have("a")
    path, backup = tmp_path / "a.log", tmp_path / "a.log.1"
    for number in range(1, 16):
        here.say("a", number)
    here.flush()
    if how == "copytruncate":
        backup.write_bytes(path.read_bytes())
        os.truncate(str(path), 0)
    else:
        path.rename(backup)
    assert texts(here.shown(100)) == numbers(1, 15)
    if how != "copytruncate":
        here.outlets.reopen_files()
        here.flush()
    if how == "compressed":
        (tmp_path / "a.log.1.gz").write_bytes(gzip.compress(backup.read_bytes()))
    if how in ("compressed", "removed"):
        backup.unlink()
    for number in range(16, 20):
        here.say("a", number)
        expected = numbers(number - 6, number) if how == "removed" else numbers(1, number)
        assert texts(here.shown(100)) == expected
        here.flush()
        assert texts(here.shown(100)) == expected


def test_reload_that_leads_elsewhere_and_back_doubles_nothing(
    log_stage: Callable[..., Stage]
) -> None:
    here = log_stage()
    for number in range(12):
        here.have("a", path="ab"[number % 2] + ".log")
        here.say("a", number)
        here.flush()
    assert texts(here.shown(100)) == ["1", "3", *numbers(5, 11)]


def test_without_memory_files_show_as_much(log_stage: Callable[..., Stage]) -> None:
    here = log_stage(internal_log=0.0)
    here.have("a")
    here.have("b", internal_log=3600.0)
    for number in range(1, 2001):
        here.say("a", number)
        here.say("b", number)
    assert texts(here.shown(wanted=only("a")))[-7:] == numbers(1994, 2000)
    shown = here.shown()
    assert texts([each for each in shown if "[b]" in each]) == numbers(1994, 2000)
    of_a = texts([each for each in shown if "[a]" in each])
    assert 7 <= len(of_a) < 2000 and of_a == numbers(2001 - len(of_a), 2000)


def test_lines_too_old_for_memory_are_in_files(log_stage: Callable[..., Stage]) -> None:
    here = log_stage(internal_log=0.05)
    here.have("a")
    for number in range(1, 4):
        here.say("a", number)
    wait_until(lambda: not here.shown())
    here.say("a", 4)
    assert texts(here.shown(100)) == numbers(1, 4)


def test_what_pupgevent_says_of_an_instance_is_in_its_own_file(
    log_stage: Callable[..., Stage]
) -> None:
    here = log_stage(own="own.log")
    here.have("a", 2, path="{id}-{instance}.log")
    for number in range(1, 15):
        for name in ("a-1", "a-2"):
            here.say(name, number)
            here.outlets.log.info("core", "about %d" % number, here.writer(name)._source)
    here.outlets.log.info("core", "of nobody")
    of_one = here.shown(1000, wanted=only("a-1"))
    assert texts([each for each in of_one if "stdout" in each]) == numbers(1, 14)
    assert texts([each for each in of_one if "core" in each]) == [
        "about %d" % number for number in range(1, 15)]
    assert len(of_one) == 28
    assert here.shown(1000)[-1] == "[core] of nobody" and len(here.shown(1000)) == 57


def test_instances_that_are_no_more_are_shown_with_their_process(
    log_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    first = log_stage()
    first.have("a", 3, path="all.log")
    first.have("gone", path="all.log")
    for name in ("a-1", "a-2", "a-3", "gone"):
        first.say(name, "hello")
    first.close()
    second = log_stage()
    second.have("a", 1, path="all.log")
    assert len(second.shown(10, wanted=Wanted({"a"}, set()))) == 3
    assert len(second.shown(10)) == 4


# Raw files


def test_raw_files_show_whose_lines_they_are(
    log_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    first = log_stage(decorate_files=False)
    first.have("a", 2, path="{id}-{instance}.log")
    first.have("b", stderr=str(tmp_path / "b.err"))
    first.have("c", 2, path="c.log")
    first.have("d", path="de.log")
    first.have("e", path="de.log")
    for name in ("a-1", "a-2", "b", "c-1", "c-2", "d", "e"):
        first.say(name, "hello\rthere")
    first.close()
    second = log_stage(decorate_files=False)
    second.have("a", 2, path="{id}-{instance}.log")
    second.have("b", stderr=str(tmp_path / "b.err"))
    second.have("c", 2, path="c.log")
    second.have("d", path="de.log")
    second.have("e", path="de.log")
    assert sorted(second.shown(100)) == [
        "[%s] hello\rthere" % name for name in ("a-1", "a-2", "b][stdout", "c", "c")]
    assert second.shown(100, wanted=only("a-2")) == ["[a-2] hello\rthere"]
    # Nothing tells which of its lines are those of the one.
    assert second.shown(100, wanted=only("c-1")) == []
    assert second.shown(100, wanted=Wanted({"c"}, set())) == ["[c] hello\rthere"] * 2
    # Nor which are those of the one process.
    assert second.shown(100, wanted=Wanted({"d"}, set())) == []


def test_instances_with_raw_files_take_turns(
    log_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    first = log_stage(decorate_files=False)
    first.have("a", 2, path="{id}-{instance}.log")
    for number in range(3000):
        first.say("a-1", number)
        first.say("a-2", number)
    first.close()
    for instance in (1, 2):
        os.utime(str(tmp_path / ("a-%d.log" % instance)), (1000000, 1000000))
    second = log_stage(decorate_files=False)
    second.have("a", 2, path="{id}-{instance}.log")
    shown = second.shown(10)
    for name in ("a-1", "a-2"):
        assert texts([each for each in shown if name in each]) == numbers(2995, 2999)
    shown = second.shown(4000)
    for name in ("a-1", "a-2"):
        found = texts([each for each in shown if name in each])
        assert found == numbers(3000 - len(found), 2999)


def test_since_leaves_out_what_has_no_time(log_stage: Callable[..., Stage], tmp_path: Path) -> None:
    here = log_stage(decorate_files=False, max_bytes=100)
    here.have("a")
    for number in range(100, 200):
        here.say("a", number)
        here.flush()
    backups = sorted(tmp_path.glob("a.log.*"), key=lambda each: int(each.suffix[1:]))
    for age, backup in enumerate(backups):
        moment = time.time() - 1000 * (age + 1)
        os.utime(str(backup), (moment, moment))
    here.expects_hints = True
    # Of the two latest ones the backup before them tells when they were begun.
    found = texts(here.shown(since=time.time() - 3500))
    older = b"".join(each.read_bytes() for each in reversed(backups[:2])).decode().split()
    assert found[: len(older)] == older and found[-1] == "199"
    assert found == numbers(int(found[0]), 199)
    assert len(here.hints) == 1 and "a.log; -n shows them" in here.hints[0]
    assert here.shown(since=time.time() + 2) == [] and not here.hints


# Since a time


def write_hours(path: Path, began: float, hours: int, names: Tuple[str, ...]) -> None:
    """Some lines a minute of each."""
    with open(str(path), "wb") as file:
        for minute in range(60 * hours):
            stamp = time.strftime("[%Y-%m-%d %H:%M:%S]", time.localtime(began + 60 * minute))
            for name in names:
                file.write(("%s[%s][stdout] %d %s\n" % (stamp, name, minute, "x" * 500)).encode())


@pytest.mark.parametrize("packed", [False, True])
def test_since_cuts_by_the_time_that_stands_before_each_line(
    log_stage: Callable[..., Stage], tmp_path: Path, packed: bool
) -> None:
    began = 1795442640.0
    path = tmp_path / "all.log.1"
    write_hours(path, began, 10, ("a", "b"))
    if packed:
        (tmp_path / "all.log.1.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    (tmp_path / "all.log").write_bytes(b"")
    here = log_stage()
    here.have("a", path="all.log")
    here.have("b", path="all.log")
    for minute in (0, 1, 299, 300, 598, 599):
        shown = here.shown(since=began + 60 * minute, wanted=only("a"))
        assert [each.split()[1] for each in shown] == numbers(minute, 599)
        shown = here.shown(since=began + 60 * minute - 58.5)
        assert len(shown) == 2 * (600 - minute)
    assert here.shown(since=began + 36000) == []
    shown = here.shown(5, since=began + 60 * 597, wanted=only("b"))
    assert [each.split()[1] for each in shown] == numbers(597, 599)
    shown = here.shown(5, since=began, wanted=only("b"))
    assert [each.split()[1] for each in shown] == numbers(595, 599)


def test_since_leaves_out_what_is_older_in_memory(log_stage: Callable[..., Stage]) -> None:
    moment = [1000.0]
    here = log_stage()
    here.outlets.history._unix_time = lambda: moment[0]
    here.have("a")
    for number in range(1, 6):
        here.say("a", number)
        moment[0] += 10
    assert texts(here.shown(since=1020.5)) == ["3", "4", "5"]
    assert texts(here.shown(2, since=1020.5)) == ["4", "5"]


def test_several_files_are_merged_by_time(log_stage: Callable[..., Stage], tmp_path: Path) -> None:
    began = 1795442640.0
    for number, name in enumerate(("a", "b", "c")):
        write_hours(tmp_path / (name + ".log"), began + 20 * number, 2, (name,))
    here = log_stage()
    for name in ("a", "b", "c"):
        here.have(name)
    shown = here.shown(300)
    assert [each[1] + each.split()[1] for each in shown] == [
        "%s%d" % (name, minute) for minute in range(20, 120) for name in "abc"]
    assert shown == here.shown(since=began + 20 * 60)


def test_clock_that_is_put_back_puts_no_line_before_another(
    log_stage: Callable[..., Stage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Berlin, where 3 o'clock is 2 o'clock."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        began = 1792888200.0 - 1800  # 02:00, and again an hour later
        path = tmp_path / "all.log"
        write_hours(path, began, 3, ("a",))
        here = log_stage()
        here.outlets.history._unix_time = lambda: began + 2.5 * 3600
        here.have("a", path="all.log")
        here.say("a", "180 now")
        minutes = [each.split()[1] for each in here.shown(since=began)]
        assert minutes == numbers(0, 180)
        minutes = [each.split()[1] for each in here.shown(100)]
        assert minutes == numbers(81, 180)
        minutes = [each.split()[1] for each in here.shown(since=began + 7200)]
        assert minutes == numbers(120, 180)
    finally:
        monkeypatch.undo()
        time.tzset()
