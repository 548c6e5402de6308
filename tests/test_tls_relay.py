"""What passes between a client whose TLS ends here and an instance; as test_relay.py."""

import random
import socket
import ssl
from typing import Callable, Tuple

import pytest

from peers import Aside, Peer, eventually
from relay import BUFFER_BYTES
from scenarios import is_dead
from secure_peers import SecurePeer, SecureStage, client_context, tool

pytest_plugins = ["stages", "secure_stages"]

#: More than all sockets of an unread connection hold.
MUCH = random.Random(1).getrandbits(8 * 4 * 1024 * 1024).to_bytes(4 * 1024 * 1024, "big")

#: What a busy balancer may keep of one direction: a record, and what it was made of.
HELD = BUFFER_BYTES

Meeting = Callable[[], Tuple[Peer, Peer]]


@pytest.fixture(params=["client speaks", "server speaks"])
def meet(request: "pytest.FixtureRequest", secure: SecureStage) -> Meeting:
    """Who of a connection's sides has the first part."""
    if request.param == "client speaks":
        return secure.meet
    return lambda: secure.meet()[::-1]


def test_a_question_is_answered(meet: Meeting) -> None:
    one, other = meet()
    for number in range(3):
        one.says(b"question %d" % number)
        other.hears(b"question %d" % number).says(b"answer %d" % number)
        one.hears(b"answer %d" % number)


def test_the_version_is_the_one_that_the_client_speaks(secure: SecureStage) -> None:
    client, _ = secure.meet()
    assert client.socket.tls.version() == secure.version
    assert secure.handshakes() == (1, 0, 0)


def test_a_server_may_speak_first(secure: SecureStage) -> None:
    client, server = secure.meet()
    server.says(b"220 ready")
    client.hears(b"220 ready").says(b"HELO")
    server.hears(b"HELO")


def test_a_reply_after_the_end_of_the_question_is_delivered(meet: Meeting) -> None:
    one, other = meet()
    one.says(b"question").finishes()
    other.hears(b"question").hears_the_end()
    one.hears_nothing()
    for _ in range(3):
        other.says(b"a late answer")
        one.hears(b"a late answer")
    other.finishes()
    one.hears_the_end()


def test_the_end_of_an_instance_is_the_end_of_tls_and_of_the_stream(secure: SecureStage) -> None:
    client, server = secure.meet()
    server.says(b"goodbye").finishes()
    client.hears(b"goodbye").hears_the_end()
    client.hears_the_end_of_the_stream().says(b"one more thing").finishes()
    server.hears(b"one more thing").hears_the_end()
    secure.counts(open=0)


def test_the_end_of_tls_is_an_end_though_that_of_the_stream_does_not_come(
    secure: SecureStage
) -> None:
    client, server = secure.meet()
    client.says(b"question")
    client.says_its_end()
    server.hears(b"question").hears_the_end().says(b"answer").finishes()
    client.hears(b"answer").hears_the_end()
    client.hears_the_end_of_the_stream()
    secure.counts(open=0)


def test_an_end_of_the_stream_that_tls_does_not_know_of_is_a_reset(secure: SecureStage) -> None:
    client, server = secure.meet()
    client.says(b"half of a quest")
    client.is_cut()
    server.hears(b"half of a quest").hears_a_reset()


def test_a_client_that_is_cut_before_it_says_a_word_resets_too(secure: SecureStage) -> None:
    client, server = secure.meet()
    client.is_cut()
    server.hears_a_reset()


def test_half_a_record_and_the_end_is_a_reset(secure: SecureStage) -> None:
    client, server = secure.meet()
    encrypted = client.socket.encrypted
    client.socket.raw.sendall(encrypted(b"whole") + encrypted(b"x")[:-1])
    client.is_cut()
    server.hears(b"whole").hears_a_reset()


# Much


def test_much_arrives_whole_and_the_end_after_it(meet: Meeting) -> None:
    one, other = meet()
    sending = Aside(one.has_its_say, MUCH)
    other.hears(MUCH).hears_the_end()
    sending.is_done()


def test_much_both_ways_at_once_arrives_whole(secure: SecureStage) -> None:
    client, server = secure.meet()
    loans = secure.proxy.call("loans")
    asides = [
        Aside(client.has_its_say, MUCH),
        Aside(server.has_its_say, MUCH[::-1]),
        Aside(lambda: client.hears(MUCH[::-1]).hears_the_end()),
    ]
    server.hears(MUCH).hears_the_end()
    for aside in asides:
        aside.is_done()
    secure.counts(bytes_in=len(MUCH), bytes_out=len(MUCH), total=1, open=0)
    assert secure.proxy.call("loans") == loans, "what is encrypted is not spliced"


