"""Time-outs of the http mode: what each is for, from when it counts, who is told, what is left.

The clock of the balancer stands still, but for what a test has it do.
"""

from typing import Iterator

import pytest

from http_stage import HELLO, Client, HttpProxy, HttpStage, get, http_setting, http_started, post
from peers import Peer, eventually

HALF = b"GET / HTTP/1.1\r\nHost: a\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture(scope="module")
def proxy(marked_environment: str) -> "Iterator[HttpProxy]":
    with http_started("--by-hand") as proxy:
        yield proxy


@pytest.fixture
def stage(proxy: HttpProxy) -> "Iterator[HttpStage]":
    with http_setting(
            proxy, head_timeout=10.0, response_timeout=20.0, idle_timeout=100.0) as stage:
        yield stage


def clock(stage: HttpStage, seconds: float) -> None:
    """It goes on by that."""
    stage.proxy.call("put_forward", seconds)


def with_instance(stage: HttpStage) -> None:
    """One whose side of each connection the test plays."""
    stage.listens()
    stage.only = stage.instance().comes_up()


def hears_head(server: Peer, head: bytes) -> None:
    """The request, whatever was added to it."""
    heard = b""
    while not heard.endswith(b"\r\n\r\n"):
        heard += server.takes(1)
    assert heard.startswith(head.split(b"\r\n")[0])


# Heads


def test_a_head_that_takes_too_long_is_answered_408_however_its_bytes_come(
    stage: HttpStage
) -> None:
    """From its first byte on; further bytes do not begin it anew."""
    client = stage.has_application().client()
    for byte in HALF[:10]:
        client.says(bytes([byte]))
        stage.is_in("HEAD")
        clock(stage, 0.95)
    client.hears_nothing()
    clock(stage, 0.5)
    client.hears_status(408).hears_the_end().leaves()
    assert stage.own_answers() == [0, 0, 0, 1, 0]
    stage.is_clear()


def test_no_time_counts_between_two_requests(stage: HttpStage) -> None:
    client = stage.has_application().client()
    client.hears_nothing(0)
    for _ in range(3):
        clock(stage, 11)
        client.is_served()
    client.says(HALF)
    stage.is_in("HEAD")
    clock(stage, 9)
    client.says(b"\r\n")
    client.hears_status(200)
    clock(stage, 9)
    client.is_served().says(HALF)
    stage.is_in("HEAD")
    clock(stage, 10.1)
    client.hears_status(408).hears_the_end()


def test_half_a_head_behind_a_request_counts_from_the_answer_on(stage: HttpStage) -> None:
    with_instance(stage)
    client = stage.client().says(get() + HALF)
    server = stage.only.accepts()
    hears_head(server, get())
    clock(stage, 11)
    server.says(HELLO)
    client.hears_status(200)  # type: ignore[attr-defined]
    stage.is_in("HEAD")
    clock(stage, 9)
    client.hears_nothing()
    clock(stage, 1.1)
    client.hears_status(408).hears_the_end()  # type: ignore[attr-defined]


def test_a_hundred_slow_heads_expire_each_in_its_time(stage: HttpStage) -> None:
    stage.has_application()
    clients = []
    for number in range(100):
        clients.append(stage.client())
        clients[-1].says(HALF[:1 + number % 20])
        stage.is_in("HEAD", number + 1)
        clock(stage, 0.05)
    clock(stage, 7.475)
    stage.is_in("HEAD", 50)
    clock(stage, 5)
    for client in clients:
        client.hears_status(408).hears_the_end().leaves()
    stage.is_clear()


# Bodies


@pytest.mark.parametrize("framing, piece", [
    (b"Content-Length: 100", b"x"), (b"Transfer-Encoding: chunked", b"1\r\nx\r\n")])
def test_a_body_may_be_slow_and_may_not_stop(
    stage: HttpStage, framing: bytes, piece: bytes
) -> None:
    """RFC 9110, 15.5.9. The time for an answer does not count before the request is whole."""
    with_instance(stage)
    client = stage.client()
    client.says(post("/", framing))
    server = stage.only.accepts()
    hears_head(server, b"POST / ")
    for _ in range(3):
        client.says(piece)
        server.hears(piece)
        stage.time_passes(60)
    client.hears_nothing()
    stage.time_passes(60)
    assert client.status() == 408
    client.hears_the_end()
    server.is_sent_away()
    stage.is_clear()


