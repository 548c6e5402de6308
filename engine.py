"""What all balancers of a process share: clock, poller, pipes, and certificates."""

import sys
import time
from typing import Any, Callable, Optional

from poller import Handler, Poller
from sockets import WarningLimiter
from splicing import Pipes
from tls_contexts import CertificateStore
from tls_session import clear


class Engine:
    """See the module; `log(text)` takes a line for people."""

    def __init__(
        self, log: "Callable[[str], Any]", clock: "Callable[[], float]" = time.monotonic
    ) -> None:
        #: Monotonic seconds: the one clock of all of it.
        self.clock = clock
        self.pipes = Pipes(clock)
        self.poller = Poller(self._failed)
        self.certificates = CertificateStore()
        self._log = log
        self._warnings = WarningLimiter(log, clock)

    def _failed(self, handler: Handler) -> None:
        """A handler raised, for lack of memory or by a bug: end its connection, keep everyone
        else's."""
        clear()  # nothing of its records may be taken for somebody else's
        try:
            handler.fail()
        finally:
            self._tell(sys.exc_info()[1])

    def _tell(self, error: "Optional[BaseException]") -> None:
        if isinstance(error, MemoryError):
            self._warnings.warn("memory has run out: who cannot be served without is cut off")
        else:
            self._log("a connection met a bug and is ended: %r" % error)

    def close(self) -> None:
        self.poller.close()
        self.pipes.close()
