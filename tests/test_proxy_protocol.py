"""The PROXY protocol at the balancer: from proxies in front, and to the instances."""

import struct
from typing import Callable, Iterator, List

import pytest

from http_peers import GET, HttpStage, Message, answer, answer_of, get, request_of, setting_http
from peers import BalancerStage, Instance, Peer, Proxy, announced_to, eventually, setting, started
from proxy_protocol import Announced, header_bytes

pytest_plugins = ["stages", "http_stages"]

StageWith = Callable[..., BalancerStage]

#: Every peer of these tests is among them, and is believed.
HERE = ["127.0.0.1", "::1"]

ENDS = Announced("192.0.2.1", 1111, "198.51.100.7", 443)
LINE = header_bytes("v1", ENDS)
#: The client of version 2 speaks TLS.
SSL = b"\x20" + struct.pack("!H", 5) + b"\x01" + bytes(4)
BINARY = header_bytes("v2", ENDS._replace(extras=SSL, is_tls=True))
LOCAL = bytes.fromhex("0D0A0D0A000D0A515549540A") + b"\x20\x00\x00\x00"
UNKNOWN = b"PROXY UNKNOWN\r\n"


@pytest.fixture
def behind(proxy: Proxy) -> "Iterator[BalancerStage]":
    """A tcp balancer that believes who is here, and its instance."""
    with setting(proxy, accept_proxy_from=HERE, head_timeout=10) as stage:
        stage.listens()
        stage.only = stage.instance().comes_up()
        yield stage


@pytest.fixture
def web(proxy: Proxy) -> "Iterator[HttpStage]":
    """The same with http."""
    with setting_http(proxy, accept_proxy_from=HERE, head_timeout=10) as stage:
        yield stage.stands()


def clock(stage: BalancerStage, seconds: float) -> None:
    stage.proxy.call("put_forward", seconds)


def ends_of(client: Peer) -> Announced:
    here, there = client.socket.getsockname(), client.socket.getpeername()
    return Announced(here[0], here[1], there[0], there[1])


# From proxies in front


@pytest.mark.parametrize("header", [LINE, BINARY, LOCAL, UNKNOWN])
def test_a_header_is_taken_off_and_the_rest_goes_on(
    behind: BalancerStage, header: bytes
) -> None:
    client = behind.client().says(header + b"question")
    server = behind.only.accepts().hears(b"question").says(b"answer")
    client.hears(b"answer").finishes()
    server.hears_the_end().finishes()
    client.hears_the_end()
    behind.counts(accepted=1, turned_away=0, bytes_in=8, bytes_out=6, open=0)


@pytest.mark.parametrize("header", [LINE, BINARY])
def test_a_header_may_come_byte_by_byte(behind: BalancerStage, header: bytes) -> None:
    client = behind.client()
    for place in range(len(header)):
        client.says(header[place:place + 1])
        behind.status()
    behind.only.accepts_nobody(0)
    client.says(b"question")
    behind.only.accepts().hears(b"question")


def test_a_server_that_speaks_first_is_heard_behind_a_header_alone(
    behind: BalancerStage
) -> None:
    client = behind.client().says(LINE)
    behind.only.accepts().says(b"220 ready")
    client.hears(b"220 ready")


@pytest.mark.parametrize("said", [
    b"question", b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 1.2.3.4 nowhere 1 2\r\nquestion",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\nquestion", b"PROXY " + 200 * b"x", LOCAL[:-4] + b"\x31\0\0\0",
    LOCAL[:-2] + b"\xff\xff", b"\x16\x03\x01\x02\x00",
])  # fmt: skip
def test_with_tcp_whoever_is_believed_and_sends_no_header_is_turned_away(
    behind: BalancerStage, said: bytes
) -> None:
    behind.client().says(said).is_sent_away()
    behind.only.accepts_nobody(0)
    behind.counts(accepted=0, turned_away=1)
    (line,) = behind.log()
    assert line.startswith("web: 127.0.0.1, of acceptProxyFrom, sends no valid PROXY header: ")


def test_a_thousand_broken_headers_are_one_line(behind: BalancerStage) -> None:
    for _ in range(1000):
        behind.client().says(b"x").is_sent_away()
    behind.counts(turned_away=1000)
    assert len(behind.log()) == 1


