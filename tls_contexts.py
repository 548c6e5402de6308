"""What TLS at a common port is made of: certificates, chosen by the host that a client asks for.

Each cluster has a context that all its connections begin with, and one for each of its pairs of
certificate and key, to which a connection changes once its client has named a host (SNI). The
tickets of sessions are encrypted with keys of the first, and outlive the others: new certificates
come with new contexts behind it. It is made anew only where a client that comes back must not be
let in as it was before: with other protocols, ciphers, or authorities for clients.
"""

import ssl
import sys
from typing import Any, Dict, Iterable, NamedTuple, Optional, Sequence, Tuple

from errors import PupgeventError
from model import Cluster, Process, Tls, TlsPair
from tls_files import CIPHERS
from tls_session import TlsSession, reason_of

#: openssl/ssl.h; Python names it from 3.7 on.
_NO_RENEGOTIATION = 1 << 30

#: What is told to a client that asks by ALPN (RFC 7301).
_HTTP = ["http/1.1"]

#: What OpenSSL says where Python's callback has failed.
_CALLBACK_FAILED = "callback failed"

#: What Python calls, or writes to, about an error in a callback of OpenSSL; before 3.8 there is no
#: hook. And what is there while a handshake is under way: see `TlsContexts.step`.
_COMPLAINTS = "unraisablehook" if hasattr(sys, "unraisablehook") else "stderr"
_NOBODY: Any = (lambda args: None) if _COMPLAINTS == "unraisablehook" else None


class BaseKey(NamedTuple):
    """What has to be the same for tickets to go on to count."""

    process_id: str
    min_version: str
    ciphers: Optional[str]
    #: The digest of the authorities for clients.
    client_ca: str
    protocol: str


class Base(NamedTuple):
    """The context that connections begin with."""

    context: Any
    #: Of its pair: who is given that one need not change to another context.
    digest: str


class TlsContexts:
    """Of one cluster, as it is configured now."""

    def __init__(self, base: Base, tls: Tls, made: "Sequence[Any]") -> None:
        """`made` has a context for each pair; None for that of the base."""
        self.base = base
        self._default = made[0]
        #: By names of hosts, in lower case; maybe with `*` in front.
        self._contexts: Dict[str, Any] = {}
        for pair, context in zip(tls.pairs, made):
            for name in pair.names:
                self._contexts.setdefault(name, context)
        #: Clients show certificates.
        self._verifies = tls.client_ca is not None
        #: The host that was asked for in the handshake that is under way.
        self._asked_for = ""

    def take_over(self) -> None:
        """Handshakes find these from now on."""
        context = self.base.context
        if hasattr(ssl.SSLContext, "sni_callback"):
            context.sni_callback = self._choose
        else:
            context.set_servername_callback(self._choose)  # Python 3.6

    def step(self, tls: TlsSession, data: bytes) -> "Tuple[bool, bytes]":
        """`TlsSession.handshake`, which learns here whom its client has asked for.

        Python decodes that name, and prints a traceback for one that is none: as many as a client
        likes. The handshake fails by itself, so that is all that is to be known.
        """
        self._asked_for = ""
        complaints = getattr(sys, _COMPLAINTS)
        setattr(sys, _COMPLAINTS, _NOBODY)
        try:
            is_over, output = tls.handshake(data)
        finally:
            setattr(sys, _COMPLAINTS, complaints)
        if self._asked_for:
            tls.server_name = self._asked_for
        elif tls.failure == _CALLBACK_FAILED:
            tls.failure = "it asks for a host by what is no name"
        if is_over and self._verifies:
            tls.take_client_certificate()
        return is_over, output

    def _choose(self, session: Any, name: "Optional[str]", base: Any) -> None:
        """Python's call for each handshake; `name` is None where none was asked for."""
        contexts = self._contexts
        if name in contexts:
            context = contexts[name]
        else:
            name = _as_asked(name or "").lower()
            context = self.of(name)
        self._asked_for = name
        if context is not None:
            session.context = context

    def of(self, name: str) -> Any:
        """The context for that host; None: that of the base."""
        contexts, name = self._contexts, name.rstrip(".")
        if name in contexts:
            return contexts[name]
        return contexts.get("*." + name.partition(".")[2], self._default)


