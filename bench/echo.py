"""A bare picows echo server on uvloop: the yardstick of bench.gateway. `python -m bench.echo` prints its address and serves."""

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, frame.get_payload_as_bytes())
        else:
            transport.disconnect()


async def main() -> None:
    def accept(_: WSUpgradeRequest) -> WSListener:
        return Echo()

    server = await ws_create_server(accept, "127.0.0.1", 0)
    print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
