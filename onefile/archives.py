"""Zip archives that come out the same, byte for byte, whenever and wherever they are made."""

import base64
import hashlib
import io
import zipfile
from typing import Dict, Iterable, Iterator, Tuple

#: The first moment that a zip archive can tell.
MOMENT = (1980, 1, 1, 0, 0, 0)

Files = Dict[str, bytes]


def add(archive: zipfile.ZipFile, path: str, data: bytes, squeeze: bool = True) -> None:
    entry = zipfile.ZipInfo(path, MOMENT)
    entry.create_system = 3
    entry.external_attr = 0o100644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED if squeeze else zipfile.ZIP_STORED
    archive.writestr(entry, data, compresslevel=9 if squeeze else None)


def behind(stub: bytes, files: Iterable[Tuple[str, bytes, bool]]) -> bytes:
    """An archive of (path, data, whether to compress it) behind a shell's lines, which are told
    the size of it all where they say @SIZE@."""
    head = _with_size(stub, 0)
    output = io.BytesIO(head)
    output.seek(0, io.SEEK_END)
    with zipfile.ZipFile(output, "a") as archive:
        for path, data, squeeze in files:
            add(archive, path, data, squeeze)
    return _with_size(stub, len(output.getvalue())) + output.getvalue()[len(head):]


def _with_size(stub: bytes, size: int) -> bytes:
    """Of one length for every size: blanks behind a number are nothing to a shell."""
    return stub.replace(b"@SIZE@", b"%-12d" % size)


def files_of(data: bytes) -> Iterator[Tuple[str, bytes]]:
    """Path and content of each file in a zip archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            if not name.endswith("/"):
                yield name, archive.read(name)


def wheel_of(files: Files) -> bytes:
    """A wheel with these files; RECORD is made here."""
    record = next(name for name in files if name.endswith(".dist-info/RECORD"))
    lines = ["%s,%s,%d\n" % (name, record_digest(files[name]), len(files[name]))
             for name in sorted(files) if name != record]
    written = dict(files)
    written[record] = ("".join(lines) + record + ",,\n").encode()
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        for name in sorted(written):
            add(archive, name, written[name])
    return output.getvalue()


def record_digest(data: bytes) -> str:
    """As RECORD has it (PEP 376)."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest())
    return "sha256=" + digest.rstrip(b"=").decode()
