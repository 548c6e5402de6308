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

wants = sys.argv[1] == "open"
word = sys.argv[2] if len(sys.argv) > 2 else "own"
host = sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1"
port = int(sys.argv[4] if len(sys.argv) > 4 else os.environ["PUP_CLUSTER_PORT"])


def want(number, frame):
    global wants
    wants = number == signal.SIGUSR2


def listen():
    server = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        server.bind((host, port))
        server.listen(64)
    except OSError:
        server.close()
        return None
    print("listening", flush=True)
    return server


signal.signal(signal.SIGUSR1, want)
signal.signal(signal.SIGUSR2, want)
server = None
if not wants:
    print("closed", flush=True)
while True:
    if wants and server is None:
        server = listen()
    if server is not None and not wants:
        server.close()
        server = None
        print("closed", flush=True)
    if server is None or not select.select([server], [], [], 0.02)[0]:
        select.select([], [], [], 0.02 if server is None else 0)
        continue
    client, _ = server.accept()
    try:
        client.sendall(word.encode() + b"\n")
    except OSError:
        pass
    client.close()
