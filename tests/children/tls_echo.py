"""A server that speaks TLS and echoes: tls_echo.py CERTIFICATE KEY; prints its port."""

import socket
import ssl
import sys
import threading


def serve(context: ssl.SSLContext, sock: socket.socket) -> None:
    with sock:
        encrypted = context.wrap_socket(sock, server_side=True)
        encrypted.sendall(b"welcome")
        while True:
            data = encrypted.recv(65536)
            if not data:
                # The client has said goodbye (close_notify), and gets ours.
                encrypted.unwrap()
                return
            encrypted.sendall(data)


def main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:])
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    print(listener.getsockname()[1], flush=True)
    while True:
        sock = listener.accept()[0]
        threading.Thread(target=serve, args=(context, sock), daemon=True).start()


if __name__ == "__main__":
    main()
