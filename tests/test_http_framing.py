"""Where messages end: the table of states, any split, h11 as the referee, hostile input."""

import random
import re
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

import h11
import pytest
from hypothesis import given, settings, strategies as st

import http_framing
import http_heads
from http_corpus import (
    ANSWERS,
    REQUESTS,
    Case,
    Message,
    Reading,
    answers_of,
    requests_of,
    unchunked,
)
from http_framing import (
    _SIZE_LINE_BYTES,
    _TRAILER_BYTES,
    BODY,
    CHUNK,
    CHUNK_END,
    CHUNK_SIZE,
    DONE,
    HEAD,
    HEAD_READ,
    MOVES,
    OPAQUE,
    TO_THE_END,
    TRAILER,
    Reader,
    _is_broken,
)
from http_heads import CHUNKED, HEAD_BYTES, UNTIL_CLOSE, Refused
from peers import SCALE

#: Random splits of random cases.
SPLITS = 100000
#: Cases that are damaged at random.
MUTATIONS = 50000

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

# States


def reader_in(state: str) -> Reader:
    """One that has come into a state by reading."""
    reader = Reader(requests=True)
    if state == HEAD:
        return reader
    reader.read_head(GET)
    framing = {BODY: 5, CHUNK_SIZE: CHUNKED, CHUNK: CHUNKED, CHUNK_END: CHUNKED, TRAILER: CHUNKED,
               TO_THE_END: UNTIL_CLOSE, DONE: 0}
    if state in framing:
        reader.expect(framing[state])
    said = {CHUNK: b"5\r\n", CHUNK_END: b"1\r\nx", TRAILER: b"0\r\n"}.get(state, b"")
    if said:
        assert reader.take(said, 0, len(said)) == len(said)
    assert reader.state == state
    return reader


