"""Clients of a common port where TLS ends: the handshake of each comes before anything else.

    listener.py --> proxy_intake.py --> admit --> the handshake --> the front, with a session

What costs much of it is the first step (a signature, and half of a key exchange). So that many who
come at once keep nobody waiting, one of them takes that step among the events of a poll; the others
have turns for it, between which everybody else is served. One that has not said a word has no
session, so it costs no more than without TLS.
"""

import re
from typing import Any, Callable, Optional

from http_errors import error_answer
from intake import Intake, Newcomer
from listener import Admitter
from poller import Poller
from proxy_protocol import Announced
from tls_contexts import TlsContexts
from tls_session import TlsSession
from tls_sockets import CIPHER_BYTES

#: How a request without TLS begins.
_PLAIN = re.compile(rb"[A-Z]{3,16} ")

_PLAIN_ANSWER = "A plain HTTP request was sent to a port of HTTPS."


class TlsIntake(Intake):
    """See the module, and intake.py."""

    def __init__(
        self, name: str, poller: Poller, log: "Callable[[str], Any]", clock: "Callable[[], float]"
    ) -> None:
        super().__init__(name, poller, log, clock)
        #: Handshakes that are over; of these, those that went on with a ticket; and those that
        #: have failed.
        self.handshakes = 0
        self.resumed = 0
        self.failed = 0
        #: `Poller.polls` when one was begun among events.
        self._begun_in = 0
        self._contexts: Optional[TlsContexts] = None
        self._is_http = False

    def before(
        self, front: Admitter, contexts: "Optional[TlsContexts]", is_http: bool, seconds: float
    ) -> Admitter:
        """To whom clients are handed from now on, so that they come to `front`; so many seconds a
        handshake may take."""
        self.front, self._is_http, self.seconds = front, is_http, seconds
        self._contexts = contexts
        if contexts is None:
            return front
        contexts.take_over()
        return self

    def admit(
        self, fileno: int, key: str, announced: "Optional[Announced]" = None, tls: Any = None
    ) -> None:
        self.take_in(fileno, key, announced)

    # Events

    def on_arrival(self, newcomer: Newcomer) -> None:
        if newcomer.tls is None:
            polls = self.poller.polls
            if polls == self._begun_in:
                self.poller.call_soon(newcomer)
                return
            self._begun_in = polls
        self.on_turn(newcomer)

    def on_turn(self, newcomer: Newcomer) -> None:
        """A step of the handshake."""
        if newcomer.fileno() < 0:
            return
        tls = newcomer.tls
        if tls is not None and tls.owed is not None and not self._send(newcomer, b""):
            return
        try:
            data = newcomer.recv(CIPHER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        contexts = self._contexts
        if contexts is None:
            self.drop(newcomer)
        elif tls is not None and data:
            self._step(newcomer, tls, contexts, data)
        elif tls is not None:
            self._fail(newcomer, "")  # it has left, and nobody wants to know why
        elif not data:
            self.drop(newcomer)  # a port scan, or a simple health check
        elif self._is_http and _PLAIN.match(data):
            self._refuse_plain(newcomer, data)
        else:
            tls = newcomer.tls = TlsSession(contexts.base.context)
            self._step(newcomer, tls, contexts, data)

    def _refuse_plain(self, newcomer: Newcomer, data: bytes) -> None:
        answer = error_answer(400, _PLAIN_ANSWER, not data.startswith(b"HEAD "), True)
        self._send(newcomer, answer)
        self._fail(newcomer, "a request without TLS")

    def _step(
        self, newcomer: Newcomer, tls: TlsSession, contexts: TlsContexts, data: bytes
    ) -> None:
        is_over, output = contexts.step(tls, data)
        all_sent = not output or self._send(newcomer, output)
        if tls.failure is not None:
            self._fail(newcomer, tls.failure)
        elif is_over:
            self._pass_on(newcomer, tls)
        elif all_sent and (len(data) == CIPHER_BYTES or newcomer.is_ending):
            self.poller.call_soon(newcomer)  # of what is there no event tells again

    def _send(self, newcomer: Newcomer, output: bytes) -> bool:
        """Behind what is owed; false where the client has not taken all of it."""
        tls = newcomer.tls
        if tls is not None and tls.owed is not None:
            output = bytes(tls.owed) + output
            tls.owed = None
        try:
            sent = newcomer.send(output)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._fail(newcomer, "")
            return False
        if sent < len(output) and tls is not None:
            tls.owe_besides(output[sent:])
            self.poller.want_writable(newcomer.fileno())
            return False
        return True

    # How it ends

    def _pass_on(self, newcomer: Newcomer, tls: TlsSession) -> None:
        if newcomer.fileno() < 0:
            return  # it has left in the last moment
        self.handshakes += 1
        self.resumed += tls.is_resumed
        self.hand_over(newcomer, newcomer.address, newcomer.announced, tls)

    def _fail(self, newcomer: Newcomer, reason: str) -> None:
        """With a reason that is worth a line; idempotent."""
        if newcomer.fileno() < 0:
            return
        self.failed += 1
        self.turned_away += 1
        if reason:
            self.warnings.warn("%s: %s has not come through the handshake of TLS: %s" % (
                self.name, newcomer.address, reason))
        self.drop(newcomer)

    def on_late(self, newcomer: Newcomer) -> None:
        if newcomer.tls is None:
            self.drop(newcomer)  # it has said nothing, and is owed nothing
        else:
            self._fail(newcomer, "it takes longer than %g s" % self.seconds)
