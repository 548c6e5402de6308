"""Random conversations through the relay, beside the same on a direct connection.

Each is played twice, directly and through a balancer, and judged by what TCP promises; where both
sides are polite, the two outcomes are the same byte for byte and end by end. The balancer's and the
kernel's buffers are small, so that few bytes fill them, stall them and make them go over to splice.
Whether random ones do is chance, and less than that where there are few of them: conversations in
bulk come before them, until one has been spliced.
"""

import socket
from typing import Iterator, List, NamedTuple, Tuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from peers import PATIENCE, SCALE, BalancerStage, Instance, eventually, setting, started
from relay import BUFFER_BYTES
from scenarios import Script, Side, Step, judge, play

pytest_plugins = ["stages"]

#: What is a lot, in buffers of the balancer.
BULK = 50


class Variant(NamedTuple):
    """A way to relay: sizes of the balancer's buffer, and of the kernel's (which doubles them)."""

    options: Tuple[str, ...]
    #: Whether it is expected to go over to splice.
    splices: bool
    buffer: int
    sockets: int
    examples: int


def variant(splice: str, buffer: int, sockets: int, examples: int) -> Variant:
    """Small buffers are full soon; large ones are as the balancer has them."""
    options = ["--splice", splice] if splice != "default" else []
    if buffer < BUFFER_BYTES:
        options += ["--buffer", str(buffer), "--sockets", str(sockets)]
    return Variant(tuple(options), splice != "none", buffer, sockets, examples)


VARIANTS = {
    "splice": variant("default", 1024, 4096, 80),
    "splice through wide sockets": variant("default", 1024, 16384, 60),
    "splice of the C library": variant("libc", 1024, 8192, 50),
    "buffer": variant("none", 1024, 4096, 80),
    "buffer and wide sockets": variant("none", 1024, 16384, 50),
    "buffer and narrow sockets": variant("none", 32768, 16384, 30),
    "full size": variant("default", BUFFER_BYTES, 65536, 20),
    "full size, buffer": variant("none", BUFFER_BYTES, 65536, 20),
}


class Ground:
    """Where conversations are held: through the balancer, or without it."""

    def __init__(self, stage: BalancerStage, variant: Variant) -> None:
        self.stage = stage
        self.variant = variant
        stage.listens()
        self.instance = self.narrow_instance()
        self.direct = self.narrow_instance()
        self.instance.comes_up()

    def narrow_instance(self) -> Instance:
        instance = self.stage.instance()
        self.narrow(instance.socket)
        return instance

    def narrow(self, sock: socket.socket) -> socket.socket:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.variant.sockets)
        if self.variant.buffer < BUFFER_BYTES:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.variant.sockets)
        return sock

    def converse(self, through: bool, scripts: "List[Script]") -> "List[Side]":
        instance = self.instance if through else self.direct
        with self.narrow(socket.socket()) as client:
            client.settimeout(PATIENCE)
            client.connect(self.stage.common if through else instance.address)
            instance.socket.settimeout(PATIENCE)
            with self.narrow(instance.socket.accept()[0]) as server:
                if through:
                    eventually(lambda: self.stage.status()["open"], "the connection")
                sip = self.variant.buffer // 3
                sides = [Side(client, scripts[0], 0, sip), Side(server, scripts[1], 1, sip)]
                play(*sides)
        for one, other in (sides, sides[::-1]):
            judge(one, other)
        return sides

    def loans(self) -> int:
        """How often a pipe was lent so far."""
        return int(self.stage.proxy.call("loans"))


@pytest.fixture(scope="module", params=list(VARIANTS))
def ground(request: "pytest.FixtureRequest", marked_environment: str) -> "Iterator[Ground]":
    variant = VARIANTS[request.param]
    with started(*variant.options) as proxy, setting(proxy) as stage:
        yield Ground(stage, variant)


def scripts(buffer: int) -> "st.SearchStrategy[Script]":
    """Of someone of few words, of middling ones, or of many."""
    sizes = [
        st.integers(1, 200),
        st.sampled_from([buffer * rim + off for rim in (1, 2, 3, 9) for off in (-1, 0, 1)]),
        st.sampled_from([part * buffer // 7 for part in range(1, 60)]),
    ]
    return st.one_of([scripts_of(size.map(lambda each: Step("write", each))) for size in sizes])


def scripts_of(writes: "st.SearchStrategy[Step]") -> "st.SearchStrategy[Script]":
    steps = st.one_of(
        writes,
        writes,
        st.integers(0, 3).map(lambda time: Step("pause", time)),
        st.integers(0, 2).map(lambda how: Step("listen", how)),
        st.sampled_from([Step("catch_up"), Step("quiet"), Step("quiet"), Step("finish")]),
    )
    ends = st.sampled_from([[], [], [Step("reset")], [Step("close")]])
    return st.tuples(st.lists(steps, max_size=9), ends).map(lambda parts: parts[0] + parts[1])


@pytest.mark.timeout(180)
def test_a_conversation_through_the_balancer_is_as_a_direct_one(ground: Ground) -> None:
    variant = ground.variant
    pairs = st.tuples(scripts(variant.buffer), scripts(variant.buffer)).map(list)

    # What is random is also the time: a failure would shrink to something that does not fail.
    @settings(
        max_examples=max(1, int(variant.examples * SCALE)),
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(pairs)
    def converse(scripts: "List[Script]") -> None:
        compare(ground, scripts)

    if variant.splices:
        eventually(lambda: talks_in_bulk(ground), "a conversation that is spliced")
    converse()
    assert variant.splices or not ground.loans()


def compare(ground: Ground, scripts: "List[Script]") -> None:
    """Is it through the balancer what it is without?"""
    directly = ground.converse(False, scripts)
    through = ground.converse(True, scripts)
    if not any(side.impolite for side in directly):
        assert [summary(side) for side in through] == [summary(side) for side in directly]
    eventually(lambda: ground.stage.status()["open"] == 0, "the connection is gone")


def talks_in_bulk(ground: Ground) -> bool:
    """Both say a lot, and listen gladly; true if the balancer has spliced some of it."""
    before = ground.loans()
    bulk = [Step("write", BULK * ground.variant.buffer)]
    compare(ground, [bulk, bulk])
    return ground.loans() > before


def summary(side: Side) -> "Tuple[object, ...]":
    return side.written, side.received, side.end, side.broken