def test_one_who_takes_little_at_a_time_gets_all(meet: Meeting) -> None:
    one, other = meet()
    sending = Aside(one.has_its_say, MUCH[:1 << 20])
    sizes = random.Random(2)
    left = memoryview(MUCH[:1 << 20])
    while left:
        size = min(len(left), sizes.randint(1, 20000))
        assert other.takes(size) == left[:size]
        left = left[size:]
    other.hears_the_end()
    sending.is_done()


def test_a_client_whose_receive_buffer_is_tiny_gets_all(secure: SecureStage) -> None:
    """What is encrypted goes in pieces, of which each is owed for a while."""
    secure.meet()
    sock = secure.keep(socket.socket())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.settimeout(30)
    sock.connect(secure.common)
    client = secure.secured(sock)
    server = secure.only.accepts()
    sending = Aside(server.has_its_say, MUCH[:1 << 19])
    client.hears(MUCH[:1 << 19]).hears_the_end()
    sending.is_done()


def test_an_end_behind_bytes_that_wait_comes_after_them(meet: Meeting) -> None:
    one, other = meet()
    pushed = one.pushes_until_it_stalls()
    ending = Aside(one.finishes)
    assert other.takes(pushed) == bytes(pushed)
    other.hears_the_end().says(b"thanks")
    one.hears(b"thanks")
    ending.is_done()


def test_a_stalled_reader_stops_the_reading_from_its_peer(
    meet: Meeting, secure: SecureStage
) -> None:
    one, other = meet()
    before = secure.proxy.call("memory")
    pushed = one.pushes_until_it_stalls()
    assert 0 < secure.proxy.call("held") <= HELD
    assert secure.proxy.call("memory") - before < 2 * 1024 * 1024
    for _ in range(3):
        other.says(b"still here")
        one.hears(b"still here")
    going_on = Aside(one.says, b"")
    assert other.takes(pushed) == bytes(pushed)
    going_on.is_done()
    eventually(lambda: secure.proxy.call("held") == 0, "nothing is held")


def test_a_stalled_client_gets_the_last_words_and_the_end_when_it_listens_again(
    secure: SecureStage
) -> None:
    client, server = secure.meet()
    pushed = server.pushes_until_it_stalls()
    saying = Aside(server.has_its_say, b"the last")
    client.finishes()
    assert client.takes(pushed) == bytes(pushed)
    client.hears(b"the last").hears_the_end()
    server.hears_the_end()
    saying.is_done()
    secure.counts(open=0)


# Resets


def test_a_reset_of_a_client_is_passed_on(secure: SecureStage) -> None:
    client, server = secure.meet()
    client.says(b"last words").resets()
    server.hears(b"last words").hears_a_reset()


def test_a_reset_of_an_instance_is_no_clean_end_for_its_client(secure: SecureStage) -> None:
    client, server = secure.meet()
    server.says(b"half an answ").resets()
    client.hears(b"half an answ").hears_a_reset()


def test_a_reset_reaches_a_client_that_has_finished(secure: SecureStage) -> None:
    client, server = secure.meet()
    client.finishes()
    server.hears_the_end().resets()
    client.hears_a_reset()


def test_a_reset_reaches_a_client_that_does_not_listen(secure: SecureStage) -> None:
    client, server = secure.meet()
    server.pushes_until_it_stalls()
    server.resets()
    sock = client.socket
    with pytest.raises(ConnectionResetError):
        while True:
            assert sock.recv(1 << 16)


def test_a_reset_of_a_client_that_sends_much_is_passed_on(secure: SecureStage) -> None:
    client, server = secure.meet()
    client.pushes_until_it_stalls()
    server.resets()
    eventually(lambda: is_dead(client.socket), "the reset has arrived")


def test_an_early_answer_with_a_reset_arrives(secure: SecureStage) -> None:
    client, server = secure.meet()
    client.pushes_until_it_stalls()
    # Closed with the upload unread: the kernel resets.
    server.says(b"413 too large").leaves()
    client.hears(b"413 too large").hears_a_reset()


def test_an_alert_of_the_client_is_a_reset_for_the_instance(secure: SecureStage) -> None:
    """It has got what it cannot decrypt, say."""
    client, server = secure.meet()
    client.says(b"before")
    server.hears(b"before")
    client.socket.incoming.write(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ssl.SSLError):
        client.socket.recv(1)
    client.socket.sendall(b"")
    client.socket.raw.sendall(client.socket.outgoing.read())
    server.hears_a_reset()


