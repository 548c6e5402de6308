"""A Flask application; nothing in it knows of pupgevent."""

import os
import time

from flask import Flask, Response

app = Flask(__name__)


@app.route("/")
def home() -> Response:
    return text("Hello from instance %s, pid %d\n" % (
        os.environ.get("PUP_CLUSTER_INSTANCE", "0"), os.getpid()))


@app.route("/slow/<int:seconds>")
def slow(seconds: int) -> Response:
    """An answer that takes its time: try it during a restart."""
    time.sleep(min(seconds, 20))
    return text("That took a while\n")


def text(body: str) -> Response:
    return Response(body, mimetype="text/plain")
