"""A FastAPI application with a WebSocket; nothing in it knows of pupgevent."""

import asyncio
import os

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse

app = FastAPI()


@app.get("/", response_class=PlainTextResponse)
async def home() -> str:
    return "Hello from instance %s, pid %d\n" % (
        os.environ.get("PUP_CLUSTER_INSTANCE", "0"), os.getpid())


@app.get("/slow/{seconds}", response_class=PlainTextResponse)
async def slow(seconds: int) -> str:
    """An answer that takes its time: try it during a restart."""
    await asyncio.sleep(min(seconds, 20))
    return "That took a while\n"


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass  # the client has gone, or this instance is to stop