@pytest.mark.parametrize("junk", [
    b"\x17\x03\x03\x00\x20" + bytes(32), b"\x17\x03\x03\xff\xff" + bytes(100),
    b"GET / HTTP/1.1\r\n", b"\x16\x03\x03\x00\x04" + bytes(4), b"\x14\x03\x03\x00\x01\x01",
    b"\x15\x03\x03\x00\x02\x02\x14",
], ids=["wrong MAC", "too long", "text", "handshake", "change of ciphers", "plain alert"])
def test_what_is_no_tls_is_a_reset_for_the_instance(secure: SecureStage, junk: bytes) -> None:
    client, server = secure.meet()
    client.says(b"before")
    client.socket.raw.sendall(junk * 2)
    server.hears(b"before")
    try:
        assert server.socket.recv(1000) == b"nothing"
    except ConnectionResetError:
        pass
    # Nothing of it has stayed for anybody else.
    client, server = secure.client(), secure.only.accepts()
    client.says(b"question")
    server.hears(b"question")


# Other instances


def test_a_client_is_taken_to_another_instance_where_its_own_dies_before_a_word(
    secure: SecureStage
) -> None:
    secure.listens()
    first, second = secure.instances(2)
    client = secure.client()
    server = first.accepts()
    eventually(lambda: secure.figures()["connections"], "the connection")
    server.leaves()
    first.goes_down()
    server = second.accepts()
    client.says(b"question").finishes()
    server.hears(b"question").hears_the_end().says(b"answer").finishes()
    client.hears(b"answer").hears_the_end()


def test_the_words_of_a_client_go_with_it_to_another_instance(secure: SecureStage) -> None:
    secure.listens()
    first, second = secure.instances(2)
    client = secure.client()
    server = first.accepts()
    eventually(lambda: secure.figures()["connections"], "the connection")
    with secure.proxy.frozen():
        server.leaves()
        client.says(b"question").finishes()
        down = secure.proxy.start("down", first.name)
    secure.proxy.answer(down)
    second.accepts().hears(b"question").hears_the_end().says(b"answer").finishes()
    client.hears(b"answer").hears_the_end()


def test_what_a_client_has_said_while_it_waited_arrives(secure: SecureStage) -> None:
    secure.listens()
    clients = [secure.client() for _ in range(3)]
    clients[0].says(b"early")
    clients[1].says(b"early").finishes()
    sending = Aside(clients[2].has_its_say, MUCH)
    secure.counts(queue=3)
    instance = secure.instance().comes_up()
    first, second, third = [instance.accepts() for _ in range(3)]
    third.hears(MUCH).hears_the_end()
    sending.is_done()
    second.hears(b"early").hears_the_end().says(b"answer")
    first.hears(b"early").says(b"answer")
    for each in clients[:2]:
        each.hears(b"answer")


def test_a_client_that_leaves_while_it_waits_is_forgotten(secure: SecureStage) -> None:
    secure.listens()
    client, other = secure.client(), secure.client()
    secure.counts(queue=2)
    client.leaves()
    other.says_its_end().leaves()
    secure.counts(queue=0)


def test_a_client_that_nobody_serves_hears_a_clean_end(
    secure: SecureStage
) -> None:
    secure.is_set(queue_timeout=0.1)
    secure.listens()
    secure.client().hears_the_end()


def test_an_instance_is_told_of_the_client_before_its_words(secure: SecureStage) -> None:
    secure.is_set(proxy_protocol="v1")
    client, server = secure.meet()
    client.says(b"question")
    source = client.address
    server.hears(b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\nquestion" % (
        source[1], secure.common[1]))


# Records


def test_words_that_come_with_the_end_of_the_handshake_arrive(secure: SecureStage) -> None:
    secure.listens()
    instance = secure.instance().comes_up()
    channel = secure.channel()
    while not channel.step():
        channel._send_outgoing()
        channel.feed()
    if secure.version == "TLSv1.3":
        # The client's Finished and its first words are one segment.
        channel.raw.sendall(channel.outgoing.read() + channel.encrypted(b"first")
                            + channel.encrypted(b" words"))
    else:
        channel.raw.sendall(channel.outgoing.read() + channel.encrypted(b"first words"))
    server = instance.accepts()
    server.hears(b"first words").says(b"answer")
    SecurePeer(channel).hears(b"answer")  # type: ignore[arg-type]


def test_much_that_comes_with_the_end_of_the_handshake_arrives(secure: SecureStage) -> None:
    secure.listens()
    instance = secure.instance().comes_up()
    channel = secure.channel()
    while not channel.step():
        channel._send_outgoing()
        channel.feed()
    first = channel.outgoing.read() + channel.encrypted(MUCH[:100000])
    with secure.proxy.frozen():
        channel.raw.sendall(first)
        SecurePeer(channel).says_its_end()  # type: ignore[arg-type]
    instance.accepts().hears(MUCH[:100000]).hears_the_end()


