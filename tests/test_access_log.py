"""The access log: what a line looks like, and that no request waits for the file it goes to."""

import binascii
import os
import re
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

import gevent
import pytest
from hypothesis import example, given, strategies as st

from access_log import ENOUGH, AccessLog, basic_user, format_line, time_stamp
from inside import inside, listening
from model import Logger
from outlets import Outlets
from sinks import LIMIT
from supervision import PATIENCE, Page, cluster, process, wait_until

#: As a reader of the combined format takes it apart; no field may hold what ends it.
COMBINED = re.compile(
    rb'([!-~]+) - ([!-~]+) \[(\d\d/[A-Z][a-z]{2}/\d{4}(?::\d\d){3} [+-]\d{4})\] "([ -!#-~]+)"'
    rb' (\d+) (\d+) "([ -!#-~]+)" "([ -!#-~]+)"'
    rb" ([\w@.-]+) (\d+\.\d{6}) (\d+\.\d{6}|-)\n\Z", re.ASCII)

STAMP = b"29/Nov/2026:14:43:15 +0100"


def unescaped(field: bytes) -> bytes:
    """What was written; a backslash of its own is escaped as well."""
    value = re.sub(rb"\\x([0-9A-F]{2})", lambda found: bytes([int(found.group(1), 16)]), field)
    return b"" if value == b"-" else value


# What a line looks like


def test_line_is_the_combined_format_with_instance_and_times_behind() -> None:
    assert format_line(
        STAMP, "192.0.2.7", b"GET /a?b=c HTTP/1.1", 200, 612, b"http://h/", b"curl/8.5.0", b"ann",
        "app-2", 0.0031274, 0.002914,
    ) == (
        b'192.0.2.7 - ann [29/Nov/2026:14:43:15 +0100] "GET /a?b=c HTTP/1.1" 200 612 "http://h/"'
        b' "curl/8.5.0" app-2 0.003127 0.002914\n')  # fmt: skip


def test_what_has_no_value_is_a_hyphen() -> None:
    assert format_line(STAMP, "::1", b"", 400, 0, b"", b"", b"", "", 12.0, None) == (
        b'::1 - - [29/Nov/2026:14:43:15 +0100] "-" 400 0 "-" "-" - 12.000000 -\n')


def test_what_is_not_plain_is_written_in_hexadecimal_as_nginx_does() -> None:
    line = format_line(
        STAMP, "::1", b'GET /"\\\x7f HTTP/1.1', 200, 0, b"\r\n\t\0", "é".encode(), b"a b\"", "app",
        0.0, 0.0)
    assert line == (
        b'::1 - a\\x20b\\x22 [29/Nov/2026:14:43:15 +0100] "GET /\\x22\\x5C\\x7F HTTP/1.1" 200 0'
        b' "\\x0D\\x0A\\x09\\x00" "\\xC3\\xA9" app 0.000000 0.000000\n')


#: Bytes as they come, and those that would end a field or a line.
FIELD = st.one_of(
    st.binary(max_size=40),
    st.text(alphabet='"\\x0A \n[]-é', max_size=20).map(str.encode))
SECONDS = st.floats(0, 1e9, allow_nan=False)


@given(st.sampled_from(["192.0.2.7", "::1", "fe80::1%eth0"]), FIELD, st.integers(0, 999),
       st.integers(0, 2**63), FIELD, FIELD, FIELD, st.sampled_from(["", "app", "a@b.c_d-10"]),
       SECONDS, st.none() | SECONDS)