#: What may be done, and in which states.
ACTIONS: "Dict[str, Tuple[Callable[[Reader], Any], Iterable[str]]]" = {
    "read a head": (lambda reader: reader.read_head(GET), [HEAD]),
    "read a part of a head": (lambda reader: reader.read_head(b"G"), [HEAD]),
    "expect nothing": (lambda reader: reader.expect(0), [HEAD_READ]),
    "expect a length": (lambda reader: reader.expect(5), [HEAD_READ]),
    "expect chunks": (lambda reader: reader.expect(CHUNKED), [HEAD_READ]),
    "expect the end": (lambda reader: reader.expect(UNTIL_CLOSE), [HEAD_READ]),
    "expect less than nothing": (lambda reader: reader.expect(-3), []),
    "take a byte": (lambda reader: reader.take(b"\r", 0, 1),
                    [*OPAQUE, CHUNK_SIZE, CHUNK_END, TRAILER, DONE]),
    "skip a byte": (lambda reader: reader.skip(1), OPAQUE),
    "go to the next message": (lambda reader: reader.next_message(), [DONE]),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_move_that_is_not_in_the_table_raises_and_changes_nothing(action: str) -> None:
    act, states = ACTIONS[action]
    for state in MOVES:
        reader = reader_in(state)
        if state in states:
            act(reader)
            continue
        before = everything(reader)
        with pytest.raises(RuntimeError):
            act(reader)
        assert everything(reader) == before, state


def everything(reader: Reader) -> "Dict[str, Any]":
    return {name: getattr(reader, name) for name in Reader.__slots__}


def test_every_state_can_be_reached_and_left() -> None:
    assert {state for states in MOVES.values() for state in states} == set(MOVES)
    assert all(MOVES.values())


def test_the_table_in_the_docstring_names_every_state() -> None:
    named = re.findall(r"^    ([A-Z_]{4,}) ", http_framing.__doc__ or "", re.MULTILINE)
    assert named == list(MOVES)


@pytest.mark.parametrize("state", MOVES)
def test_the_end_of_the_stream_is_the_end_of_a_message_where_it_may_be(state: str) -> None:
    reader = reader_in(state)
    assert reader.end_of_stream() is (state in (DONE, TO_THE_END))
    assert reader.state == (DONE if state == TO_THE_END else state)


def test_opaque_bytes_go_by() -> None:
    reader = reader_in(BODY)
    assert (reader.is_opaque, reader.left) == (True, 5)
    assert (reader.skip(3), reader.left, reader.state) == (3, 2, BODY)
    assert (reader.skip(100), reader.left, reader.state) == (2, 0, DONE)
    reader = reader_in(TO_THE_END)
    assert reader.is_opaque and reader.left
    assert (reader.skip(100), reader.state) == (100, TO_THE_END)
    reader = reader_in(CHUNK)
    assert (reader.skip(100), reader.state, reader.is_opaque) == (5, CHUNK_END, False)


def test_what_is_read_behind_a_head_is_handed_out_once() -> None:
    reader = Reader(requests=True)
    assert reader.read_head(GET + b"behind") == GET
    assert reader.held == 6
    assert (reader.rest(), reader.rest(), reader.held) == (b"behind", b"", 0)


@pytest.mark.parametrize("cut", range(len(GET) + 1))
def test_what_is_held_for_the_next_message_is_read_then(cut: int) -> None:
    """Also where it is a whole head already, and no more comes."""
    reader = reader_in(DONE)
    reader.hold(GET[:cut])
    reader.next_message()
    assert reader.is_between is (cut == 0)
    assert reader.read_head(b"") == (GET if cut == len(GET) else b"")
    if cut < len(GET):
        assert (reader.held, reader.is_between) == (cut, cut == 0)
        assert reader.read_head(GET[cut:]) == GET
    assert reader.rest() == b""


def test_an_empty_line_before_a_request_is_not_a_request() -> None:
    reader = Reader(requests=True)
    assert reader.read_head(b"\r\n") == b"" and reader.is_between
    assert reader.read_head(b"\r") == b"" and not reader.is_between
    assert reader.read_head(b"\n" + GET) == GET


def test_an_empty_line_may_be_before_each_request() -> None:
    assert len(requests_of([(b"\r\n" + GET) * 20]).messages) == 20


def test_what_is_bounded_in_a_message_is_bounded_in_each() -> None:
    """A connection may carry more extensions and trailers than one message."""
    body = b"1;" + b"a" * 250 + b"\r\nx\r\n0\r\n" + b"X: y\r\n" * 50 + b"\r\n"
    message = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    assert len(requests_of([message * 100]).messages) == 100


def test_a_line_between_chunks_is_bounded_however_slowly_it_comes() -> None:
    for state, limit, said in ((CHUNK_SIZE, _SIZE_LINE_BYTES, b"1;"),
                               (TRAILER, _TRAILER_BYTES, b"X:")):
        reader = reader_in(state)
        reader.take(said, 0, len(said))
        for _ in range(limit - len(said)):
            reader.take(b"a", 0, 1)
        assert reader.held == limit
        with pytest.raises(Refused):
            reader.take(b"a", 0, 1)


@pytest.mark.parametrize("said, status", [
    (b"GET / HTTP/1.1\n", 400), (b"GET / HTTP/1.1\rX", 400), (b"\x16\x03\x01", 400),
    (b"GET \x00", 400), (b"\n", 400), (b" GET", 400), (b"G" * (HEAD_BYTES + 1), 431),
    (b"\r\n" * 5, 400),
])  # fmt: skip
def test_what_cannot_become_a_head_is_refused_before_it_is_whole(said: bytes, status: int) -> None:
    for requests in (True, False):
        if said.startswith(b"\r\n") and not requests:
            continue
        with pytest.raises(Refused) as caught:
            Reader(requests).read_head(said)
        assert caught.value.status == (status if requests else 502)


def test_a_body_that_is_a_bytearray_is_read_as_well() -> None:
    body = bytearray(b"..5\r\nhello\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n..")
    reader = reader_in(CHUNK_SIZE)
    assert reader.take(body, 2, len(body)) == len(body) - 2
    assert reader.state == DONE


# Splits


def reading_of(case: Case, pieces: "Iterable[bytes]") -> Reading:
    return answers_of(case.methods, pieces) if case.methods else requests_of(pieces)


def is_same(whole: Reading, split: Reading) -> bool:
    """A refusal may come earlier, for something else that is wrong."""
    if whole.status and split.status:
        return whole.messages == split.messages
    return whole == split


def pieces_of(data: bytes, cuts: "Iterable[int]") -> "List[bytes]":
    places = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in zip(places, places[1:])]


def test_every_byte_by_itself_is_the_same_as_the_whole() -> None:
    different = {}
    for case in REQUESTS + ANSWERS:
        reading = reading_of(case, pieces_of(case.data, range(1, len(case.data))))
        if not is_same(case.expected, reading):
            different[case.name] = reading
    assert different == {}