def test_a_body_that_an_instance_does_not_take_is_given_up(stage: HttpStage) -> None:
    with_instance(stage)
    client = stage.client()
    client.says(post("/", b"Content-Length: 1000000000"))
    server = stage.only.accepts()
    client.pushes_until_it_stalls()
    stage.time_passes(102)
    stage.counts(open=0)
    server.leaves()
    client.leaves()
    stage.is_clear()


# Answers


def test_an_instance_that_never_answers_gives_504_and_its_place_is_free(stage: HttpStage) -> None:
    with_instance(stage)
    client = stage.client()
    client.says(get())
    server = stage.only.accepts()
    hears_head(server, get())
    clock(stage, 19)
    client.hears_nothing()
    stage.counts(open=1)
    clock(stage, 1.1)
    client.hears_status(504)
    server.is_sent_away()
    stage.counts(open=0)
    assert stage.own_answers()[4] == 1
    # The connection goes on.
    client.says(get())
    server = stage.only.accepts()
    hears_head(server, get())
    server.says(HELLO)
    client.hears_status(200).leaves()
    stage.is_clear()


def test_the_time_for_an_answer_begins_when_the_request_is_whole(stage: HttpStage) -> None:
    with_instance(stage)
    client = stage.client()
    client.says(post("/", b"Content-Length: 3"))
    server = stage.only.accepts()
    hears_head(server, b"POST / ")
    for _ in range(2):
        clock(stage, 15)
        client.says(b"x")
        server.hears(b"x")
    client.says(b"x")
    server.hears(b"x")
    eventually(lambda: stage.figures()["answers"] == 1, "the answer is waited for")
    clock(stage, 19)
    client.hears_nothing()
    clock(stage, 1.1)
    client.hears_status(504)


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 200 OK\r\nX: ", CONTINUE, 3 * CONTINUE])
def test_an_answer_whose_head_does_not_come_has_not_begun(
    stage: HttpStage, begun: bytes
) -> None:
    """Otherwise whoever says a byte of it keeps its client for the idle time, an hour."""
    with_instance(stage)
    client = stage.client()
    client.says(get())
    server = stage.only.accepts()
    hears_head(server, get())
    server.says(begun)
    # It has been read by now.
    client.hears(begun if begun.endswith(b"\n") else b"").hears_nothing()
    clock(stage, 20.1)
    answers = b""
    while b" 504 " not in answers:
        answers += client.takes(1)
    stage.counts(open=0)


def test_an_interim_answer_before_the_body_is_none(stage: HttpStage) -> None:
    """The time for the answer itself ends with it, and with nothing of a later request."""
    with_instance(stage)
    client = stage.client()
    client.says(post("/", b"Content-Length: 4\r\nExpect: 100-continue"))
    server = stage.only.accepts()
    hears_head(server, b"POST / ")
    server.says(CONTINUE)
    client.hears(CONTINUE).says(b"body")
    server.hears(b"body")
    clock(stage, 15)
    server.says(HELLO)
    client.hears_status(200)
    clock(stage, 15)
    client.hears_nothing()
    client.says(get())
    hears_head(server, get())
    clock(stage, 15)
    client.hears_nothing()
    server.says(HELLO)
    client.hears_status(200)
    assert stage.figures()["answers"] == 0


def test_an_answer_that_comes_byte_by_byte_is_finished(stage: HttpStage) -> None:
    with_instance(stage)
    client = stage.client()
    client.says(get())
    server = stage.only.accepts()
    hears_head(server, get())
    server.says(HELLO[:-5])
    client.hears(HELLO[:-5])
    for byte in HELLO[-5:]:
        stage.time_passes(60)
        server.says(bytes([byte]))
        client.hears(bytes([byte]))
    client.leaves()
    server.leaves()
    stage.is_clear()


@pytest.mark.parametrize("framing, piece", [
    (b"Content-Length: 100", b"x"), (b"Transfer-Encoding: chunked", b"1\r\nx\r\n"),
    (b"X: the end ends it", b"x")])