def test_half_a_header_and_an_end_is_turned_away(behind: BalancerStage) -> None:
    behind.client().has_its_say(LINE[:-1]).is_sent_away()
    behind.counts(accepted=0, turned_away=1)


def test_who_leaves_without_a_word_is_none_that_is_told_of(behind: BalancerStage) -> None:
    """A port scan, or a health check that is a connect alone."""
    behind.client().finishes().hears_the_end()
    behind.client().resets()
    eventually(lambda: behind.figures()["watched"] == behind.before["watched"], "it is forgotten")
    behind.counts(accepted=0, turned_away=0)
    assert behind.log() == []


def test_a_header_has_its_time(marked_environment: str) -> None:
    """The clock of this balancer stands still, but for what the test has it do."""
    with started("--by-hand") as proxy, setting(
            proxy, accept_proxy_from=HERE, head_timeout=10) as stage:
        stage.listens()
        slow, silent = stage.client().says(LINE[:20]), stage.client()
        eventually(lambda: stage.figures()["watched"] == stage.before["watched"] + 2, "both wait")
        clock(stage, 9.9)
        slow.hears_nothing()
        clock(stage, 0.2)
        slow.is_sent_away()
        silent.is_sent_away()
        stage.counts(accepted=0, turned_away=2)
        assert "none within 10 s" in stage.log()[0]


def test_who_waits_for_a_header_delays_nobody(behind: BalancerStage) -> None:
    waiting = [behind.client().says(BINARY[:size % len(BINARY)]) for size in range(100)]
    client = behind.client().says(LINE + b"question")
    behind.only.accepts().hears(b"question").says(b"answer")
    client.hears(b"answer")
    waiting[0].says(BINARY + b"me too")
    behind.only.accepts().hears(b"me too")


def test_nobody_else_is_believed(stage_with: StageWith) -> None:
    """Their bytes are the application's."""
    stage = stage_with(accept_proxy_from=["192.0.2.0/24"])
    client, server = stage.meet()
    client.says(LINE)
    server.hears(LINE)


def test_a_reload_changes_who_is_believed(stage_with: StageWith) -> None:
    stage = stage_with(accept_proxy_from=HERE)
    stage.listens()
    stage.only = stage.instance().comes_up()
    waiting = stage.client().says(LINE[:5])
    stage.status()
    stage.is_set(accept_proxy_from=None)
    stage.client().says(LINE)
    stage.only.accepts().hears(LINE)
    stage.is_set(accept_proxy_from=["::1", "127.0.0.0/8"])
    stage.client().says(LINE + b"question")
    stage.only.accepts().hears(b"question")
    # Whoever was in the middle of one goes on with it.
    waiting.says(LINE[5:] + b"late")
    stage.only.accepts().hears(b"late")


def test_all_are_sent_away_who_wait_when_the_balancer_ends(proxy: Proxy) -> None:
    with setting(proxy, accept_proxy_from=HERE) as stage:
        stage.listens()
        waiting = stage.client().says(LINE[:5])
        stage.status()
        stage.proxy.call("retire")
        waiting.is_sent_away()


def test_ip_hash_goes_by_the_announced_client(stage_with: StageWith) -> None:
    stage = stage_with(accept_proxy_from=HERE, strategy="ip-hash")
    stage.listens()
    instances = stage.instances(4)
    came_to = []
    for number in range(32):
        ends = ENDS._replace(source="192.0.2.%d" % number)
        stage.client().says(header_bytes("v2", ends) + b"question")
        came_to.append(accepting(instances))
    assert len(set(came_to)) == 4
    for number in range(32):
        stage.client().says(header_bytes("v1", ENDS._replace(source="192.0.2.%d" % number)))
        assert accepting(instances) == came_to[number]


def accepting(instances: "List[Instance]") -> str:
    """Which one gets a client."""

    def found() -> str:
        for each in instances:
            each.socket.settimeout(0)
            try:
                each.stage.keep(each.socket.accept()[0])
                return str(each.name)
            except BlockingIOError:
                continue
        return ""

    return str(eventually(found, "somebody is connected"))


