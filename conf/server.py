"""A small web server that behaves well under a supervisor: an example for your own.

    GET /               a line that names the instance
    GET /bytes/N        N bytes, 100 MB at most
    GET /slow/SECONDS   an answer that takes its time, 30 s at most
    POST, any path      length and CRC-32 of what was sent

SIGTERM loses no request. What waits in the listen queue is still accepted, what is in flight
is finished, and each answer from then on says `Connection: close`, so that it is the client who
leaves, at a moment when nothing is on its way. The exit comes with the end of the last connection.
"""

import itertools
import os
import select
import signal
import socket
import threading
import time
import zlib

PORT = int(os.environ.get("PUP_CLUSTER_PORT", "8000"))
INSTANCE = os.environ.get("PUP_CLUSTER_INSTANCE", "0")
#: Seconds in which no connection ends, until a stopping server parts from idle clients. A
#: balancer in front does not: it cannot know that they are between two requests.
PATIENCE = 1.0
#: Seconds for the client to close its side after its last answer.
LINGER = 2.0
HEAD_LIMIT = 32 * 1024
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}

visits = itertools.count(1)


def answer(method: str, path: str, length: int, checksum: int) -> "tuple[int, bytes]":
    """The application proper: status and body for one request."""
    kind, _, argument = path[1:].partition("/")
    if method == "POST":
        return 200, b"Received %d bytes, CRC-32 %08x\n" % (length, checksum)
    if method not in ("GET", "HEAD"):
        return 405, b"Use GET, HEAD or POST\n"
    if path == "/":
        text = "Hello from instance %s (port %d, pid %d), request %d\n"
        return 200, (text % (INSTANCE, PORT, os.getpid(), next(visits))).encode()
    if kind == "bytes" and argument.isdigit():
        return 200, b"x" * min(int(argument), 100000000)
    if kind == "slow" and argument.replace(".", "", 1).isdigit():
        time.sleep(min(float(argument), 30.0))
        return 200, b"That took a while\n"
    return 404, b"Nothing here\n"


class Connection:
    """One client, served in a thread of its own."""

    def __init__(self, server: "Server", client: socket.socket) -> None:
        self.server, self.client = server, client
        self.received = b""
        self.between_requests = True

    def serve(self) -> None:
        try:
            while self.exchange():
                pass
            self.linger()
        except OSError:
            pass  # the client is gone: nobody is left to be told
        finally:
            self.client.close()
            self.server.forget(self)

    def exchange(self) -> bool:
        """One request and its answer; False when the connection has come to its end."""
        while b"\r\n\r\n" not in self.received and len(self.received) < HEAD_LIMIT:
            if not self.receive():
                return False
        self.between_requests = False
        head, end, self.received = self.received.partition(b"\r\n\r\n")
        try:
            method, path, stays, length = self.understand(head.decode("latin-1") if end else "")
        except ValueError:
            return self.respond("GET", False, 400, b"This is not understood\n")
        return self.respond(method, stays, *answer(method, path, length, self.checksum(length)))

    def receive(self) -> bool:
        data = self.client.recv(65536)
        self.received += data
        return bool(data)

    def understand(self, head: str) -> "tuple[str, str, bool, int]":
        """Method, path, whether the client wants to stay, and the length of the body."""
        request, *lines = head.split("\r\n")
        method, path, version = request.split(" ")
        pairs = (line.lower().partition(":") for line in lines)
        fields = {name: value.strip() for name, _, value in pairs}
        length = fields.get("content-length", "0")
        if not version.startswith("HTTP/1.") or "transfer-encoding" in fields or "-" in length:
            raise ValueError("neither other protocols nor chunks nor negative lengths")
        if fields.get("expect") == "100-continue":
            self.client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        wish = fields.get("connection", "keep-alive" if version == "HTTP/1.1" else "close")
        return method, path, wish != "close", int(length)

    def checksum(self, length: int) -> int:
        """CRC-32 of the body, of which no more than a piece is held."""
        checksum = 0
        while length > 0:
            if not self.received and not self.receive():
                raise ConnectionError("the body ends early")
            piece, self.received = self.received[:length], self.received[length:]
            checksum = zlib.crc32(piece, checksum)
            length -= len(piece)
        return checksum

    def respond(self, method: str, stays: bool, status: int, body: bytes) -> bool:
        """True if the connection goes on: while stopping, only for a request that is here."""
        stays = stays and (bool(self.received) or not self.server.stopping)
        head = ("HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
                "Connection: %s\r\n\r\n")
        head %= status, REASONS[status], len(body), "keep-alive" if stays else "close"
        self.client.sendall(head.encode() + (b"" if method == "HEAD" else body))
        self.between_requests = True
        return stays

    def linger(self) -> None:
        """Wait for the client to close: a close on unread bytes would reset the answer away."""
        self.client.shutdown(socket.SHUT_WR)
        self.client.settimeout(LINGER)
        while self.client.recv(65536):
            pass

    def end_input(self) -> None:
        """End a wait for the next request. Bytes that are here already pass."""
        if not self.between_requests:
            return
        try:
            self.client.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # it has just ended by itself


def rung_by(*numbers: int) -> socket.socket:
    """A socket that can be read from once one of these signals has come."""
    bell, cord = socket.socketpair()
    cord.setblocking(False)
    signal.set_wakeup_fd(cord.detach())
    for number in numbers:
        signal.signal(number, lambda *_: None)
    return bell


class Server:
    """The listener, the open connections, and the way to the exit."""

    def __init__(self) -> None:
        self.stopping = False
        self.connections: set[Connection] = set()
        self.changed = threading.Condition()
        # First of all: whoever reaches it may ask it to stop.
        self.bell = rung_by(signal.SIGTERM, signal.SIGINT)
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # clients inherit it
        self.listener.bind(("127.0.0.1", PORT))
        self.listener.listen(1024)
        self.listener.setblocking(False)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then until the last connection has ended."""
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        poll.register(self.bell, select.POLLIN)
        while self.bell.fileno() not in dict(poll.poll()):
            self.accept()
        self.stop()

    def accept(self) -> bool:
        """Take a connection from the listen queue; False when none waits there."""
        try:
            client, _ = self.listener.accept()
        except BlockingIOError:
            return False
        except OSError:
            time.sleep(0.05)  # no descriptor left: who waits in the queue waits for one
            return True
        connection = Connection(self, client)
        with self.changed:
            self.connections.add(connection)
        threading.Thread(target=connection.serve, daemon=True).start()
        return True

    def forget(self, connection: Connection) -> None:
        with self.changed:
            self.connections.discard(connection)
            self.changed.notify()

    def stop(self) -> None:
        """Empty the listen queue, close it, and see the last connections out.

        Nobody connects by now: a balancer takes an instance out of rotation before the signal.
        """
        self.stopping = True
        while self.accept():
            pass
        self.listener.close()
        with self.changed:
            while self.connections:
                if not self.changed.wait(PATIENCE):
                    for connection in self.connections:
                        connection.end_input()


if __name__ == "__main__":
    Server().run()