def test_an_answer_that_stops_does_not_end_cleanly(
    stage: HttpStage, framing: bytes, piece: bytes
) -> None:
    with_instance(stage)
    client = stage.client()
    client.says(get())
    server = stage.only.accepts()
    hears_head(server, get())
    server.says(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n%s" % (framing, piece))
    while client.takes(1) != b"x":
        pass
    stage.time_passes(102)
    with pytest.raises(ConnectionResetError):
        client.all_answers()
    server.is_sent_away()
    stage.is_clear()


# Nothing at all


def test_an_idle_client_is_closed_without_a_word(stage: HttpStage) -> None:
    fresh = stage.has_application().client()
    used = stage.client().is_served()
    stage.is_in("IDLE", 2)
    stage.time_passes(102)
    fresh.hears_the_end()
    used.hears_the_end()
    stage.is_clear()
    assert stage.own_answers() == [0] * 5


def test_who_does_not_read_an_answer_is_cut_off(stage: HttpStage) -> None:
    stage.has_application({"/long": lambda server: server.says(
        b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n" + bytes(20000000))})
    client = stage.narrow_client()
    client.says(get("/long"))
    eventually(lambda: stage.proxy.call("held") > 0, "the answer is blocked")
    # It may read more slowly than is seen at first.
    stage.time_passes(102)
    stage.time_passes(102)
    stage.counts(open=0)
    with pytest.raises(ConnectionResetError):
        client.all_answers()
    stage.is_clear()


def test_who_has_ended_its_side_waits_for_half_close_timeout_at_most(stage: HttpStage) -> None:
    """It may have gone for good, and an instance that says nothing would never find out."""
    with_instance(stage)
    client = stage.client()
    client.says(get()).finishes()
    server = stage.only.accepts()
    hears_head(server, get())
    stage.time_passes(15)
    stage.is_set(response_timeout=0.0)
    stage.time_passes(40)
    stage.counts(open=1)
    client.hears_nothing(0)
    stage.time_passes(7)
    stage.counts(open=0)
    server.is_sent_away()
    client.leaves()
    stage.is_clear()


def test_who_has_ended_its_side_gets_its_answer(stage: HttpStage) -> None:
    with_instance(stage)
    client = stage.client()
    client.says(get()).finishes()
    server = stage.only.accepts()
    hears_head(server, get())
    stage.time_passes(15)
    server.says(HELLO)
    client.hears_status(200).hears_the_end()


def test_who_waits_too_long_for_an_instance_is_told_when_to_come_again(stage: HttpStage) -> None:
    stage.is_set(queue_timeout=5.0)
    stage.listens()
    client = stage.client()
    client.says(get())
    stage.counts(queue=1)
    clock(stage, 4)
    client.hears_nothing()
    clock(stage, 1.1)
    answer = client.takes(12)
    assert answer == b"HTTP/1.1 503"
    while b"\r\nRetry-After: " not in answer:
        answer += client.takes(1)
    client.leaves()
    stage.is_clear()


def refused(stage: HttpStage) -> Client:
    client = stage.has_application().client()
    client.says(b"NONSENSE\r\n\r\n")
    client.hears_status(400).hears_the_end()
    eventually(lambda: stage.proxy.call("lingered") == [0.0], "it is read out")
    return client


def test_who_says_nothing_behind_a_refusal_is_cut_off_soon(stage: HttpStage) -> None:
    refused(stage)
    clock(stage, 4.9)
    assert stage.figures()["lingering"] == 1
    clock(stage, 0.2)
    stage.is_clear()


def test_who_goes_on_sending_behind_a_refusal_is_cut_off_in_half_a_minute(
    stage: HttpStage
) -> None:
    client = refused(stage)
    for second in range(4, 25, 4):
        clock(stage, 4)
        client.says(b"more")
        eventually(lambda: stage.proxy.call("lingered") == [second],  # noqa: B023
                   "it is read at second %d" % second)
    clock(stage, 4)
    client.says(b"more")
    assert stage.figures()["lingering"] == 1
    clock(stage, 1.1)
    stage.is_clear()