@example("::1", b"-", 1, 1, b'"', b"\n", b"] \"", "", 0.0, None)
def test_every_line_is_taken_apart_into_what_it_was_made_of(
    client: str, request_line: bytes, status: int, size: int, referer: bytes, agent: bytes,
    user: bytes, instance: str, request_time: float, upstream_time: Optional[float],
) -> None:
    line = format_line(
        STAMP, client, request_line, status, size, referer, agent, user, instance, request_time,
        upstream_time)
    found = COMBINED.match(line)
    assert found is not None, line
    hyphenless = [b"" if each == b"-" else each for each in (user, request_line, referer, agent)]
    assert [unescaped(found.group(group)) for group in (2, 4, 7, 8)] == hyphenless
    assert found.group(1) == client.encode() and found.group(3) == STAMP
    assert (int(found.group(5)), int(found.group(6))) == (status, size)
    assert found.group(9) == (instance.encode() or b"-")
    assert found.group(10) == b"%.6f" % request_time
    assert found.group(11) == (b"-" if upstream_time is None else b"%.6f" % upstream_time)


@given(st.text(max_size=20).filter(lambda text: " " not in text))
def test_no_address_ends_a_field(client: str) -> None:
    line = format_line(STAMP, client, b"GET / HTTP/1.1", 200, 0, b"", b"", b"", "app", 0.0, None)
    assert COMBINED.match(line), line


@pytest.fixture
def zone(monkeypatch: Any) -> Iterator[Callable[[str], None]]:
    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("name, second, stamp", [
    ("UTC0", 0, b"01/Jan/1970:00:00:00 +0000"),
    ("CET-1CEST,M3.5.0,M10.5.0/3", 1795959795, b"29/Nov/2026:14:43:15 +0100"),
    ("CET-1CEST,M3.5.0,M10.5.0/3", 1785591795, b"01/Aug/2026:15:43:15 +0200"),
    ("NST3:30", 1795959795, b"29/Nov/2026:10:13:15 -0330"),
    ("NPT-5:45", 1795959795, b"29/Nov/2026:19:28:15 +0545"),
    ("XXX0:30", 1795959795, b"29/Nov/2026:13:13:15 -0030"),
])
def test_time_is_local_with_its_distance_from_utc(
    zone: Callable[[str], None], name: str, second: int, stamp: bytes
) -> None:
    zone(name)
    assert time_stamp(second) == stamp


def test_months_are_english(zone: Callable[[str], None]) -> None:
    zone("UTC0")
    months = [time_stamp(month * 2629746 + 1000000)[3:6].decode() for month in range(12)]
    assert months == "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


# The user


@given(st.binary(max_size=40).filter(lambda name: b":" not in name), st.binary(max_size=40))
def test_user_is_taken_from_basic_credentials(name: bytes, password: bytes) -> None:
    value = binascii.b2a_base64(name + b":" + password, newline=False)
    for scheme in (b"Basic ", b"basic  ", b" BASIC "):
        assert basic_user(scheme + value) == name


@pytest.mark.parametrize("value", [
    b"", b"Basic", b"Basic ", b"Basic :", b"Basic YQ", b"Basic a", b"Basic YW5u", b"Basic \xff\xff",
    b"Bearer YW5uOng=", b"Digest username=\"ann\"", b"BasicYW5uOng=",
])  # fmt: skip
def test_what_is_no_basic_credential_has_no_user(value: bytes) -> None:
    """A word without a colon may be a password."""
    assert basic_user(value) == b""


@given(st.binary(max_size=80))
def test_no_credentials_raise(value: bytes) -> None:
    basic_user(value)
    basic_user(b"Basic " + value)


# Lines are collected


class Taker:
    """Takes what is handed on."""

    def __init__(self) -> None:
        self.pieces: List[bytes] = []

    def __call__(self, data: bytes) -> None:
        self.pieces.append(data)

    @property
    def lines(self) -> List[bytes]:
        return b"".join(self.pieces).splitlines()


def add(log: AccessLog, number: int, agent: bytes = b"test") -> None:
    log.add("192.0.2.7", b"GET /%d HTTP/1.1" % number, 200, 1, b"", agent, b"", "app-1", 0.1, 0.05)


def numbers_of(lines: List[bytes]) -> List[int]:
    return [int(line.partition(b'"GET /')[2].split()[0]) for line in lines]


