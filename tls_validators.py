"""Validators for TLS: certificates and keys that belong together, ciphers, CAs of clients."""

import os
import ssl
from typing import Any, Callable, Dict, Iterable, Tuple, TypeVar

import tls_files
from errors import format_value, one_line
from model import TlsFile, TlsPair
from tls_files import CertificateFile, KeyFile, UnusableFile, UnusableKey
from validators import InvalidValue, Validator, absolute_path, convert_all, non_empty_string

T = TypeVar("T")


def certificates() -> Validator:
    """One file or several, as a tuple of CertificateFile."""
    return _files(tls_files.read_certificate, secret=False)


def private_keys() -> Validator:
    """One file or several, as a tuple of KeyFile. No message repeats what may be a key itself."""
    return _files(tls_files.read_key, secret=True)


def authorities() -> Validator:
    """A file of certificates, as a TlsFile."""

    def convert(value: object, folder: str) -> TlsFile:
        return _read(tls_files.read_authorities, False, value, folder)

    return Validator("a path of a PEM file", convert)


def _files(read: Callable[[str], T], secret: bool) -> Validator:
    def convert(value: object, folder: str) -> Tuple[T, ...]:
        if not isinstance(value, list):
            return (_read(read, secret, value, folder),)
        if not value:
            raise InvalidValue("it is empty: at least one path is needed")
        items = ((read, secret, item, folder, index) for index, item in enumerate(value))
        return tuple(convert_all(_read, items))

    return Validator("a path of a PEM file, or an array of such paths", convert)


def _read(
    read: Callable[[str], T], secret: bool, value: object, folder: str, *inside: int
) -> T:
    try:
        path = absolute_path(value, folder)
    except InvalidValue as error:
        reason = error.reason or (inside and "it is not a path of a PEM file") or None
        raise InvalidValue(reason, *inside) from None
    try:
        return read(path)
    except UnusableFile as error:
        raise InvalidValue(_problem(str(value), path, error.reason, secret), *inside) from None


def _problem(value: str, path: str, reason: str, secret: bool) -> str:
    """The reason with the value, unless this may be no path but a key itself."""
    if "-----BEGIN" in value:
        return "it is the text of a PEM file: what is wanted is the path of one"
    if os.path.lexists(path):
        return _told(value, reason)
    return "%s %s" % ("the file" if secret else format_value(value), reason)


def _told(path: str, reason: str) -> str:
    """With the whole of a path that is there: it ends in what tells it from others."""
    return '"%s" %s' % (one_line(path), reason)


def with_pairs(fields: Dict[str, Any]) -> Dict[str, Any]:
    """The fields of the table, with each certificate and its key as `pairs`; with none where one
    of the two keys is missing or wrong. Raises InvalidValue."""
    certs, keys = fields["cert"] or (), fields["key"] or ()
    if certs and keys and len(certs) != len(keys):
        reason = "it needs as many paths as cert, each at the same place: %d, and not %d"
        raise InvalidValue(reason % (len(certs), len(keys)), "key")
    items = ((cert, key, index) for index, (cert, key) in enumerate(zip(certs, keys)))
    pairs = convert_all(_pair, items if len(certs) > 1 else ((*each[:2],) for each in items))
    return dict(fields, pairs=tuple(pairs))


def _pair(cert: CertificateFile, key: KeyFile, *index: int) -> TlsPair:
    try:
        return tls_files.pair(cert, key)
    except UnusableKey as error:
        raise InvalidValue(_told(key.path, error.reason), "key", *index) from None
    except UnusableFile as error:
        raise InvalidValue(_told(cert.path, error.reason), "cert", *index) from None


def ciphers() -> Validator:
    """A list of ciphers for TLS 1.2, asked of the OpenSSL that is to use it."""

    def convert(value: object, folder: str) -> str:
        text = non_empty_string(value)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.set_ciphers(text)
        except (ssl.SSLError, ValueError):
            raise InvalidValue("OpenSSL finds no cipher in %s" % format_value(text)) from None
        offered: Iterable[Any] = context.get_ciphers()
        if not any(map(_is_secure, offered)):
            raise InvalidValue("%s leaves no cipher for TLS 1.2 that encrypts, and that proves who"
                               " the server is" % format_value(text))
        return text

    return Validator("a list of ciphers, as OpenSSL writes it", convert)


def _is_secure(cipher: Dict[str, Any]) -> bool:
    """For TLS 1.2. OpenSSL's list has those of TLS 1.3 as well, whatever is asked for."""
    is_older, strength = cipher["protocol"] != "TLSv1.3", int(cipher["strength_bits"])
    return is_older and strength > 0 and str(cipher["auth"]) != "auth-null"