def test_who_waits_in_the_queue_keeps_what_was_announced(stage_with: StageWith) -> None:
    stage = stage_with(accept_proxy_from=HERE, proxy_protocol="v2")
    stage.listens()
    stage.client().says(BINARY + b"question")
    stage.counts(queue=1)
    server = stage.instance().comes_up().accepts()
    assert announced_to(server) == ENDS._replace(extras=SSL, is_tls=True)
    server.hears(b"question")


# To the instances


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_an_instance_is_told_who_its_client_is(stage_with: StageWith, version: str) -> None:
    client, server = stage_with(proxy_protocol=version).meet()
    assert announced_to(server) == ends_of(client)
    client.says(b"question")
    server.hears(b"question").says(b"answer")
    client.hears(b"answer").finishes()
    server.hears_the_end()


def test_ipv6_clients_are_announced_as_such(stage_with: StageWith) -> None:
    stage = stage_with(proxy_protocol="v1")
    stage.listens("::")
    stage.only = stage.instance("::1").comes_up()
    client = stage.client("::1")
    server = stage.only.accepts()
    assert announced_to(server) == ends_of(client)
    client = stage.client("127.0.0.1")
    assert announced_to(stage.only.accepts()) == ends_of(client)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_who_was_announced_is_announced_on(stage_with: StageWith, version: str) -> None:
    stage = stage_with(accept_proxy_from=HERE, proxy_protocol=version)
    stage.listens()
    stage.only = stage.instance().comes_up()
    stage.client().says(BINARY)
    expected = ENDS._replace(extras=SSL, is_tls=True) if version == "v2" else ENDS
    assert announced_to(stage.only.accepts()) == expected
    local = stage.client().says(LOCAL)
    assert announced_to(stage.only.accepts()) == ends_of(local)


def test_a_client_that_is_taken_to_another_instance_is_announced_there(
    stage_with: StageWith
) -> None:
    """Its first one ends before either has said a word."""
    stage = stage_with(accept_proxy_from=HERE, proxy_protocol="v2")
    stage.listens()
    first = stage.instance().comes_up()
    client = stage.client().says(LINE)
    server = first.accepts()
    assert announced_to(server) == ENDS
    second = stage.instance().comes_up()
    first.goes_down()
    server.leaves()
    server = second.accepts()
    assert announced_to(server) == ENDS
    client.says(b"question")
    server.hears(b"question")


def test_an_instance_that_resets_at_once_costs_the_client_nothing(
    stage_with: StageWith
) -> None:
    stage = stage_with(proxy_protocol="v1")
    stage.listens()
    dead, good = stage.instance(), stage.instance()
    dead.stops_listening()
    dead.comes_up()
    good.comes_up()
    for _ in range(2):
        client = stage.client()
        server = good.accepts()
        assert announced_to(server) == ends_of(client)


def test_the_first_words_of_a_client_do_not_wait_for_an_acknowledgement(
    stage_with: StageWith
) -> None:
    """Nagle's delay is off upstream from the header on."""
    stage = stage_with(proxy_protocol="v1")
    _, server = stage.meet()
    announced_to(server)
    assert [nodelay for nodelay, _ in stage.proxy.call("options")] == [1, 1]


# With http


def asked(stage: HttpStage, data: bytes) -> Message:
    """A request as the instance gets it, which answers."""
    client, server = stage.asks(data)
    request = request_of(server)
    server.says(answer(b"hello", b"Connection: close"))
    assert answer_of(client).body == b"hello"
    return request


def test_a_request_comes_from_the_announced_client(web: HttpStage) -> None:
    client, server = web.asks(LINE + get(b"/", b"X-Forwarded-For: 6.6.6.6"))
    request = request_of(server)
    assert request.value(b"x-forwarded-for") == b"192.0.2.1"
    assert request.value(b"x-forwarded-port") == b"443"
    assert request.value(b"x-forwarded-proto") == b"http"
    server.says(answer(b"hello"))
    assert answer_of(client).body == b"hello"
    assert web.is_answered(client, server)[0].value(b"x-forwarded-for") == b"192.0.2.1"