def test_lines_are_handed_on_together_after_a_moment() -> None:
    taker = Taker()
    log = AccessLog(taker)
    for number in range(5):
        add(log, number)
    assert taker.pieces == []
    wait_until(lambda: taker.pieces)
    assert len(taker.pieces) == 1 and numbers_of(taker.lines) == [0, 1, 2, 3, 4]
    add(log, 5)
    wait_until(lambda: len(taker.pieces) == 2)
    log.close()
    assert numbers_of(taker.lines) == [0, 1, 2, 3, 4, 5]


def test_many_lines_are_handed_on_at_once() -> None:
    """No more than so many bytes are kept, whatever the hub is busy with."""
    taker = Taker()
    log = AccessLog(taker)
    for number in range(3000):
        add(log, number)
    log.close()
    assert numbers_of(taker.lines) == list(range(3000))
    assert len(taker.pieces) > 3
    assert all(ENOUGH <= len(piece) < ENOUGH + 200
               for piece in taker.pieces[:-1])


def test_lines_of_one_second_share_its_stamp(zone: Callable[[str], None]) -> None:
    zone("UTC0")
    now, taker = [100.0], Taker()
    log = AccessLog(taker, lambda: now[0])
    for moment in (100.0, 100.999, 101.0, 99.5):
        now[0] = moment
        add(log, 0)
    log.close()
    assert [line[line.index(b"[") + 13:line.index(b"]")] for line in taker.lines] == [
        b"00:01:40 +0000", b"00:01:40 +0000", b"00:01:41 +0000", b"00:01:39 +0000"]


def test_each_line_goes_where_the_log_led_when_it_came() -> None:
    first, second = Taker(), Taker()
    log = AccessLog(first)
    add(log, 1)
    log.direct(second)
    add(log, 2)
    log.close()
    assert (numbers_of(first.lines), numbers_of(second.lines)) == ([1], [2])


def test_request_that_outlives_its_log_still_has_a_line() -> None:
    taker = Taker()
    log = AccessLog(taker)
    add(log, 1)
    log.close()
    assert len(taker.pieces) == 1
    log.close()
    add(log, 2)
    add(log, 3)
    log.flush()
    assert len(taker.pieces) == 3 and numbers_of(taker.lines) == [1, 2, 3]


def test_request_is_served_where_there_is_no_memory_for_its_line() -> None:
    taker, is_short = Taker(), [True]

    def write(data: bytes) -> None:
        if is_short[0]:
            raise MemoryError
        taker(data)

    log = AccessLog(write)
    for number in range(2000):
        add(log, number)
    is_short[0] = False
    add(log, 2000)
    log.close()
    assert numbers_of(taker.lines)[-1] == 2000


# The file


class LogStage:
    """The outlets of a process with an access log, and what they tell."""

    def __init__(self, path: Path, max_bytes: int = 0) -> None:
        self.page = Page()
        logger = Logger(True, True, False, None, None, True, max_bytes, 99, False, 3600.0)
        with open(os.devnull, "wb") as file:
            self.outlets = Outlets(logger, self.page, file.fileno())
        self.logger = logger._replace(console=False)
        self._sent = 0
        self.lead_to(path)

    def lead_to(self, path: Optional[Path]) -> None:
        """Apply a configuration with that path."""
        own = cluster(None, access_log=None if path is None else str(path))
        self.outlets.set(process(logger=self.logger, cluster=own))

    @property
    def log(self) -> AccessLog:
        found = self.outlets.access_log("app")
        assert found is not None
        return found

    def send(self, count: int, agent: bytes = b"test") -> None:
        """So many lines, which are numbered; nobody else gets a turn meanwhile."""
        turns: List[int] = []
        other = gevent.spawn(turns.append, 1)
        for _ in range(count):
            self._sent += 1
            add(self.log, self._sent, agent)
        assert not turns
        other.join()

    @property
    def sent(self) -> List[int]:
        return list(range(1, self._sent + 1))

    def flush(self) -> None:
        self.outlets.flush(PATIENCE)

    def told(self, text: str) -> List[str]:
        return [line for line in self.page.texts("[core]") if text in line]

    def lost(self, words: str) -> int:
        """Lines, as they are told when it is over."""
        line, = self.told(words)
        return int(re.findall(r", (\d+) lines? lost$", line)[0])

    def close(self) -> None:
        self.outlets.forget("app")


