"""WebSocket (RFC 6455) on a plain socket, as far as a test needs it."""

import base64
import hashlib
import os
import socket
import struct
from typing import Tuple

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def read(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise ConnectionError("the connection has ended")
        data += piece
    return data


def answer_to(key: bytes) -> bytes:
    """What a server has to make of a client's key."""
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def shake_hands(sock: socket.socket) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read(sock, 1)
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    key = {name.lower(): value for name, value in fields.items()}[b"sec-websocket-key"]
    accept = answer_to(key)
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")


def upgrade(sock: socket.socket, path: str) -> None:
    """The handshake from the client's side."""
    key = base64.b64encode(os.urandom(16))
    sock.sendall(
        b"GET " + path.encode() + b" HTTP/1.1\r\nHost: example\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key +
        b"\r\n\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read(sock, 1)
    assert head.startswith(b"HTTP/1.1 101 ") and answer_to(key) in head, head


def receive(sock: socket.socket) -> Tuple[int, bytes]:
    """Opcode and text of the next frame, unmasked where it is masked."""
    first, second = read(sock, 2)
    length = second & 127
    if length == 126:
        length = struct.unpack(">H", read(sock, 2))[0]
    elif length == 127:
        length = struct.unpack(">Q", read(sock, 8))[0]
    mask = read(sock, 4) if second & 128 else b"\0\0\0\0"
    data = read(sock, length)
    stream = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
    return first & 15, (int.from_bytes(data, "big") ^ stream).to_bytes(length, "big")


def frame(opcode: int, data: bytes, mask: bytes = b"") -> bytes:
    """One whole message; a client has to mask it."""
    head = bytes([128 | opcode])
    bit = 128 if mask else 0
    if len(data) < 126:
        head += bytes([bit | len(data)])
    elif len(data) < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", len(data))
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", len(data))
    if mask:
        stream = int.from_bytes((mask * (len(data) // 4 + 1))[:len(data)], "big")
        data = (int.from_bytes(data, "big") ^ stream).to_bytes(len(data), "big")
    return head + mask + data
