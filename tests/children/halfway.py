"""An application whose answers pause in the middle.

    halfway.py [--dies]

    GET /half/SECONDS    headers and half a body at once, the rest after so long
    GET /events/SECONDS  three events, so far apart
    GET /flood/0         as much as the way to the client takes, while that reads nothing; how much
                         it was is printed
    a WebSocket          a message every SECONDS (the path), until SIGTERM; then its close frame

SIGTERM lets it finish what it has in hand; with --dies it ends at once, in the middle of all.
"""

import os
import select
import signal
import socket
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from web_sockets import CLOSE, TEXT, answer_to, frame, receive

stopping = threading.Event()


class Leave(Exception):
    """SIGTERM has come."""


def serve(sock: socket.socket) -> None:
    with sock:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = sock.recv(1)
            if not piece:
                return
            head += piece
        seconds = float(head.split(b" ")[1].rpartition(b"/")[2])
        if b"Upgrade" in head:
            speak(sock, head, seconds)
        elif b"/events/" in head:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            sock.sendall(b"data: 0\n\n")
            for number in (1, 2):
                threading.Event().wait(seconds)
                sock.sendall(b"data: %d\n\n" % number)
        elif b"/flood/" in head:
            flood(sock)
        else:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
            threading.Event().wait(seconds)
            sock.sendall(b"later")


def flood(sock: socket.socket) -> None:
    sock.setblocking(False)
    pushed, block = 0, bytes(1 << 16)
    while select.select([], [sock], [], 0.3)[1]:
        pushed += sock.send(block)
    print("pushed %d" % pushed, flush=True)
    stopping.wait()


def speak(sock: socket.socket, head: bytes, seconds: float) -> None:
    key = head.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
    sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                 b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + answer_to(key) + b"\r\n\r\n")
    try:
        sock.sendall(frame(TEXT, b"hello"))
        while not stopping.wait(seconds):
            sock.sendall(frame(TEXT, b"hello"))
        sock.sendall(frame(CLOSE, b"\x03\xe9"))
        while receive(sock)[0] != CLOSE:
            pass
    except OSError:
        pass  # the client has left


def leave(*_: object) -> None:
    if "--dies" in sys.argv:
        os._exit(0)
    raise Leave


def main() -> None:
    signal.signal(signal.SIGTERM, leave)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", int(os.environ["PUP_CLUSTER_PORT"])))
        listener.listen(100)
        try:
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],)).start()
        except Leave:
            stopping.set()


if __name__ == "__main__":
    main()