def test_every_cut_in_two_is_the_same_as_the_whole() -> None:
    different = {}
    for case in REQUESTS + ANSWERS:
        size = len(case.data)
        for cut in range(1, size) if size < 1000 else range(size - 50, size):
            reading = reading_of(case, pieces_of(case.data, [cut]))
            if not is_same(case.expected, reading):
                different[case.name, cut] = reading
    assert different == {}


@pytest.mark.timeout(600)
def test_random_splits_are_the_same_as_the_whole() -> None:
    """Of the corpus, of several cases one behind the other, and of damaged ones."""
    chance = random.Random(1)
    for _ in range(int(SPLITS * SCALE)):
        case = random_case(chance)
        whole = reading_of(case, [case.data])
        cuts = chance.sample(range(len(case.data) + 1), min(len(case.data), chance.randint(1, 8)))
        pieces = pieces_of(case.data, cuts)
        assert is_same(whole, reading_of(case, pieces)), (case.name, pieces)


SHORT_REQUESTS = [case for case in REQUESTS if len(case.data) < 1000]
GOOD_REQUESTS = [case for case in SHORT_REQUESTS if case.expected.is_whole]
SHORT_ANSWERS = [case for case in ANSWERS if len(case.data) < 1000]


def random_case(chance: random.Random) -> Case:
    if chance.random() < 0.3:
        case = chance.choice(SHORT_ANSWERS)
        data = case.data
        methods = case.methods + (b"GET",) * 100
    else:
        case = chance.choice(SHORT_REQUESTS)
        data = b"".join(each.data for each in chance.sample(SHORT_REQUESTS, chance.randint(0, 1)))
        data, methods = data + case.data, ()
    if chance.random() < 0.4:
        data = damaged(chance, data)
    return Case(case.name, data, case.expected, methods)


def damaged(chance: random.Random, data: bytes) -> bytes:
    start = chance.randint(0, len(data))
    end = start + chance.choice([0, 0, 1, 1, 2, 5])
    pieces = [b"", b"\r", b"\n", b"\r\n", b"\x00", b" ", b"\t", b":", b";", b",", b"0", b"1", b"a",
              b"_", b"-", b"\"", b"\r\n\r\n", b"\xff", b"/", b"Content-Length: 1\r\n"]
    return data[:start] + chance.choice(pieces) + data[end:]


# The referee


#: What h11 takes and we do not: the beginnings of the names of such cases.
STRICTER = {
    "it goes by chunks where there is a length, too": ("CL.TE", "TE.CL"),
    "it takes a length that is there twice": ("the same length twice",),
    "it knows names by their letters": (
        "a length and a lookalike", "chunks and a lookalike", "a name of an encoding with a",),
    "it looks at the number only": ("a length that is octal", "a length that is zeros"),
    "tabs are white space": (
        "a length that is behind a tab", "a length that is before a tab",
        "an encoding that is behind a tab", "an encoding that is before a tab"),
    "it reads chunks of any version and method": ("chunks of HTTP/1.0", "chunks to CONNECT"),
    "it takes what is longer than it needs to be": (
        "a host of 301 bytes", "a Connection of 1,025 bytes"),
    "it unfolds lines": (
        "an encoding that is folded", "an encoding that is behind a bare LF",
        "a name of an encoding behind", "a line that is folded", "a line that is white space",
        "a last line that is folded"),
    "it takes a bare LF for a line end in a head": (
        "bare LFs everywhere", "a bare LF at the end of a head", "a bare LF as the empty line",
        "a line that has LF CR LF"),
    "it takes control characters in values": (
        "a line that has a DEL", "a line that has a bell", "a line that has an escape"),
    "it passes over extensions, and leading zeros": (
        "extensions without end", "many extensions", "a size with an extension",
        "a size with two semicolons", "a size with spaces in an extension", "a size before a space",
        "a size over 32 bits", "a size of twelve digits"),
    "trailers are not mixed with fields": ("trailers with", "trailers over 32 KB", "101 trailers"),
    "its limits are others": ("101 fields", "a head over 32 KB"),
    "it looks at no host, no target, no version and no method": (
        "a host that", "an absolute target", "an authority", "a target", "GET *", "a fragment",
        "CONNECT", "version", "the preface of HTTP/2", "PRI", "a method in small letters",
        "HTTP/1.0 with a body of"),
    "it looks for close in Connection only": ("Connection",),
    "before 0.16, it does not look at the line end behind a chunk": (
        "two other bytes behind a chunk",),
}


