"""What http_app.js is, with Python's own server; at SIGTERM it is gone before it has cleaned up."""

import os
import signal
import socketserver
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

GREETING = ("hello from %s\n" % os.environ["PUP_CLUSTER_INSTANCE"]).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are sent together, once the answer is ready.
    wbufsize = -1

    def do_GET(self):
        if self.path == "/stream":
            self.stream()
            return
        if self.path == "/slow":
            time.sleep(0.3)
        self.send_response(200)
        self.send_header("Content-Length", str(len(GREETING)))
        self.end_headers()
        self.wfile.write(GREETING)

    def stream(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(100):
            time.sleep(0.1)
            self.wfile.write(b"6\r\nchunk\n\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = True
    request_queue_size = 128


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
Server(("127.0.0.1", int(os.environ["PUP_CLUSTER_PORT"])), Handler).serve_forever()
