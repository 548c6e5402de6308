"""A small web server that behaves well under a supervisor: an example for your own.

    GET /               a line that names the instance
    GET /bytes/N        N bytes, 100 MB at most
    GET /slow/SECONDS   an answer that takes its time, 30 s at most
    POST, any path      length and CRC-32 of what was sent

SIGTERM loses no request. Connections in the listen queue are still accepted, requests in flight are
finished, and each answer from then on has `Connection: close`. So it is the client who closes, when
no request is on its way. The server exits when its last connection has ended.
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
#: Seconds without the end of a connection, after which a stopping server closes idle ones. A
#: balancer of connections (`tcp`) cannot do that: it does not know whether they are between two
#: requests.
IDLE_TIMEOUT = 1.0
#: Seconds that a client has to close its side after its last answer.
LINGER_TIMEOUT = 2.0
HEAD_LIMIT = 32 * 1024
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}

request_numbers = itertools.count(1)


def answer(method: str, path: str, length: int, checksum: int) -> "tuple[int, bytes]":
    """The application proper: status and body for one request."""
    kind, _, argument = path[1:].partition("/")
    if method == "POST":
        return 200, b"Received %d bytes, CRC-32 %08x\n" % (length, checksum)
    if method not in ("GET", "HEAD"):
        return 405, b"Use GET, HEAD or POST\n"
    if path == "/":
        text = "Hello from instance %s (port %d, pid %d), request %d\n"
        return 200, (text % (INSTANCE, PORT, os.getpid(), next(request_numbers))).encode()
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
            while self.handle_request():
                pass
            self.linger()
        except OSError:
            pass  # the client has gone
        finally:
            self.client.close()
            self.server.forget(self)

    def handle_request(self) -> bool:
        """Read one request and answer it; False when the connection is to be closed."""
        while b"\r\n\r\n" not in self.received and len(self.received) < HEAD_LIMIT:
            if not self.receive():
                return False
        self.between_requests = False
        head, end, self.received = self.received.partition(b"\r\n\r\n")
        try:
            text = head.decode("latin-1") if end else ""
            method, path, keep_alive, length = self.parse_head(text)
        except ValueError:
            return self.respond("GET", False, 400, b"This is not understood\n")
        checksum = self.read_body(length)
        return self.respond(method, keep_alive, *answer(method, path, length, checksum))

    def receive(self) -> bool:
        data = self.client.recv(65536)
        self.received += data
        return bool(data)

    def parse_head(self, head: str) -> "tuple[str, str, bool, int]":
        """Method, path, whether the client keeps the connection, and the length of the body."""
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

    def read_body(self, length: int) -> int:
        """Read the body piece by piece; returns its CRC-32."""
        checksum = 0
        while length > 0:
            if not self.received and not self.receive():
                raise ConnectionError("the body ends early")
            piece, self.received = self.received[:length], self.received[length:]
            checksum = zlib.crc32(piece, checksum)
            length -= len(piece)
        return checksum

    def respond(self, method: str, keep_alive: bool, status: int, body: bytes) -> bool:
        """Send an answer; True if the connection goes on.

        While stopping it goes on only for a request that has arrived already.
        """
        keep_alive = keep_alive and (bool(self.received) or not self.server.stopping)
        head = ("HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
                "Connection: %s\r\n\r\n")
        head %= status, REASONS[status], len(body), "keep-alive" if keep_alive else "close"
        self.client.sendall(head.encode() + (b"" if method == "HEAD" else body))
        self.between_requests = True
        return keep_alive

    def linger(self) -> None:
        """Wait for the client to close: a close with unread bytes would lose the answer."""
        self.client.shutdown(socket.SHUT_WR)
        self.client.settimeout(LINGER_TIMEOUT)
        while self.client.recv(65536):
            pass

    def end_input(self) -> None:
        """End the wait for the next request. Bytes that have arrived can still be read."""
        if not self.between_requests:
            return
        try:
            self.client.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # it has just ended


def socket_of_signals(*numbers: int) -> socket.socket:
    """A socket that becomes readable when one of these signals arrives."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach())
    for number in numbers:
        signal.signal(number, lambda *_: None)
    return reader


class Server:
    """The listener and the open connections."""

    def __init__(self) -> None:
        self.stopping = False
        self.connections: set[Connection] = set()
        self.changed = threading.Condition()
        # Before the listener: a supervisor may send SIGTERM as soon as the port accepts.
        self.signals = socket_of_signals(signal.SIGTERM, signal.SIGINT)
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
        poll.register(self.signals, select.POLLIN)
        while self.signals.fileno() not in dict(poll.poll()):
            self.accept()
        self.stop()

    def accept(self) -> bool:
        """Take a connection from the listen queue; False when none waits there."""
        try:
            client, _ = self.listener.accept()
        except BlockingIOError:
            return False
        except OSError:
            time.sleep(0.05)  # no descriptor is left: try again
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
        """Accept what is in the listen queue, close it, and wait for the last connection to end.

        No new client connects: a balancer takes an instance out of rotation before the signal.
        """
        self.stopping = True
        while self.accept():
            pass
        self.listener.close()
        with self.changed:
            while self.connections:
                if not self.changed.wait(IDLE_TIMEOUT):
                    for connection in self.connections:
                        connection.end_input()


if __name__ == "__main__":
    Server().run()
