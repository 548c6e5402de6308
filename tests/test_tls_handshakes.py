"""Handshakes, whole and broken, and all that is no handshake: others are served meanwhile."""

import random
import socket
import ssl
import struct
from typing import Any, Callable, Iterator, List, Optional

import hypothesis
import pytest
from hypothesis import strategies

import certificates
from certificates import Made
from peers import SCALE, Peer, Proxy, eventually, started
from secure_peers import (
    VERSIONS,
    Channel,
    SecurePeer,
    SecureStage,
    client_context,
    setting_secure,
    setting_secure_http,
    tool,
)

pytest_plugins = ["stages", "secure_stages"]


@pytest.fixture(scope="module")
def by_hand(marked_environment: str) -> "Iterator[Proxy]":
    """Its clock stands still."""
    with started("--by-hand") as proxy:
        yield proxy


def hello(version: str = "TLSv1.3", name: "Optional[str]" = None) -> bytes:
    """What a client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context(version).wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def named(name: bytes) -> bytes:
    """A hello that asks for a host of such a name, whatever that is."""
    placeholder = b"h" * 60
    whole = hello(name=placeholder.decode())
    start = whole.index(placeholder) - 9
    old = 9 + len(placeholder)
    # The extension: its kind, and the lengths of it, of its list, and of the name.
    new = struct.pack("!HHHBH", 0, len(name) + 5, len(name) + 3, 0, len(name)) + name
    grown = bytearray(whole[:start] + new + whole[start + old:])
    more = len(new) - old
    grown[3:5] = struct.pack("!H", struct.unpack("!H", bytes(grown[3:5]))[0] + more)
    grown[6:9] = struct.pack("!I", struct.unpack("!I", b"\0" + bytes(grown[6:9]))[0] + more)[1:]
    # The extensions' own length is behind the random, the session, the ciphers, the compressions.
    place = 5 + 4 + 2 + 32
    place += 1 + grown[place]
    place += 2 + struct.unpack("!H", bytes(grown[place:place + 2]))[0]
    place += 1 + grown[place]
    length = struct.unpack("!H", bytes(grown[place:place + 2]))[0]
    grown[place:place + 2] = struct.pack("!H", length + more)
    return bytes(grown)


def is_served(stage: SecureStage) -> None:
    """Somebody else, as ever."""
    client = stage.client()
    server = stage.only.accepts()
    client.says(b"question")
    server.hears(b"question").says(b"answer")
    client.hears(b"answer").finishes()
    server.hears_the_end().finishes()
    client.hears_the_end()


def stands(stage: SecureStage) -> SecureStage:
    stage.listens()
    stage.only = stage.instance().comes_up()
    return stage


#: What is no hello, in whichever way.
GARBAGE = {
    "zeros": bytes(100),
    "text": b"SSH-2.0-OpenSSH_9.6\r\n",
    "random": random.Random(3).getrandbits(8 * 1000).to_bytes(1000, "big"),
    "a record that is too long": b"\x16\x03\x01\xff\xff" + bytes(100),
    "an empty record": b"\x16\x03\x01\x00\x00",
    "SSLv2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(range(37)),
    "an alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "data": b"\x17\x03\x03\x00\x05hello",
    "a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "much": b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(16380),
    "the end of a handshake": b"\x14\x03\x03\x00\x01\x01",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_refused_and_others_are_served(secure: SecureStage, name: str) -> None:
    stands(secure)
    peer = secure.plain_client().says(GARBAGE[name] + b"and more" * 4)
    is_gone(peer)
    is_served(secure)
    eventually(lambda: secure.handshakes()[2] >= 1, "it has failed")
    assert any("has not come through the handshake" in line for line in secure.log())


def is_gone(peer: Peer) -> bytes:
    """What it hears up to its end."""
    heard = b""
    try:
        while True:
            piece = peer.socket.recv(65536)
            if not piece:
                return heard
            heard += piece
    except ConnectionResetError:
        return heard


def test_a_port_scan_is_no_failure(secure: SecureStage) -> None:
    stands(secure)
    secure.plain_client().leaves()
    secure.plain_client().resets()
    secure.plain_client().finishes().hears_the_end()
    is_served(secure)
    assert secure.handshakes() == (1, 0, 0)
    eventually(lambda: secure.figures()["newcomers"] == 0, "nobody is waited for")
    assert secure.log() == []
    assert secure.only.status()["total"] == 1, "the instance knows nothing of them"


def test_an_old_version_is_refused_with_an_alert(secure: SecureStage) -> None:
    stands(secure)
    for option in ("-tls1", "-tls1_1"):
        with tool(secure.common, option, "-cipher", "ALL:@SECLEVEL=0") as client:
            client.shows(b"alert protocol version")
    is_served(secure)
    eventually(lambda: secure.handshakes()[2] == 2, "both have failed")


def test_only_tls_1_3_where_nothing_older_is_wanted(proxy: Proxy, made: Made) -> None:
    with setting_secure(proxy, made, tls={"min_version": "TLSv1.3"}) as stage:
        stands(stage)
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            stage.channel(client_context("TLSv1.2")).handshake()
        is_served(stage)


def test_a_client_with_no_cipher_of_ours_is_refused(secure: SecureStage) -> None:
    stands(secure)
    context = client_context("TLSv1.2")
    context.set_ciphers("AES128-SHA")
    with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
        secure.channel(context).handshake()
    is_served(secure)


def test_a_client_that_does_not_trust_us_says_so_and_costs_nothing(secure: SecureStage) -> None:
    stands(secure)
    context = client_context(secure.version)
    context.verify_mode = ssl.CERT_REQUIRED
    channel = secure.channel(context)
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate.verify.failed"):
        channel.handshake()
    channel.raw.sendall(channel.outgoing.read())
    eventually(lambda: secure.handshakes()[2] == 1, "it has failed")
    is_served(secure)


# Names


@pytest.mark.parametrize("name", [
    b"localhost", b"other.example", b"LOCALHOST", b"localhost.", b"*.example.com", b"a" * 255,
    b".", b"..", b"-", b"a b", b"xn--nxasmq6b",
], ids=repr)
def test_any_name_may_be_asked_for(secure: SecureStage, name: bytes) -> None:
    stands(secure)
    peer = secure.plain_client().says(named(name))
    assert peer.takes(5)[:1] == b"\x16", "a part of a handshake"
    peer.leaves()
    is_served(secure)


@pytest.mark.parametrize("name", [
    b"\xff\xfe", "münchen.example".encode(), b"", b"a\0b", b"a" * 256, b"a" * 10000, b"\x80" * 255,
], ids=["bytes", "UTF-8", "empty", "zero", "too long", "much too long", "many bytes"])
def test_a_name_that_is_none_ends_the_handshake_at_most(secure: SecureStage, name: bytes) -> None:
    """Whatever becomes of it; the balancer writes nothing to its standard error."""
    stands(secure)
    peer = secure.plain_client().says(named(name))
    assert peer.hears_anything(30)
    peer.leaves()
    is_served(secure)


def test_the_certificate_is_the_one_of_the_host_that_is_asked_for(
    proxy: Proxy, tmp_path: Any
) -> None:
    makes: Callable[..., Made] = certificates.make
    first = makes(tmp_path, "first.example", ["DNS:first.example"])
    names = ["DNS:second.example", "DNS:*.second.example"]
    second = makes(tmp_path, "second.example", names, rsa=True)
    with setting_secure(proxy, first) as stage:
        stage.is_set(tls={"pairs": [list(first), list(second)]})
        stands(stage)
        expected = {None: first, "first.example": first, "SECOND.example": second,
                    "a.second.example": second, "a.b.second.example": first, "other": first}
        for version in VERSIONS:
            for name, pair in expected.items():
                channel = stage.channel(client_context(version), name).handshake()
                with open(pair.cert) as file:
                    wanted = ssl.PEM_cert_to_DER_cert(file.read())
                assert channel.tls.getpeercert(True) == wanted, name
                channel.close()


@pytest.mark.parametrize("cut", [1, 100, 10000])
def test_one_who_leaves_in_the_middle_is_waited_for_no_longer(
    secure: SecureStage, cut: int
) -> None:
    """One event tells of its words and of its end."""
    stands(secure)
    with secure.proxy.frozen():
        peer = secure.plain_client().says(hello(secure.version)[:cut]).finishes()
    is_gone(peer)
    assert secure.handshakes() == (0, 0, 1)


# Slow ones


def test_one_who_stalls_delays_nobody_and_is_dropped_in_time(
    by_hand: Proxy, made: Made
) -> None:
    for version in VERSIONS:
        with setting_secure(by_hand, made, head_timeout=10.0) as stage:
            stage.version = version
            stands(stage)
            first = hello(version)
            stalled = [stage.plain_client().says(first[:cut])
                       for cut in (0, 1, 5, 6, 100, len(first))]
            channel = stage.channel(client_context(version))
            # The second flight, but for its last byte.
            channel.step()
            channel._send_outgoing()
            while not channel.step() and not channel.outgoing.pending:
                channel.feed()
            channel.raw.sendall(channel.outgoing.read()[:-1])
            stalled.append(Peer(channel.raw))
            count = len(stalled)
            eventually(lambda: stage.figures()["newcomers"] == count, "all are there")  # noqa: B023
            is_served(stage)
            stage.time_passes(9.0)
            assert stage.figures()["newcomers"] == len(stalled)
            is_served(stage)
            stage.time_passes(2.0)
            eventually(lambda: stage.figures()["newcomers"] == 0, "nobody is waited for")
            for peer in stalled:
                is_gone(peer)
            # Who has not said a word has not failed.
            assert stage.handshakes() == (2, 0, len(stalled) - 1)
            assert any("takes longer than 10 s" in line for line in stage.log())
            is_served(stage)


def test_one_who_stalls_is_sent_away_when_its_application_ends(secure: SecureStage) -> None:
    stands(secure)
    peers = [secure.plain_client(), secure.plain_client().says(hello()[:20])]
    eventually(lambda: secure.figures()["newcomers"] == 2, "both are there")
    secure.proxy.call("retire")
    for peer in peers:
        is_gone(peer)


def test_one_who_takes_nothing_gets_the_rest_of_the_handshake_when_it_does(
    proxy: Proxy, tmp_path: Any
) -> None:
    """A chain that is longer than what the kernel takes for it."""
    made = certificates.make(tmp_path)
    with open(made.cert) as file:
        text = file.read()
    with open(made.cert, "w") as file:
        file.write(text * 60)
    with setting_secure(proxy, made) as stage:
        stands(stage)
        for version in VERSIONS:
            sock = stage.keep(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            sock.settimeout(30)
            sock.connect(stage.common)
            channel = Channel(sock, client_context(version))
            client = SecurePeer(channel.handshake())  # type: ignore[arg-type]
            server = stage.only.accepts()
            client.says(b"question").finishes()
            server.hears(b"question").hears_the_end().says(b"answer").finishes()
            client.hears(b"answer").hears_the_end()


def test_many_handshakes_at_once_are_all_done(secure: SecureStage) -> None:
    stands(secure)
    channels = [secure.channel() for _ in range(30)]
    with secure.proxy.frozen():
        for channel in channels:
            channel.step()
            channel._send_outgoing()
    for channel in channels:
        channel.handshake()
    eventually(lambda: secure.handshakes()[0] == 30, "all are done")
    eventually(lambda: secure.figures()["connections"] == 30, "all are relayed")


# With http


def test_a_request_without_tls_gets_an_answer_that_says_so(proxy: Proxy, made: Made) -> None:
    with setting_secure_http(proxy, made) as stage:
        stage.listens()
        client = stage.plain_client()
        client.says(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        heard = is_gone(client)
        assert heard.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"plain HTTP request was sent to a port of HTTPS" in heard
        client = stage.plain_client()
        client.says(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert is_gone(client).endswith(b"\r\n\r\n")
        assert stage.handshakes() == (0, 0, 2)


def test_http_1_1_is_agreed_on_where_the_client_asks(proxy: Proxy, made: Made) -> None:
    with setting_secure_http(proxy, made) as stage:
        stage.has_application()
        for offered, chosen in ((["h2", "http/1.1"], "http/1.1"), (["h2"], None)):
            context = client_context()
            context.set_alpn_protocols(offered)
            channel = stage.channel(context).handshake()
            assert channel.tls.selected_alpn_protocol() == chosen
            stage.kind(channel, stage.status).is_served()  # type: ignore[arg-type]


def test_a_client_certificate_is_asked_for(proxy: Proxy, made: Made, tmp_path: Any) -> None:
    ca = certificates.make_ca(tmp_path)
    (tmp_path / "clients").mkdir()
    ours = certificates.make(tmp_path / "clients", "alice", [], ca=ca)
    other = certificates.make(tmp_path / "clients", "mallory", [])
    with setting_secure(proxy, made, tls={"client_ca": ca.cert}) as stage:
        stands(stage)
        for version in VERSIONS:
            context = client_context(version)
            context.load_cert_chain(*ours)
            client = SecurePeer(stage.channel(context).handshake())  # type: ignore[arg-type]
            server = stage.only.accepts()
            client.says(b"question").finishes()
            server.hears(b"question").hears_the_end()
            for pair in (None, other):
                context = client_context(version)
                if pair is not None:
                    context.load_cert_chain(*pair)
                with pytest.raises((ssl.SSLError, ConnectionResetError)):
                    # With TLS 1.3 it learns of that behind its own part of the handshake.
                    stage.channel(context).handshake().recv(1)
        assert stage.handshakes() == (2, 0, 4)


# At random

TRIED = int(60 * SCALE)

EDITS = strategies.lists(strategies.tuples(
    strategies.integers(0, 600), strategies.sampled_from(["set", "cut", "insert", "drop"]),
    strategies.binary(min_size=1, max_size=8)), max_size=4)


def edited(data: bytes, edits: Any) -> bytes:
    for wanted, how, piece in edits:
        place = min(wanted, len(data))
        behind = {"set": place + len(piece), "cut": len(data), "insert": place,
                  "drop": place + len(piece)}[how]
        middle = b"" if how in ("cut", "drop") else piece
        data = data[:place] + middle + data[behind:]
    return data


@hypothesis.settings(max_examples=TRIED)
@hypothesis.given(edits=EDITS, cuts=strategies.lists(strategies.integers(1, 600), max_size=3),
                  which=strategies.sampled_from([*VERSIONS, "noise"]),
                  noise=strategies.binary(max_size=300))
def test_no_first_words_do_any_harm(
    fuzzed: SecureStage, edits: Any, cuts: "List[int]", which: str, noise: bytes
) -> None:
    data = edited(noise if which == "noise" else HELLOS[which], edits)
    peer = fuzzed.plain_client()
    try:
        start = 0
        for cut in [*sorted(cuts), len(data)]:
            peer.says(data[start:cut])
            start = max(start, cut)
        peer.finishes()
    except OSError:
        pass
    is_gone(peer)
    peer.leaves()
    is_served(fuzzed)
    assert fuzzed.figures()["ciphertext"] == 0


@hypothesis.settings(max_examples=TRIED)
@hypothesis.given(edits=EDITS, words=strategies.lists(strategies.binary(max_size=200), max_size=4),
                  version=strategies.sampled_from(VERSIONS))
def test_no_records_do_any_harm(
    fuzzed: SecureStage, edits: Any, words: "List[bytes]", version: str
) -> None:
    """An instance gets the words as they were said, or a beginning of them."""
    fuzzed.version = version
    client = fuzzed.client()
    server = fuzzed.only.accepts()
    records = edited(b"".join(map(client.socket.encrypted, words)), edits)
    try:
        client.socket.raw.sendall(records)
        client.is_cut()
    except OSError:
        pass
    assert b"".join(words).startswith(is_gone(server))
    is_gone(Peer(client.socket.raw))
    client.leaves()
    server.leaves()
    is_served(fuzzed)
    assert fuzzed.figures()["ciphertext"] == 0


HELLOS = {version: hello(version, "localhost") for version in VERSIONS}


@pytest.fixture(scope="module")
def fuzzed(proxy: Proxy, made: Made) -> "Iterator[SecureStage]":
    with setting_secure(proxy, made) as stage:
        yield stands(stage)

