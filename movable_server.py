"""A server whose port a reload may change: the new one is open before the old one is closed."""

import os
from typing import Any, Callable

from errors import PupgeventError
from sockets import listen


class MovableServer:
    """`what` is its table in the configuration, whose settings have `host` and `port`;
    `make(listener)` gives a server that is not started."""

    def __init__(self, what: str, make: "Callable[[Any], Any]") -> None:
        self._what = what
        self._make = make
        #: Of the server that runs, or None.
        self._settings: Any = None
        self._server: Any = None
        #: A socket for the settings to come, where they need another one.
        self._prepared: Any = None

    def prepare(self, settings: Any) -> None:
        """Open the port of these settings, if it is another one; nobody is served there before
        `apply`. Does not block. Raises PupgeventError, and then nothing has changed."""
        self._drop_prepared()
        present, beside = self._settings, None
        if settings is None:
            return
        if present is not None and self._server is not None and present.port == settings.port:
            if present.host == settings.host:
                return
            beside = self._server.socket
        try:
            self._prepared = listen(settings.host, settings.port, beside)
        except OSError as error:
            raise PupgeventError("%s: cannot listen on %s port %d: %s" % (
                self._what, settings.host, settings.port,
                os.strerror(error.errno or 0).lower())) from None

    def apply(self, settings: Any) -> bool:
        """Serve with these from now on, for which `prepare` has been called; None: no longer. True:
        it listens at another place than before."""
        self._settings = settings
        if self._prepared is None and settings is not None:
            return False
        self._stop()
        if settings is None:
            return False
        self._server, self._prepared = self._make(self._prepared), None
        self._server.start()
        return True

    def close(self) -> None:
        """Idempotent."""
        self._drop_prepared()
        self._settings = None
        self._stop()

    def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _drop_prepared(self) -> None:
        if self._prepared is not None:
            self._prepared.close()
            self._prepared = None