@pytest.fixture
def make_stage(tmp_path: Path) -> Iterator[Callable[..., LogStage]]:
    made: List[LogStage] = []

    def make(path: Optional[Path] = None, **limits: Any) -> LogStage:
        made.append(LogStage(path or tmp_path / "access.log", **limits))
        return made[-1]

    yield make
    for each in made:
        each.close()


def is_open(path: Path) -> bool:
    """Has this process a descriptor of it?"""
    for each in os.listdir("/proc/self/fd"):
        try:
            if os.readlink("/proc/self/fd/" + each) == str(path):
                return True
        except FileNotFoundError:
            pass
    return False


def numbers_in(path: Path) -> List[int]:
    return numbers_of(path.read_bytes().splitlines()) if path.exists() else []


def test_lines_come_to_the_file_by_themselves(
    make_stage: Callable[..., LogStage], tmp_path: Path
) -> None:
    stage = make_stage(tmp_path / "{id}-access.log")
    stage.send(3)
    path = tmp_path / "app-access.log"
    wait_until(lambda: numbers_in(path))
    assert all(COMBINED.match(line) for line in path.read_bytes().splitlines(True))
    assert numbers_in(path) == [1, 2, 3]
    # It is no output of a process.
    assert b"".join(stage.outlets.history.last(None)) == b"" and not stage.page.written


def test_file_is_rotated_as_the_logger_of_the_process_says(
    make_stage: Callable[..., LogStage], tmp_path: Path
) -> None:
    stage = make_stage(max_bytes=2000)
    for count in (1, 7, 30, 2, 100):
        stage.send(count)
        stage.flush()
    backups = len(list(tmp_path.glob("access.log.*")))
    found = [tmp_path / ("access.log.%d" % number) for number in range(backups, 0, -1)]
    found.append(tmp_path / "access.log")
    assert len(found) > 5 and all(path.stat().st_size <= 2000 for path in found)
    assert [number for path in found for number in numbers_in(path)] == stage.sent


def test_file_is_opened_anew_when_it_was_moved(
    make_stage: Callable[..., LogStage], tmp_path: Path
) -> None:
    stage, path, moved = make_stage(), tmp_path / "access.log", tmp_path / "moved"
    stage.send(3)
    stage.flush()
    path.rename(moved)
    assert stage.outlets.reopen_files() == 1
    stage.send(2)
    stage.flush()
    assert (numbers_in(moved), numbers_in(path)) == ([1, 2, 3], [4, 5])
    assert not is_open(moved)


def test_log_leads_to_another_file_after_a_change_of_its_path(
    make_stage: Callable[..., LogStage], tmp_path: Path
) -> None:
    stage, other = make_stage(), tmp_path / "other.log"
    log = stage.log
    stage.send(2)
    stage.lead_to(other)
    assert stage.log is log
    stage.send(2)
    stage.flush()
    wait_until(lambda: not is_open(tmp_path / "access.log"))
    assert (numbers_in(tmp_path / "access.log"), numbers_in(other)) == ([1, 2], [3, 4])


def test_request_under_way_has_its_line_after_the_log_was_given_up(
    make_stage: Callable[..., LogStage], tmp_path: Path
) -> None:
    stage, path = make_stage(), tmp_path / "access.log"
    log = stage.log
    stage.send(1)
    stage.lead_to(None)
    assert stage.outlets.access_log("app") is None
    wait_until(lambda: numbers_in(path) == [1])
    add(log, 2)
    wait_until(lambda: numbers_in(path) == [1, 2])
    wait_until(lambda: not is_open(path))


def test_two_clusters_may_share_a_file(
    make_stage: Callable[..., LogStage], tmp_path: Path
) -> None:
    stage, path = make_stage(), tmp_path / "access.log"
    outlets = stage.outlets
    own = cluster(None, access_log=str(path))
    outlets.set(process(id="other", logger=stage.logger, cluster=own))
    other: Any = outlets.access_log("other")
    assert other is not stage.log
    add(other, 1)
    outlets.forget("other")
    add(stage.log, 2)
    stage.flush()
    assert numbers_in(path) == [1, 2] and is_open(path)


