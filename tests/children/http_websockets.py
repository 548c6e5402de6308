"""A server of the `websockets` package; at SIGTERM it parts from everybody as its manual says."""

import asyncio
import os
import signal

import websockets


async def echo(client, *_):
    async for message in client:
        await client.send(message)


async def main():
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with websockets.serve(echo, "127.0.0.1", int(os.environ["PUP_CLUSTER_PORT"])):
        await over.wait()


asyncio.run(main())
