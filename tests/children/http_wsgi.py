"""What http_app.js is, for a WSGI server: gunicorn --bind 127.0.0.1:$PUP_CLUSTER_PORT http_wsgi:app

gunicorn itself finishes its requests at SIGTERM.
"""

import os
import time

GREETING = ("hello from %s\n" % os.environ["PUP_CLUSTER_INSTANCE"]).encode()


def chunks():
    for _ in range(100):
        time.sleep(0.1)
        yield b"chunk\n"


def app(environ, start_response):
    if environ["PATH_INFO"] == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return chunks()
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.3)
    start_response("200 OK", [("Content-Type", "text/plain"),
                              ("Content-Length", str(len(GREETING)))])
    return [GREETING]
