"""A web server that answers as the path says, well or badly; SIGTERM ends it at once.

    http_scripted.py [--idle SECONDS] [--pace SECONDS,...]

    /             the greeting: "hello from INSTANCE, N at most", where N is how many requests it
                  has had at the same time
    /slow/S       the greeting, after S seconds, or as soon as there is a file S
    /chunks/N     N chunks, one each tenth of a second, or as many until there is a file N
    /half/S       half of the body at once, the other half after S seconds, or with a file S
    /status/N     the greeting, with that status
    /early        the greeting, before the body is read
    /nothing      the end of the connection in place of an answer
    /garbage      no HTTP

Each after a pause of its own, where `--pace` has one for the instance. A body is read first.
`--idle` is how long a connection may have no request. A line is printed for each request that has
been read.
"""

import argparse
import os
import signal
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import unquote

INSTANCE = int(os.environ["PUP_CLUSTER_INSTANCE"])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are sent together, once the answer is ready.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self):
        if self.path != "/early":
            self.read_body()
        self.server.say(self.command)
        with self.server.counting():
            time.sleep(self.server.pace)
            what, _, number = self.path[1:].partition("?")[0].partition("/")
            getattr(self, "do_" + (what or "greet"))(number)

    do_POST = do_HEAD = do_PUT = do_DELETE = do_GET

    def do_greet(self, _, status=200):
        body = b"hello from %d, %d at most\n" % (INSTANCE, self.server.most)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def read_body(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_early(self, _):
        self.do_greet("")
        self.wfile.flush()
        self.read_body()

    def do_slow(self, what):
        wait_for(what)
        self.do_greet("")

    def do_chunks(self, count):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(int(count)) if count.isdigit() else until(count):
            self.wfile.write(b"6\r\nchunk\n\r\n")
            self.wfile.flush()
            time.sleep(0.1)
        self.wfile.write(b"0\r\n\r\n")

    def do_half(self, what):
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"first")
        self.wfile.flush()
        wait_for(what)
        self.wfile.write(b"later")

    def do_status(self, number):
        self.do_greet("", int(number))

    def do_nothing(self, _):
        self.close_connection = True

    def do_garbage(self, _):
        self.wfile.write(b"what is this?\r\n\r\n")
        self.close_connection = True

    def log_message(self, *_):
        pass


def wait_for(what):
    """For so many seconds, or for a file of that name, in which a slash is %2F."""
    try:
        time.sleep(float(what))
    except ValueError:
        for _ in until(what):
            time.sleep(0.02)


def until(name):
    """Again and again, as long as there is no such file."""
    while not os.path.exists(unquote(name)):
        yield


class Server(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = True
    request_queue_size = 128
    pace = 0.0

    def __init__(self, *words):
        super().__init__(*words)
        self.lock = threading.Lock()
        self.now = self.most = 0

    def say(self, line):
        with self.lock:
            print(line, flush=True)

    def counting(self):
        return Counting(self)

    def handle_error(self, *_):
        pass  # a client has left


class Counting:
    def __init__(self, server):
        self.server = server

    def __enter__(self):
        with self.server.lock:
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)

    def __exit__(self, *_):
        with self.server.lock:
            self.server.now -= 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--idle", type=float)
    parser.add_argument("--pace", default="")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    Handler.timeout = options.idle
    server = Server(("127.0.0.1", int(os.environ["PUP_CLUSTER_PORT"])), Handler)
    paces = list(map(float, filter(None, options.pace.split(","))))
    if len(paces) > INSTANCE:
        server.pace = paces[INSTANCE]
    server.serve_forever()


if __name__ == "__main__":
    main()