def comes_back(stage: LogStage) -> None:
    """Send lines until it is told that they are written again."""

    def is_written() -> Any:
        stage.send(1)
        stage.flush()
        return stage.told("is written again")

    wait_until(is_written)


def test_full_disk_is_one_warning_and_lost_lines_are_counted(
    make_stage: Callable[..., LogStage], tmp_path: Path
) -> None:
    path = tmp_path / "access.log"
    path.symlink_to("/dev/full")
    stage = make_stage()
    for _ in range(5):
        stage.send(1000)
        stage.flush()
    path.unlink()
    comes_back(stage)
    warning, = stage.told("lines are lost")
    assert "no space left on device" in warning
    assert stage.lost("is written again") >= 5000
    assert numbers_in(path) == stage.sent[stage.lost("is written again"):]


def test_named_pipe_without_a_reader_is_one_warning(
    make_stage: Callable[..., LogStage], tmp_path: Path
) -> None:
    path = tmp_path / "access.log"
    os.mkfifo(str(path))
    stage = make_stage()
    stage.send(1000)
    stage.flush()
    reader = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK)
    try:
        comes_back(stage)
        warning, = stage.told("lines are lost")
        assert "nobody reads from this named pipe" in warning
        found = os.read(reader, 65536).splitlines()
        assert numbers_of(found) == stage.sent[stage.lost("is written again"):]
    finally:
        os.close(reader)


def test_reader_that_is_too_slow_holds_nobody_up_and_is_told_of_once(
    make_stage: Callable[..., LogStage], tmp_path: Path
) -> None:
    """A disk that hangs, or takes less than comes."""
    path, agent = tmp_path / "access.log", b"x" * 8000
    os.mkfifo(str(path))
    reader = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK)
    stage = make_stage()
    read: List[bytes] = []
    try:
        for _ in range(3):
            stage.send(2 * LIMIT // len(agent), agent)
            taken = 0
            while taken < LIMIT // 4:
                taken += read_some(reader, read)
        assert len(stage.told("the disk is too slow; lines are lost")) == 1
        wait_until(lambda: read_some(reader, read) == 0 and stage.told("has caught up, "))
        found = numbers_of(b"".join(read).splitlines())
        assert len(found) + stage.lost("has caught up, ") == len(stage.sent)
        assert found == sorted(set(found)) and len(found) > 3
        assert len(stage.told("lost")) == 2
    finally:
        os.close(reader)


def read_some(reader: int, read: List[bytes]) -> int:
    gevent.sleep(0.001)
    try:
        read.append(os.read(reader, 1 << 20))
        return len(read[-1])
    except BlockingIOError:
        return 0


# With a balancer


def test_balancer_has_the_log_that_its_file_names(
    tmp_path: Path, free_ports: Callable[[int], List[int]]
) -> None:
    first = free_ports(2)[0]
    plain = listening("app", first, first + 1, protocol="http")
    logged = listening("app", first, first + 1, protocol="http", accessLog="access.log")
    moved = listening("app", first, first + 1, protocol="http", accessLog="other.log")
    with inside(tmp_path, [logged]) as stage:
        balancer: Any = stage.runtime.balancers["app"]
        log: Any = balancer.access_log
        add(log, 1)
        wait_until(lambda: numbers_in(tmp_path / "access.log") == [1])
        stage.reload([moved])
        assert balancer.access_log is log
        add(log, 2)
        wait_until(lambda: numbers_in(tmp_path / "other.log") == [2])
        stage.reload([plain])
        assert balancer.access_log is None
        stage.reload([logged])
        log = balancer.access_log
        add(log, 3)
        wait_until(lambda: numbers_in(tmp_path / "access.log") == [1, 3])
        assert stage.runtime.balancers["app"] is balancer
