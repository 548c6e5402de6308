"""An application that answers as it is told, from one moment to the next.

    health_app.py FOLDER

The word in FOLDER/health-N, or else in FOLDER/health, is how instance N (from 0) answers
GET /health; that in FOLDER/answer-N or FOLDER/answer how it answers everything else. The words are
those of `BEHAVIOURS`, or a status. No file is 200.
"""

import os
import socket
import sys
import threading
import time

FOLDER = sys.argv[1]
NUMBER = os.environ["PUP_CLUSTER_INSTANCE"]
#: One entry for each time that it has been asked for its health.
ASKED = []  # type: list


def word_for(path: str) -> str:
    kind = "health" if path == "/health" else "answer"
    for name in ("%s-%s" % (kind, NUMBER), kind):
        try:
            with open(os.path.join(FOLDER, name)) as file:
                return file.read().strip()
        except FileNotFoundError:
            continue
    return "200"


def answer(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s Told\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def hang(client: socket.socket) -> None:
    client.recv(1)  # until the other side has gone


def dribble(client: socket.socket) -> None:
    """Byte by byte, with no end of the first line."""
    for byte in b"HTTP/1.1 200 " + 10000 * b"O":
        client.sendall(bytes([byte]))
        time.sleep(0.02)


def say(data: bytes) -> "object":
    return lambda client: client.sendall(data)


def endless(client: socket.socket) -> None:
    while True:
        client.sendall(65536 * b"x")


def interim_endlessly(client: socket.socket) -> None:
    while True:
        client.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")


def endless_body(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    endless(client)


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


BEHAVIOURS = {
    "hang": hang,
    "dribble": dribble,
    "garbage": say(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "twice": say(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    "half": say(b"HTTP/1.1 20"),
    "nothing": say(b""),
    "endless": endless,
    "interim": say(b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
    "interim-endlessly": interim_endlessly,
    "endless-body": endless_body,
    "reset": reset,
}  # type: dict


def serve(client: socket.socket) -> None:
    with client:
        try:
            while True:
                head = b""
                while b"\r\n\r\n" not in head:
                    data = client.recv(65536)
                    if not data:
                        return
                    head += data
                path = head.split(b" ", 2)[1].decode()
                word = word_for(path)
                if path == "/health":
                    ASKED.append(1)
                if word == "once":
                    word = "200" if len(ASKED) == 1 else "503"
                if word not in BEHAVIOURS:
                    client.sendall(answer(word, NUMBER.encode()))
                    continue
                BEHAVIOURS[word](client)
                return
        except OSError:
            return


def main() -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(os.environ["PUP_CLUSTER_PORT"])))
    listener.listen(128)
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    main()
