"""The cyclic collector: quiet while it should be, short when it runs, and with nothing to do for sockets that end."""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.collector import FREEZE_STEPS, Collector, paused
from tests.support import PlainClient, Server, config

# The gateway's own program, whose collector lists all cyclic garbage when there is a file that asks for it.
PROGRAM = """
import gc, pathlib, sys
import gateway.__main__
from gateway.collector import Collector

ask = pathlib.Path(sys.argv[1], "ask")

def step(collector):
    if ask.exists():
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        found = sorted(f"{type(item).__module__}.{type(item).__qualname__} {item!r:.200}" for item in gc.garbage)
        gc.garbage.clear()
        ask.with_name("draft").write_text("\\n".join(found))
        ask.with_name("draft").rename(ask.with_name("garbage"))
        ask.unlink()

Collector.step = step
sys.exit(gateway.__main__.main(sys.argv[1:]))
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    with paused():
        yield collector
        collector.stop()


class Node:
    """Something that can be part of a cycle."""

    def __init__(self) -> None:
        self.other: Node | None = None


def chain(nodes: int) -> list[Node]:
    return [Node() for _ in range(nodes)]


def test_nothing_is_collected_while_paused() -> None:
    assert gc.isenabled()
    with paused():
        assert not gc.isenabled()
        with paused():
            pass
        assert not gc.isenabled(), "the outer one goes on"
    assert gc.isenabled()
    with pytest.raises(KeyError), paused():
        raise KeyError
    assert gc.isenabled()


def test_what_is_there_at_the_start_is_not_looked_at_again(collector: Collector) -> None:
    kept = chain(100)
    assert any(item is kept[0] for item in gc.get_objects())
    collector.start()
    assert not any(item is kept[0] for item in gc.get_objects()), "it is frozen"
    collector.stop()
    assert any(item is kept[0] for item in gc.get_objects())


def test_cycles_are_found_at_the_next_step(collector: Collector) -> None:
    collector.start()
    for _ in range(2 * FREEZE_STEPS):
        lost = Node()
        lost.other = Node()
        lost.other.other = lost
        del lost
        collected = sum(age["collected"] for age in gc.get_stats())
        collector.step()
        assert sum(age["collected"] for age in gc.get_stats()) >= collected + 2


def test_survivors_are_frozen_after_some_steps(collector: Collector) -> None:
    collector.start()
    before = gc.get_stats()
    kept = chain(100)
    for _ in range(FREEZE_STEPS - 1):
        collector.step()
        assert any(item is kept[0] for item in gc.get_objects())
    collector.step()
    assert not any(item is kept[0] for item in gc.get_objects())
    after = gc.get_stats()
    assert [after[age]["collections"] - before[age]["collections"] for age in range(3)] == [FREEZE_STEPS - 1, 0, 1]


@pytest.mark.slow
async def test_sockets_that_end_leave_no_cycles(tmp_path: Path) -> None:
    """Else they would stay for ever once they are frozen."""
    server = Server(tmp_path / "data", config())
    server.program = ["-c", PROGRAM]
    try:
        await server.start()
        key = await server.trader("maker", "1")
        await garbage(server)
        for turn in range(4):
            client = await PlainClient.open(server.url)
            await client.login(key)
            market = (await client.call("markets"))[0]["market"]
            await client.call("subscribe", channels=["account", "status", f"book.{market}", f"ticker.{market}"])
            await client.call("place", market=market, side="sell", price="0.0005", qty="1", client_order_id=f"a{turn}")
            await (client.close() if turn % 2 else client.abort())
        found = [line for line in await garbage(server) if not line.startswith(("builtins.cell", "builtins.tuple"))]
        # what msgspec leaves of reading the key file
        assert [line for line in found if "_get_class_mro_and_typevar_mappings" not in line] == []
    finally:
        server.kill(whole_group=True)


async def garbage(server: Server) -> list[str]:
    """What only the collector can free at this moment."""
    await asyncio.sleep(0.1)
    (server.data_dir / "ask").touch()
    async with asyncio.timeout(10):
        while (server.data_dir / "ask").exists():  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.02)
    return (server.data_dir / "garbage").read_text().splitlines()
