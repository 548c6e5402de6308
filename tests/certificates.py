"""Certificates and keys for tests, made with the real `openssl`: 1.1.1 or newer."""

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

#: `openssl ca` is the one command that takes dates of the past in all versions.
_CONFIG = """\
[ca]
default_ca = here
[here]
database = {folder}/index.txt
new_certs_dir = {folder}
serial = {folder}/serial
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = optional
[req]
distinguished_name = name
prompt = no
[name]
{subject}
[extensions]
basicConstraints = critical, CA:{ca}
subjectKeyIdentifier = hash
{names}
"""

_DAY = 24 * 3600


class Made(NamedTuple):
    """The files of a certificate and its private key."""

    cert: str
    key: str


def make(
    folder: Path, name: str = "localhost",
    names: Sequence[str] = ("DNS:localhost", "IP:127.0.0.1"), days: float = 100,
    ca: Optional[Made] = None, rsa: bool = False,
) -> Made:
    """A certificate, of `ca` or signed by itself, for `names`; without any it has its CN alone.

    With negative `days` it has expired. In `folder` as `NAME.pem` and `NAME.key`; what was there is
    replaced at once, as tools that renew certificates do.
    """
    return _copied(_made(name, tuple(names), days, ca, rsa, False), folder, name)


def make_ca(folder: Path, name: str = "Test CA") -> Made:
    """A CA, for `make(ca=...)`; `cert` is what clients trust."""
    return _copied(_made(name, (), 1000, None, False, True), folder, name)


def encrypted(made: Made, passphrase: str = "secret") -> str:
    """The key once more, in a file beside it, that takes a passphrase."""
    path = made.key + ".encrypted"
    _openssl("pkey", "-in", made.key, "-aes256", "-passout", "pass:" + passphrase, "-out", path)
    return path


def as_der(made: Made) -> str:
    """The certificate once more, in a file beside it, without the letters of PEM."""
    path = made.cert + ".der"
    _openssl("x509", "-in", made.cert, "-outform", "DER", "-out", path)
    return path


def in_one_file(made: Made, path: Path) -> Made:
    """Key and certificate in one file, as HAProxy wants them."""
    path.write_text(Path(made.key).read_text() + Path(made.cert).read_text())
    return Made(str(path), str(path))


#: What has been made for the same arguments in this session: openssl takes its time.
_cache: Dict[Tuple[object, ...], Tuple[bytes, bytes]] = {}


def _made(
    name: str, names: Tuple[str, ...], days: float, ca: Optional[Made], rsa: bool, is_ca: bool
) -> Tuple[bytes, bytes]:
    signer = None if ca is None else Path(ca.cert).read_bytes()
    arguments = (name, names, days, signer, rsa, is_ca)
    if arguments not in _cache:
        folder = tempfile.mkdtemp()
        try:
            _cache[arguments] = _sign(folder, name, names, days, ca, rsa, is_ca)
        finally:
            shutil.rmtree(folder)
    return _cache[arguments]


def _sign(
    folder: str, name: str, names: Tuple[str, ...], days: float, ca: Optional[Made], rsa: bool,
    is_ca: bool,
) -> Tuple[bytes, bytes]:
    config, key, request, cert = (
        os.path.join(folder, each) for each in ("config", "key", "request", "cert"))
    Path(folder, "index.txt").touch()
    Path(folder, "serial").write_text("%032x" % uuid.uuid4().int)
    Path(config).write_text(_CONFIG.format(
        folder=folder, ca="TRUE" if is_ca else "FALSE", subject="CN = " + name if name else "",
        names="subjectAltName = " + ", ".join(names) if names else ""))
    kind = ("RSA", "rsa_keygen_bits:2048") if rsa else ("EC", "ec_paramgen_curve:P-256")
    _openssl("genpkey", "-algorithm", kind[0], "-pkeyopt", kind[1], "-out", key)
    subject = "/CN=" + name if name else "/"
    _openssl("req", "-new", "-config", config, "-key", key, "-subj", subject, "-out", request)
    now = time.time()
    dates = (now - _DAY if days > 0 else now + (days - 1) * _DAY, now + days * _DAY)
    begin, end = (time.strftime("%Y%m%d%H%M%SZ", time.gmtime(each)) for each in dates)
    signer = ("-cert", ca.cert, "-keyfile", ca.key) if ca else ("-selfsign", "-keyfile", key)
    _openssl("ca", "-batch", "-notext", "-config", config, "-extensions", "extensions",
             "-startdate", begin, "-enddate", end, *signer,
             "-in", request, "-out", cert)
    return Path(cert).read_bytes(), Path(key).read_bytes()


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], check=False, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    if done.returncode != 0:
        raise AssertionError("openssl %s: %s" % (" ".join(arguments), done.stdout.decode()))


def _copied(contents: Tuple[bytes, bytes], folder: Path, name: str) -> Made:
    stem = os.path.join(str(folder), name.replace("*", "_").replace(" ", "-") or "nobody")
    made = Made(stem + ".pem", stem + ".key")
    for path, content, mode in zip(made, contents, (0o644, 0o600)):
        with open(path + ".new", "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
        os.replace(path + ".new", path)
    return made
