"""The yardsticks of bench.gateway and bench.fanout: bare websocket servers on uvloop that do nothing but move bytes.

    python -m bench.echo picows         hands every message back, a write per message: picows writes at once
    python -m bench.echo websockets     the same; uvloop gathers the writes of one turn of the loop; no compression, no pings
    python -m bench.echo broadcast      picows; plays a recorded stream to all sockets but the one that asked for it

Each prints its address and serves until SIGTERM. The broadcast is asked by a text message, ``send PATH`` or ``write PATH``, and
says ``played`` at the end. ``send``: the library's send, once per frame and socket. ``write``: the frames that were recorded
together as one block of bytes, framed once, in one write per socket; no server can do less for them.
"""

import asyncio
import sys
from pathlib import Path
from typing import Final

import msgspec
import uvloop
from msgspec import Struct
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server
from websockets.asyncio.server import ServerConnection, serve


class Played(Struct, array_like=True):
    """Frames that go out together, ``at_s`` after the start."""

    at_s: float
    frames: list[bytes]
    """Payloads."""
    block: bytes
    """The same as the frames of a server."""


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, frame.get_payload_as_bytes())
        else:
            transport.disconnect()


class Broadcast(WSListener):
    """One socket of the broadcast, in ``listening`` until it asks for a play."""

    listening: Final[dict[WSTransport, None]] = {}

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.listening[transport] = None

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.listening.pop(transport, None)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self.listening.pop(transport, None)
            how, _, path = frame.get_payload_as_utf8_text().partition(" ")
            stream = msgspec.msgpack.decode(Path(path).read_bytes(), type=list[Played])
            self._playing = asyncio.create_task(self._play(how == "write", stream, transport))
        else:
            transport.disconnect()

    async def _play(self, gather: bool, stream: list[Played], asker: WSTransport) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        for played in stream:
            await asyncio.sleep(max(start + played.at_s - loop.time(), 0))
            if gather:
                for transport in self.listening:
                    transport.underlying_transport.write(played.block)
            else:
                for payload in played.frames:
                    for transport in self.listening:
                        transport.send(WSMsgType.TEXT, payload)
        asker.send(WSMsgType.TEXT, b"played")


async def picows(listener: type[WSListener]) -> None:
    def accept(_: WSUpgradeRequest) -> WSListener:
        return listener()

    server = await ws_create_server(accept, "127.0.0.1", 0)
    print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
    await server.serve_forever()


async def websockets() -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        print(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    kind = sys.argv[1]
    uvloop.run(websockets() if kind == "websockets" else picows({"picows": Echo, "broadcast": Broadcast}[kind]))
