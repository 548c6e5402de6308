"""Clients of proxies in front: what the PROXY protocol says of each is read before anything else.

    listener.py --> admit --> the header, if its peer is among those that are believed --> the front

Only the header itself is taken from the socket: whatever is behind it is left for the front. Most
often it has come by the time at which its connection is accepted, and the whole way is one call.

With tcp who is believed has to send a header, since what comes without one may be meant for the
application. With http it may: no request begins like one, and many proxies say who their clients
are in `X-Forwarded-For` alone.
"""

import _socket
from functools import lru_cache
from typing import Any, Callable, Optional, Tuple

from http_forwarding import is_among
from intake import Intake, Newcomer
from listener import Admitter
from model import Network
from poller import Poller
from proxy_protocol import MOST_BYTES, Announced, Header, Malformed, NoHeader, read_header


class ProxyIntake(Intake):
    """See the module, and intake.py."""

    def __init__(
        self, name: str, poller: Poller, log: "Callable[[str], Any]", clock: "Callable[[], float]"
    ) -> None:
        super().__init__(name, poller, log, clock)
        self._is_required = True
        self._believes: Callable[[str], bool] = lambda address: False

    def before(
        self, front: Admitter, networks: "Optional[Tuple[Network, ...]]", is_required: bool,
        seconds: float,
    ) -> Admitter:
        """To whom a listener hands its clients from now on, so that they come to `front`.

        `networks` are those that are believed; a header may take so many seconds to come.
        """
        self.front, self._is_required, self.seconds = front, is_required, seconds
        believed = networks or ()
        self._believes = lru_cache(maxsize=4096)(lambda address: is_among(address, believed))
        return self if believed else front

    def admit(
        self, fileno: int, key: str, announced: "Optional[Announced]" = None, tls: Any = None
    ) -> None:
        """As the front does, for which the client's address is then the one that was announced."""
        if self._believes(key):
            self.take_in(fileno, key, None)
        else:
            self.front.admit(fileno, key)

    def is_through(self, newcomer: Newcomer) -> bool:
        self.on_arrival(newcomer)
        return newcomer.fileno() < 0

    def on_arrival(self, newcomer: Newcomer) -> None:
        """Take its header, if it is there."""
        try:
            data = newcomer.recv(MOST_BYTES, _socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drop(newcomer)  # it has left, as a port scan or a simple health check does
            return
        try:
            header = read_header(data)
        except NoHeader as error:
            if self._is_required:
                self._refuse(newcomer, error)
            else:
                self._pass_on(newcomer, Header(0, None))
        except Malformed as error:
            self._refuse(newcomer, error)
        else:
            if header is not None:
                newcomer.recv(header.size)
                self._pass_on(newcomer, header)
            elif newcomer.is_ending:
                self._refuse(newcomer, Malformed("a part of one"))

    def _pass_on(self, newcomer: Newcomer, header: Header) -> None:
        """To the front, where it begins as any client does."""
        address, announced = newcomer.address, header.announced
        self.hand_over(newcomer, announced.source if announced else address, announced)

    def _refuse(self, newcomer: Newcomer, error: Malformed) -> None:
        self.turned_away += 1
        self.warnings.warn("%s: %s, of acceptProxyFrom, sends no valid PROXY header: %s" % (
            self.name, newcomer.address, error))
        self.drop(newcomer)

    def on_late(self, newcomer: Newcomer) -> None:
        """Of http one that has not said a word may wait for its first request."""
        try:
            said = newcomer.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            said = b""
        except OSError:
            self.drop(newcomer)
            return
        if said or self._is_required:
            self._refuse(newcomer, Malformed("none within %g s" % self.seconds))
        else:
            self._pass_on(newcomer, Header(0, None))