def _as_asked(name: str) -> str:
    """Python 3.6 hands over what a client does not send: "b\u00fccher", for "xn--bcher-kva"."""
    try:
        name.encode("ascii")
        return name
    except UnicodeError:
        return name.encode("idna").decode("ascii")


class CertificateStore:
    """The contexts of all clusters. Reading files is for a thread; asking is for the hub."""

    def __init__(self) -> None:
        self._bases: Dict[BaseKey, Base] = {}
        self._contexts: Dict[Tuple[BaseKey, Tls], TlsContexts] = {}

    def load(self, processes: "Iterable[Process]") -> None:
        """Have those of these processes ready, in place of what there is. Blocks for the files;
        raises PupgeventError, and then all is as it was."""
        bases: Dict[BaseKey, Base] = {}
        contexts: Dict[Tuple[BaseKey, Tls], TlsContexts] = {}
        for process in processes:
            cluster = process.cluster
            if cluster is None or cluster.tls is None:
                continue
            key = _base_key(process.id, cluster, cluster.tls)
            found = self._contexts.get((key, cluster.tls))
            if found is None:
                try:
                    found = _contexts(cluster, cluster.tls, self._bases.get(key))
                except (OSError, ValueError) as error:
                    raise PupgeventError("%s: TLS cannot begin: %s" % (
                        process.id, _why(error))) from None
            bases[key] = found.base
            contexts[key, cluster.tls] = found
        self._bases, self._contexts = bases, contexts

    def of(self, process_id: str, cluster: Cluster) -> "Optional[TlsContexts]":
        """Of a process for which they have been loaded; None where TLS does not end here."""
        tls = cluster.tls
        return None if tls is None else self._contexts[_base_key(process_id, cluster, tls), tls]


def _base_key(process_id: str, cluster: Cluster, tls: Tls) -> BaseKey:
    return BaseKey(process_id, tls.min_version, tls.ciphers,
                   "" if tls.client_ca is None else tls.client_ca.digest, cluster.protocol)


def _contexts(cluster: Cluster, tls: Tls, base: "Optional[Base]") -> TlsContexts:
    """`base` is what there is already. OSError, ValueError."""
    if base is None:
        base = Base(_context(cluster, tls, tls.pairs[0]), tls.pairs[0].digest)
    return TlsContexts(base, tls, [
        None if pair.digest == base.digest else _context(cluster, tls, pair)
        for pair in tls.pairs])


def _context(cluster: Cluster, tls: Tls, pair: TlsPair) -> Any:
    context: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | _NO_RENEGOTIATION
    _set_least_version(context, tls.min_version)
    context.set_ciphers(tls.ciphers or CIPHERS)
    if hasattr(context, "num_tickets"):  # not before Python 3.8
        # For each connection one, since it may have used one up (RFC 8446, C.4). OpenSSL makes two,
        # and each takes a twentieth of a full handshake.
        context.num_tickets = 1
    if cluster.protocol == "http":
        context.set_alpn_protocols(_HTTP)
    if tls.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(tls.client_ca.path)
    context.load_cert_chain(pair.cert, pair.key, _no_passphrase)
    return context


def _set_least_version(context: Any, version: str) -> None:
    if hasattr(ssl, "TLSVersion"):
        least = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
        context.minimum_version = least[version]
        return
    # Python 3.6.
    older = [ssl.OP_NO_SSLv2, ssl.OP_NO_SSLv3, ssl.OP_NO_TLSv1, ssl.OP_NO_TLSv1_1]
    if version == "TLSv1.3":
        older.append(ssl.OP_NO_TLSv1_2)
    for each in older:
        context.options |= each


def _no_passphrase() -> str:
    """Else OpenSSL would ask for it at the terminal. A key that was checked has none."""
    return "none"


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return reason_of(error)
    if isinstance(error, OSError):
        return "%s: %s" % (error.filename or "a file", (error.strerror or "unreadable").lower())
    return str(error)
