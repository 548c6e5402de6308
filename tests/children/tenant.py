"""Listens where it is told, answers each connection with a word, and leaves its port on demand.

    tenant.py (open | closed) [WORD [HOST [PORT]]]    PORT is PUP_CLUSTER_PORT where it is not told

SIGUSR1: stop listening. SIGUSR2: listen again, as soon as the port is to be had. Both are told on
standard output once they are done. Its sockets have SO_REUSEPORT and nothing else, so that each
connection that it ends first keeps its port in TIME_WAIT.
"""

import os
import select
import signal
import socket
import sys

word = sys.argv[2] if len(sys.argv) > 2 else "own"
host = sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1"
port = int(sys.argv[4] if len(sys.argv) > 4 else os.environ["PUP_CLUSTER_PORT"])

#: Seconds between two looks at what is wanted.
PAUSE = 0.02


class Tenant:
    def __init__(self, wants):
        self.wants = wants
        self.server = None
        signal.signal(signal.SIGUSR1, lambda *_: self.want(False))
        signal.signal(signal.SIGUSR2, lambda *_: self.want(True))

    def want(self, wants):
        self.wants = wants

    def serve(self):
        while True:
            if self.wants and self.server is None:
                self.listen()
            if self.server is not None and not self.wants:
                self.close()
            ready = select.select([self.server] if self.server else [], [], [], PAUSE)[0]
            if ready:
                self.answer()

    def listen(self):
        server = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            server.bind((host, port))
            server.listen(64)
        except OSError:
            server.close()
            return
        self.server = server
        print("listening", flush=True)

    def close(self):
        self.server.close()
        self.server = None
        print("closed", flush=True)

    def answer(self):
        client, _ = self.server.accept()
        try:
            client.sendall(word.encode() + b"\n")
        except OSError:
            pass
        client.close()


if sys.argv[1] == "closed":
    print("closed", flush=True)
Tenant(sys.argv[1] == "open").serve()
