"""Certificates and private keys in files: read, and found to belong together.

What is wrong with a file is an UnusableFile, with one line. No message and no record holds anything
of a key. A file is read once for what is in it, and once more by OpenSSL, which takes paths.
"""

import errno
import hashlib
import ipaddress
import os
import re
import ssl
import stat
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

from errors import counted, format_value
from model import TlsFile, TlsPair

#: Largest file, in bytes: all the CAs that a browser trusts are 200 kB.
LARGEST = 2**20

#: A certificate in PEM, in each way that OpenSSL knows (pem.h). Its letters have no hyphen: so the
#: search takes no longer for a file that begins one in each line.
_CERTIFICATE = re.compile(
    rb"^-----BEGIN (|X509 |TRUSTED )CERTIFICATE-----[ \t\r]*\n[^-]*^-----END \1CERTIFICATE-----",
    re.MULTILINE)

_KEY = re.compile(rb"^-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----", re.MULTILINE)

#: What a name in a certificate may be made of: letters of ASCII, also where it is of others (IDNA).
_NAME = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?")

#: The ciphers of TLS 1.2 where none are configured: with forward secrecy and authenticated
#: encryption, as all of TLS 1.3 are (RFC 9325, 4.2).
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

#: What OpenSSL finds where certificate and key are each right. The second is about keys of another
#: kind, such as RSA and EC: for those it has no certificate then.
_MISMATCHES = ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED", "KEY_TYPE_MISMATCH")


class UnusableFile(Exception):
    """A file cannot be used; `reason` is a line about it, without its path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnusableKey(UnusableFile):
    """It is the key of a pair that cannot be used."""


class CertificateFile(NamedTuple):
    """A file that holds a certificate, and maybe those between it and its CA."""

    path: str
    content: bytes
    names: Tuple[str, ...]
    not_after: float


class KeyFile(NamedTuple):
    """A file that holds a private key. It is not known yet whether it can be read."""

    path: str
    content: bytes

    def __repr__(self) -> str:
        return "KeyFile(%r)" % self.path


def read_certificate(path: str) -> CertificateFile:
    """The first certificate of a file is the one that counts; raises UnusableFile."""
    content = _read(path)
    if not _CERTIFICATE.search(content):
        raise UnusableFile("holds no certificate in PEM" + _instead(content))
    _check_certificates(content)
    try:
        fields = decoded_certificate(path)
        not_after = float(ssl.cert_time_to_seconds(str(fields["notAfter"])))
        return CertificateFile(path, content, tuple(dict.fromkeys(_names(fields))), not_after)
    except (ssl.SSLError, OSError, ValueError, KeyError):
        raise UnusableFile("holds a certificate that cannot be read") from None


def read_key(path: str) -> KeyFile:
    """Raises UnusableFile."""
    content = _read(path)
    if not _KEY.search(content):
        raise UnusableFile("holds no private key in PEM" + _instead(content))
    return KeyFile(path, content)


def pair(certificate: CertificateFile, key: KeyFile) -> TlsPair:
    """Both, where OpenSSL can use them together; raises UnusableFile, or of the key UnusableKey."""
    asked = []

    def passphrase() -> str:
        # Without this OpenSSL asks at the terminal. An exception here is another in each Python.
        asked.append(True)
        return os.urandom(16).hex()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate.path, key.path, passphrase)
    except ssl.SSLError as error:
        if asked:
            raise UnusableKey(
                "holds a key with a passphrase, which nobody could type at a start: `openssl pkey"
                " -in FILE -out NEW` writes it without") from None
        if error.reason in _MISMATCHES:
            raise UnusableKey("holds the key of another certificate") from None
        if error.reason and not error.reason.startswith(("BAD_", "NO_START_LINE")):
            # For example EE_KEY_TOO_SMALL.
            words = error.reason.replace("_", " ").lower()
            raise UnusableFile("holds a certificate that OpenSSL refuses: %s" % words) from None
        raise UnusableKey("holds a private key that cannot be read") from None
    except OSError as error:
        raise UnusableKey("cannot be read: %s" % _strerror(error)) from None
    return TlsPair(certificate.path, key.path, _digest(certificate.content, key.content),
                   certificate.names, certificate.not_after)


def read_authorities(path: str) -> TlsFile:
    """A file of certificates that those of clients may be signed with; raises UnusableFile."""
    content = _read(path)
    if not _CERTIFICATE.search(content):
        raise UnusableFile("holds no certificate in PEM" + _instead(content))
    _check_certificates(content)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except (ssl.SSLError, OSError):
        raise UnusableFile("holds a certificate that cannot be read") from None
    return TlsFile(path, _digest(content))


def decoded_certificate(path: str) -> Dict[str, Any]:
    """The first certificate of a file, as `getpeercert` gives it.

    Python decodes certificates of peers, and for its own tests those of files: there is no public
    name for it, and the same one from 3.6 to 3.14.
    """
    decode = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]
    found: Dict[str, Any] = decode(path)
    return found


def _check_certificates(content: bytes) -> None:
    """OpenSSL can read each of them; without this it would be the key that it cannot read."""
    for number, found in enumerate(_CERTIFICATE.finditer(content), 1):
        if found.group(1):
            continue
        try:
            text = found.group().decode("ascii")
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text)
        except (ssl.SSLError, ValueError):
            which = "certificate %d in it" % number
            raise UnusableFile("is damaged: %s cannot be read" % which) from None


def _names(fields: Dict[str, Any]) -> Iterator[str]:
    """For whom a certificate is: what it says in its SAN, and only without one its CN."""
    alternatives = fields.get("subjectAltName", ())
    for kind, value in alternatives:
        if kind == "IP Address":
            address = _address(value)
            if address is not None:
                yield address
        elif kind == "DNS" and _NAME.fullmatch(value.lower()):
            yield value.lower().rstrip(".")
    if not alternatives:
        for part in fields.get("subject", ()):
            for kind, value in part:
                if kind == "commonName" and _NAME.fullmatch(value.lower()):
                    yield value.lower().rstrip(".")


def _address(text: str) -> Optional[str]:
    try:
        # Older Pythons end an address of IPv6 with a line feed.
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return None


def _read(path: str) -> bytes:
    """The bytes of a regular file; a FIFO or a device would never end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            kind = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(kind):
                raise IsADirectoryError(errno.EISDIR, "")
            if not stat.S_ISREG(kind):
                raise UnusableFile("is no regular file")
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(LARGEST + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise UnusableFile("is not there") from None
    except IsADirectoryError:
        raise UnusableFile("is a folder, not a file") from None
    except OSError as error:
        raise UnusableFile("cannot be read: %s" % _strerror(error)) from None
    if len(content) > LARGEST:
        raise UnusableFile("is larger than %s" % counted(LARGEST, "byte"))
    return content


def _strerror(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else format_value(str(error))


def _instead(content: bytes) -> str:
    """What it holds in place of what was looked for, as far as that helps."""
    if content[:2] == b"0\x82":
        return ": it is DER, which `openssl x509` or `openssl pkey` can turn into PEM"
    if not content.strip():
        return ": it is empty"
    held = [name for pattern, name in ((_CERTIFICATE, "a certificate"), (_KEY, "a private key"))
            if pattern.search(content)]
    return ": it holds " + held[0] if held else ""


def _digest(*contents: bytes) -> str:
    """Of each by itself, so that nothing can pass from the one to the other."""
    whole = hashlib.sha256()
    for content in contents:
        whole.update(hashlib.sha256(content).digest())
    return whole.hexdigest()
