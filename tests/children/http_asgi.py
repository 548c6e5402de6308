"""What http_app.js is, for an ASGI server:

    python3 -m uvicorn --lifespan off --port $PUP_CLUSTER_PORT http_asgi:app

uvicorn itself finishes its requests at SIGTERM.
"""

import asyncio
import os

GREETING = ("hello from %s\n" % os.environ["PUP_CLUSTER_INSTANCE"]).encode()
TEXT = (b"content-type", b"text/plain")


async def app(scope, receive, send):
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
        for _ in range(100):
            await asyncio.sleep(0.1)
            await send({"type": "http.response.body", "body": b"chunk\n", "more_body": True})
        await send({"type": "http.response.body"})
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(0.3)
    length = (b"content-length", str(len(GREETING)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT, length]})
    await send({"type": "http.response.body", "body": GREETING})
