"""A WebSocket server that greets, echoes messages and answers pings; prints its port."""

import socket
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from web_sockets import CLOSE, PING, PONG, TEXT, frame, receive, shake_hands


def serve(sock: socket.socket) -> None:
    with sock:
        shake_hands(sock)
        sock.sendall(frame(TEXT, b"welcome"))
        while True:
            opcode, data = receive(sock)
            sock.sendall(frame(PONG if opcode == PING else opcode, data))
            if opcode == CLOSE:
                return


def main() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    print(listener.getsockname()[1], flush=True)
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    main()