def test_tls_that_has_ended_in_front_is_told(web: HttpStage) -> None:
    assert asked(web, BINARY + GET).value(b"x-forwarded-proto") == b"https"


def test_a_cookie_is_secure_behind_tls(proxy: Proxy) -> None:
    with setting_http(proxy, accept_proxy_from=HERE, strategy="cookie") as stage:
        for header, is_secure in ((BINARY, True), (LINE, False)):
            client, server = stage.asks(header + GET)
            request_of(server)
            server.says(answer(b"hello", b"Connection: close"))
            assert (b"; Secure" in answer_of(client).value(b"set-cookie")) == is_secure


def test_the_fields_of_who_announces_nobody_are_believed_as_before(web: HttpStage) -> None:
    for header in (b"", LOCAL, UNKNOWN):
        request = asked(web, header + get(
            b"/", b"X-Forwarded-For: 192.0.2.9", b"X-Forwarded-Proto: https"))
        assert request.value(b"x-forwarded-for") == b"192.0.2.9, 127.0.0.1"
        assert request.value(b"x-forwarded-proto") == b"https"


def test_an_announced_proxy_that_is_believed_is_believed_about_its_clients(
    proxy: Proxy
) -> None:
    with setting_http(proxy, accept_proxy_from=[*HERE, "192.0.2.1"]) as stage:
        request = asked(stage, LINE + get(b"/", b"X-Forwarded-For: 192.0.2.9"))
        assert request.value(b"x-forwarded-for") == b"192.0.2.9, 192.0.2.1"


def test_a_request_in_pieces_is_no_header(web: HttpStage) -> None:
    client = web.client()
    for piece in (b"P", b"R", b"O", b"FIND / HTTP/1.1\r\nHost: a\r\n\r\n"):
        client.says(piece)
        web.status()
    server = web.only.accepts()
    assert request_of(server).first == b"PROFIND / HTTP/1.1"
    server.says(answer())
    answer_of(client)


def test_a_broken_header_before_a_request_is_turned_away(web: HttpStage) -> None:
    web.client().says(b"PROXY TCP4 1.2.3.4\r\n" + GET).is_sent_away()
    web.counts(turned_away=1, accepted=0)


def test_who_connects_early_and_is_silent_has_the_time_of_an_idle_client(
    web: HttpStage
) -> None:
    """A proxy may keep connections that it does not need yet; a part of a header it has to end."""
    early, slow = web.client(), web.client().says(LINE[:7])
    web.status()
    clock(web, 10.1)
    slow.is_sent_away()
    web.counts(accepted=1, turned_away=1)
    _, server = web.asks(GET, early)
    assert request_of(server).first == b"GET / HTTP/1.1"
    server.says(answer())
    answer_of(early)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_each_request_has_a_connection_that_announces_its_client(
    proxy: Proxy, version: str
) -> None:
    with setting_http(proxy, proxy_protocol=version) as stage:
        client = stage.stands().client()
        for _ in range(3):
            _, server = stage.asks(GET, client)
            assert announced_to(server) == ends_of(client)
            request_of(server)
            server.says(answer(b"hello"))
            assert answer_of(client).body == b"hello"
            server.hears_the_end()


def test_no_kept_connection_is_left_when_headers_are_switched_on(proxy: Proxy) -> None:
    with setting_http(proxy) as stage:
        client, server = stage.asks(GET)
        request_of(server)
        server.says(answer(b"hello"))
        answer_of(client)
        stage.is_set(proxy_protocol="v1")
        server.hears_the_end()
        _, server = stage.asks(GET, client)
        assert announced_to(server) == ends_of(client)
        request_of(server)
        server.says(answer())
        answer_of(client)


def test_a_websocket_begins_with_a_header(proxy: Proxy) -> None:
    with setting_http(proxy, proxy_protocol="v2") as stage:
        client, server = stage.asks(get(b"/", b"Connection: Upgrade", b"Upgrade: websocket"))
        assert announced_to(server) == ends_of(client)
        request_of(server)
        server.says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                    b"Upgrade: websocket\r\n\r\n")
        answer_of(client)
        client.says(b"frame")
        server.hears(b"frame").says(b"other")
        client.hears(b"other")