def test_records_that_are_torn_at_every_byte_arrive(secure: SecureStage) -> None:
    secure.listens()
    instance = secure.instance().comes_up()
    channel = secure.channel()
    channel.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    channel.piece = 1
    client = SecurePeer(channel.handshake())  # type: ignore[arg-type]
    server = instance.accepts()
    client.says(b"question").says(b" and another").finishes()
    server.hears(b"question and another").hears_the_end().says(b"answer")
    client.hears(b"answer")


@pytest.mark.parametrize("cut", [1, 4, 5, 6, 20])
def test_the_end_of_an_instance_may_come_in_the_middle_of_a_record_of_its_client(
    secure: SecureStage, cut: int
) -> None:
    client, server = secure.meet()
    record = client.socket.encrypted(b"question")
    client.socket.raw.sendall(record[:cut])
    server.says(b"goodbye").finishes()
    client.hears(b"goodbye").hears_the_end()
    client.socket.raw.sendall(record[cut:])
    client.finishes()
    server.hears(b"question").hears_the_end()


def test_many_small_records_at_once_arrive_whole(secure: SecureStage) -> None:
    """More than are read at once; so some have their turn when no event tells of them."""
    client, server = secure.meet()
    said = [b"%d," % number for number in range(3000)]
    records = b"".join(map(client.socket.encrypted, said))
    with secure.proxy.frozen():
        client.socket.raw.sendall(records)
    server.hears(b"".join(said)).says(b"answer")
    client.hears(b"answer")


@pytest.mark.parametrize("size", [1, 16383, 16384, 16385, 32767, 32768, 32769, 262144])
def test_a_message_of_any_size_arrives_at_once(secure: SecureStage, size: int) -> None:
    client, server = secure.meet()
    for _ in range(2):
        client.says(MUCH[:size])
        server.hears(MUCH[:size]).says(MUCH[:size])
        client.hears(MUCH[:size])


def test_keys_may_be_changed_at_any_time(secure: SecureStage) -> None:
    """`K` asks the other side for new keys as well; so the balancer has to answer by itself."""
    if secure.version == "TLSv1.2":
        pytest.skip("it has no KeyUpdate")
    secure.listens()
    instance = secure.instance().comes_up()
    with tool(secure.common, "-tls1_3") as client:
        server = instance.accepts()
        client.types(b"question")
        server.hears(b"question\n")
        for number in range(3):
            client.types(b"K")
            client.shows(b"KEYUPDATE")
            client.types(b"again %d" % number)
            server.hears(b"again %d\n" % number).says(b"answer %d\n" % number)
            client.shows(b"answer %d\n" % number)


def test_a_renegotiation_is_refused_and_costs_nobody_anything(secure: SecureStage) -> None:
    if secure.version == "TLSv1.3":
        pytest.skip("it has none")
    secure.listens()
    instance = secure.instance().comes_up()
    with tool(secure.common, "-tls1_2") as client:
        server = instance.accepts()
        client.types(b"question")
        server.hears(b"question\n")
        client.types(b"R")
        client.shows(b"no renegotiation")
        server.is_sent_away()
    other, server = secure.client(), instance.accepts()
    other.says(b"question")
    server.hears(b"question")


def test_others_without_tls_are_served_by_the_same_process(
    secure: SecureStage
) -> None:
    client, server = secure.meet()
    client.says(b"question")
    server.hears(b"question")
    secure.is_set(tls=None)
    plain = secure.plain_client()
    other = secure.only.accepts()
    plain.says(b"plain")
    other.hears(b"plain")
    server.says(b"answer")
    client.hears(b"answer")


def test_a_session_is_taken_up_again_with_its_ticket(secure: SecureStage) -> None:
    context = client_context(secure.version)
    secure.listens()
    instance = secure.instance().comes_up()
    session = None
    for number in range(3):
        channel = secure.channel(context, session=session).handshake()
        client, server = SecurePeer(channel), instance.accepts()  # type: ignore[arg-type]
        server.says(b"hello")
        client.hears(b"hello")
        client.says_its_end()
        session = channel.tls.session
        assert channel.tls.session_reused == (number > 0)
        server.hears_the_end()
    assert secure.handshakes() == (3, 2, 0)


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_part_of_a_record_with_the_end_right_behind_it_is_a_reset(
    secure: SecureStage, cut: int
) -> None:
    """One event tells of both."""
    client, server = secure.meet()
    with secure.proxy.frozen():
        client.socket.raw.sendall(client.socket.encrypted(b"question")[:cut])
        client.is_cut()
    server.hears_a_reset()
