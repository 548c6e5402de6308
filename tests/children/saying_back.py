"""Listens on PUP_CLUSTER_PORT and answers each request with all bytes that came, in base64.

What comes has to end with an empty line. Requests on a connection come one after the other.
"""

import base64
import os
import socket
import threading


def serve(client):
    with client:
        try:
            while answer(client):
                pass
        except OSError:
            pass  # the client has left


def answer(client):
    """One request; false where there is no more."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = client.recv(65536)
        if not piece:
            return False
        data += piece
    body = base64.b64encode(data)
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    return True


listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(os.environ["PUP_CLUSTER_PORT"])))
listener.listen(64)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