def h11_request_of(data: bytes) -> "Optional[Tuple[Message, bytes]]":
    """The first request that h11 finds, and what is behind it.

    It has one connection for each, since it ends those of HTTP/1.0 always; and it knows no empty
    lines before a request, which RFC 9112 (2.2) does.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=64 * 1024)
    first, body = (b"", b""), b""
    try:
        connection.receive_data(re.sub(rb"\A(\r\n){1,4}", b"", data))
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                first = (bytes(event.method), in_origin_form(event))
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return Message(first, body), connection.trailing_data[0]
            else:
                return None
    except h11.RemoteProtocolError:
        return None


def in_origin_form(request: h11.Request) -> bytes:
    target = bytes(request.target)
    matched = re.match(rb"(?i)https?://[^/]*", target)
    if matched and request.method != b"CONNECT":
        target = target[matched.end():] or (b"*" if request.method == b"OPTIONS" else b"/")
    return target


def dispute(data: bytes) -> str:
    """What h11 says of what we take; empty where it agrees."""
    rest = data
    for message in requests_of([data]).messages:
        found = h11_request_of(rest)
        if found is None or found[0] != message:
            return "%s is %s to h11" % (message, found)
        rest = found[1]
    return ""


def test_h11_finds_the_same_requests() -> None:
    disputes = {case.name: dispute(case.data) for case in REQUESTS}
    assert {name: found for name, found in disputes.items() if found} == {}


def test_what_h11_takes_besides_is_known() -> None:
    """All of it is refused on purpose. Versions of h11 differ in two of these names."""
    known = tuple(beginning for names in STRICTER.values() for beginning in names)
    further = {case.name for case in REQUESTS
               if case.expected.status and not case.expected.messages and h11_request_of(case.data)}
    assert {name for name in further if not name.startswith(known)} == set()
    unused = {name for name in known if not any(case.startswith(name) for case in further)}
    assert unused <= {"two other bytes behind a chunk", "a size before a space"}


def test_h11_finds_the_same_in_damaged_requests() -> None:
    chance = random.Random(2)
    taken = 0
    for number in range(int(MUTATIONS * SCALE)):
        data = damaged(chance, chance.choice(GOOD_REQUESTS if number % 4 else SHORT_REQUESTS).data)
        if chance.random() < 0.3:
            data = damaged(chance, data)
        assert dispute(data) == "", data
        taken += bool(requests_of([data]).messages)
    assert taken > MUTATIONS * SCALE / 10


def h11_answer_of(method: bytes, data: bytes) -> "Optional[Message]":
    """The first answer that is final to h11, up to the end of the stream."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=64 * 1024)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    status, body = b"", b""
    try:
        connection.receive_data(data)
        connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = b"%d" % event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return Message((status,), body)
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None


def test_h11_finds_the_same_answers() -> None:
    different = {}
    for case in ANSWERS:
        final = [message for message in case.expected.messages if message.first >= (b"200",)]
        if final and case.methods[0] != b"CONNECT":
            found = h11_answer_of(case.methods[0], case.data)
            if found != final[0]:
                different[case.name] = found
    assert different == {}


# Chunks


CHUNKS = st.lists(st.tuples(
    st.binary(min_size=1, max_size=80), st.sampled_from(["%x", "%X", "0%x", "000%X"]),
    st.sampled_from(["", "", "", ";a", ";a=b", ';a="b;c"'])), max_size=12)


@settings(max_examples=300)
@given(CHUNKS, st.binary(max_size=10), st.lists(st.integers(0, 1500), max_size=6))
def test_a_body_in_chunks_ends_where_it_ends(
    chunks: "List[Tuple[bytes, str, str]]", behind: bytes, cuts: "List[int]"
) -> None:
    body = b"".join(
        (size % len(data) + extension).encode() + b"\r\n" + data + b"\r\n"
        for data, size, extension in chunks) + b"0\r\n\r\n"
    assert unchunked(body) == b"".join(data for data, _, _ in chunks)
    reader, taken = reader_in(CHUNK_SIZE), 0
    stream = body + behind
    for piece in pieces_of(stream, [cut for cut in cuts if cut < len(stream)]):
        taken += reader.take(piece, 0, len(piece))
    assert (taken, reader.state, reader.held) == (len(body), DONE, 0)


