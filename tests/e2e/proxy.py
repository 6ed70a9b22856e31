"""A small TCP proxy that can fail as networks do: go silent without a word, or reset everything."""

import asyncio
from types import TracebackType
from typing import Self


class Proxy:
    """Passes bytes both ways, until told otherwise. New connections always pass."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._pairs: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._host, self._port)
        self._pairs.append((writer, there_writer))
        for source, target in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(self._pass(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                if target not in self._silent:
                    target.write(data)
                    await target.drain()
        except ConnectionError:
            pass
        if target not in self._silent:
            target.transport.abort()

    def silence(self) -> None:
        """From now on nothing passes over today's connections, in either direction, and neither end is told."""
        for pair in self._pairs:
            self._silent.update(pair)
        self._pairs.clear()

    def reset(self) -> None:
        """Abort today's connections, silent ones included."""
        for pair in self._pairs:
            for writer in pair:
                writer.transport.abort()
        for writer in self._silent:
            writer.transport.abort()
        self._pairs.clear()
        self._silent.clear()
