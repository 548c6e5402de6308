"""Listens on PUP_CLUSTER_PORT and answers each connection with its pid; can be late.

    listener.py [SECONDS before it listens] [HOST]
"""

import os
import socket
import sys
import time

delay = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
host = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
time.sleep(delay)
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((host, int(os.environ["PUP_CLUSTER_PORT"])))
server.listen(16)
print("listening", flush=True)
while True:
    client, _ = server.accept()
    try:
        client.sendall(b"%d\n" % os.getpid())
    except OSError:
        pass
    client.close()