@pytest.mark.parametrize("size", [*range(1, 70), 255, 256, 4096])
def test_small_chunks_are_walked_as_large_ones_are(size: int) -> None:
    chunk = b"%x\r\n" % size + b"\r\n0\r\n\r\n"[:size].ljust(size, b"x") + b"\r\n"
    for count in (1, 2, 600):
        body = chunk * count
        for wrong in (body + b"\n", body[:-1] + b"x", body + b"-1\r\n"):
            with pytest.raises(Refused):
                reader_in(CHUNK_SIZE).take(wrong, 0, len(wrong))
        reader = reader_in(CHUNK_SIZE)
        assert reader.take(body, 0, len(body)) == len(body)
        assert (reader.state, reader.held) == (CHUNK_SIZE, 0)


# Hostile input

#: Bytes of one input. What grows with their square would take minutes for each.
HOSTILE_BYTES = 1 << 19
#: How far a pattern comes before the bytes that are repeated.
STARTS = {
    "http_heads.FAST_REQUEST": [
        b"GET /", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nx:", b"GET / HTTP/1.1\r\nHost:",
        b"GET / HTTP/1.1\r\nHost: a\r\n"],
    "http_heads.FAST_ANSWER": [
        b"HTTP/1.1 200 ", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length:",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"],
    "http_heads._FIELD": [b"", b"a:"],
    "http_heads._TOKENS": [b"", b"a, "],
    "http_heads._ABSOLUTE": [b"http://"],
    "http_heads._REQUEST_LINE": [b"", b"GET "],
    "http_heads._STATUS_LINE": [b"HTTP/1.1 200 "],
    "http_framing._SIZE_LINE": [b"", b"1;", b'1;a="'],
}  # fmt: skip
REPEATED = [
    b"a", b"a:", b"a: b\r\n", b" ", b"\t", b",", b", a", b" ,", b'"', b"\\", b";a", b";a=b",
    b';a="b"', b"\r", b"\n", b"\r\n", b"\r\r\n", b"0", b"a.", b".", b"%", b":", b"A", b"-", b"/",
    b"x-", b"Connection: keep-alive\r\n", b"Host: a\r\n", b"1\r\nx\r\n", b"001\r\nx\r\n",
    b"chunked,", b"chunked", b"Keep-Alive: timeout=5\r\n", b"\xff",
]  # fmt: skip
PATTERNS = {
    "%s.%s" % (module.__name__, name): pattern
    for module in (http_framing, http_heads)
    for name, pattern in sorted(vars(module).items()) if isinstance(pattern, type(re.compile(b"")))
}


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_takes_longer_than_its_input(name: str) -> None:
    """Each fails as late as it can, or is searched in vain: the time-out would end what goes back
    and forth."""
    pattern = PATTERNS[name]
    for repeated in REPEATED:
        many = repeated * (HOSTILE_BYTES // len(repeated))
        for start in STARTS.get(name, [b""]):
            pattern.fullmatch(start + many + b"\x00")
        if name in SEARCHED:
            pattern.findall(many)
            pattern.findall(many + b"\x00")


#: Those that look for their place themselves.
SEARCHED = {"http_heads._FIELD", "http_heads._PORT_AT_END"}


#: What breaks a line, as a pattern says it; to count takes a tenth of the time.
BROKEN = re.compile(rb"\x00|\r[^\n]|(?<!\r)\n")


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"\0", b"a", b"ab"])).map(b"".join),
       st.integers(0, 20))
def test_a_part_of_a_head_is_broken_where_a_line_end_is(data: bytes, cut: int) -> None:
    """Looked at in two parts, of which the second begins with the last byte of the first."""
    def found(look: "Callable[[bytes, int], Any]") -> bool:
        return any(look(data[:end], start) for end, start in (
            (cut, 0), (len(data), max(0, cut - 1))))

    assert found(_is_broken) == found(BROKEN.search)


@pytest.mark.timeout(30)
def test_a_line_that_comes_byte_by_byte_is_looked_at_once() -> None:
    """Looked at from its beginning each time, a head of 32 KB would cost many seconds of one
    client's making."""
    first = b"GET / HTTP/1.1\r\nX:"
    head = Reader(requests=True)
    head.read_head(first)
    for _ in range(HEAD_BYTES - len(first)):
        assert head.read_head(b"y") == b""
    assert head.held == HEAD_BYTES
