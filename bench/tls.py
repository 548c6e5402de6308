"""A certificate for the balancers, clients that speak TLS with them, and what both agree on."""

import functools
import re
import socket
import ssl
from pathlib import Path
from typing import Optional

from bench.tools import PATIENCE, BenchError, said

#: For whom the certificate is, and whom clients ask for.
HOST = "localhost"
CERTIFICATE, KEY = "bench.crt", "bench.key"
#: Both in one file, as HAProxy wants them.
PAIR = "bench.pem"

#: What `openssl s_client -brief` says of a handshake.
AGREED = ("Protocol version", "Ciphersuite", "Server Temp Key", "Signature type")


def write_certificate(openssl: str, folder: Path) -> None:
    """EC P-256, signed by itself: nobody looks for who has signed it."""
    said(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "7", "-subj", "/CN=" + HOST, "-addext",
         "subjectAltName=DNS:%s,IP:127.0.0.1" % HOST,
         "-out", str(folder / CERTIFICATE), "-keyout", str(folder / KEY))
    try:
        pair = [(folder / name).read_text() for name in (CERTIFICATE, KEY)]
    except OSError as error:
        raise BenchError("openssl has made no certificate: %s" % error) from error
    (folder / PAIR).write_text("".join(pair))


@functools.lru_cache(maxsize=None)
def client_context(older: bool) -> ssl.SSLContext:
    """For TLS 1.3 only, as the clients of today have it, or for 1.2 only, with the same cipher. The
    certificate is not checked.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if older:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    else:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect(port: int, session: Optional[ssl.SSLSession] = None,
            older: bool = False) -> ssl.SSLSocket:
    """Raises OSError; a session is resumed if the server agrees."""
    client = socket.create_connection(("127.0.0.1", port), PATIENCE)
    # Or a request waits for the acknowledgement of the end of the handshake, which takes 40 ms.
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client_context(older).wrap_socket(client, server_hostname=HOST, session=session)


def agreed(openssl: str, port: int) -> str:
    """Version, cipher, key exchange and signature, as a client gets them that leaves the choice to
    OpenSSL, which wrk does.
    """
    output = said(openssl, "s_client", "-brief", "-connect", "127.0.0.1:%d" % port)
    found = [re.search("^%s: (.*)$" % name, output, re.MULTILINE) for name in AGREED]
    if not all(found):
        raise BenchError("no handshake on port %d: %s" % (port, output.strip()[-200:]))
    return ", ".join(match.group(1) for match in found if match)
