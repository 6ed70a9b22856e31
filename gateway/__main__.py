"""The exchange's process, and its architecture on one screen: config -> recovery -> wiring -> run.

    python -m gateway DATA [--host HOST] [--port PORT]

SIGTERM or SIGINT ends it gracefully: it is announced, clients may cancel for ``server.stop_ms``, everything sequenced becomes
durable, every socket is closed with 1001. A second signal ends it at once, which costs nothing that was acknowledged. Exit
codes: 0 after a graceful stop, 1 after a failure, 2 for a configuration that cannot be used.
"""

from hashpit.build import build_kind, prefer_source

prefer_source()

import argparse
import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop
from msgspec.structs import replace

import hashpit
from engine.commands import Entry
from engine.events import Event
from engine.limits import SECOND_NS
from gateway import log
from gateway.auth import KeyStore, KeyStoreError
from gateway.collector import Collector, paused
from gateway.config import Config, ConfigError, check, load
from gateway.exchange import Exchange, Taking
from gateway.feeds import TICK_MS, Feeds
from gateway.history import History
from gateway.journal import JournalError
from gateway.listings import Lister, list_live, live_markets
from gateway.ratelimit import MS_NS
from gateway.recovery import Recovered, RecoveryError, Snapshotter, recover, show_progress
from gateway.sequencer import EngineFailure, Overloaded, Sequencer, Stopped
from gateway.server import HANDSHAKES_MAX, ListenError, Server
from gateway.wire import Close

if TYPE_CHECKING:
    from gateway.nicehash.http import Edge

FILES_SPARE: Final = 256
"""File descriptors for everything but sockets: journal, snapshots, logs, libraries."""
LIST_NS: Final = SECOND_NS
"""How often the lister looks for periods to list."""
CLOCK_SET_NS: Final = SECOND_NS
"""A clock that moved by so much more or less than time passed was set by somebody."""
STOP_CHECK_MS: Final = 10
"""How often a stopping exchange looks whether anybody is still there."""


def run(data_dir: Path, config: Config) -> int:
    """Serve ``data_dir`` until a signal or a failure; returns the exit code. Raises ConfigError, JournalError,
    RecoveryError, KeyStoreError or ListenError when it cannot start."""
    logger = log.get("gateway")
    feeds = Feeds()
    history = History()

    def replayed(entry: Entry, events: list[Event]) -> None:
        feeds.load(entry, events)
        history.load(events)

    with paused():
        with show_progress() as progress:
            recovered = recover(
                data_dir,
                on_entry=replayed,
                progress=progress,
                warn=lambda problem: logger.warning("snapshot not used", problem=problem),
            )
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(serve(data_dir, config, recovered, feeds, history))
        finally:
            recovered.journal.close()


async def serve(data_dir: Path, config: Config, recovered: Recovered, feeds: Feeds, history: History) -> int:
    """Wire everything together, run it, and take it down in order."""
    clock = time.time_ns
    logger = log.get("gateway")
    engine, journal, replayed = recovered
    ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def end(failure: BaseException | None) -> None:
        if not ended.done():
            ended.set_result(failure)

    exchange = Exchange(engine, config, KeyStore(data_dir), feeds, journal.epoch, hashpit.__version__, history=history)
    server = Server(exchange, config.server, clock, sockets_max(config))
    nicehash: Edge | None = None

    def publish(entry: Entry, events: list[Event]) -> None:
        exchange.publish(entry, events)
        if nicehash is not None:
            nicehash.service.publish(entry, events)

    sequencer = Sequencer(engine, journal, clock, on_durable=publish, on_batch=server.flush, on_failure=end)
    feeds.start(engine, sequencer)
    exchange.start(sequencer)
    if config.nicehash.enabled:
        nicehash = nicehash_edge(exchange, config, clock)
    lister = Lister(
        config.listings,
        config.terms,
        engine.markets,
        lambda command, done: sequencer.submit(command, done=done),
    )
    live = live_markets(config.live)
    snapshotter = Snapshotter(
        data_dir,
        journal,
        sequencer.between_commits,
        report=lambda made: logger.info("snapshot made", seq=made.seq, replayed=made.replayed),
        warn=lambda problem: logger.warning("snapshot failed", problem=problem),
        every_entries=config.snapshot.every_entries,
        every_s=config.snapshot.every_s,
        keep=config.snapshot.keep,
        archive=config.snapshot.archive,
    )

    collector = Collector()

    async def keep_time() -> None:
        """What has to happen as time passes, whether or not anybody trades."""
        listed_ns = clock()
        ahead_ns = listed_ns - time.monotonic_ns()
        while True:
            now_ns = clock()
            before_ns, ahead_ns = ahead_ns, now_ns - time.monotonic_ns()
            if abs(ahead_ns - before_ns) >= CLOCK_SET_NS:
                logger.warning("the system's clock was set", by_ms=(ahead_ns - before_ns) // MS_NS)
                listed_ns = now_ns
                exchange.clock_set(now_ns)
                server.clock_set(now_ns)
            if now_ns - listed_ns >= LIST_NS and exchange.taking is Taking.ALL:
                listed_ns = now_ns
                try:
                    lister.run(now_ns)
                except (Overloaded, Stopped):
                    pass  # the next look is soon enough
            feeds.tick(now_ns)
            exchange.tick(now_ns)
            server.tick(now_ns)
            if nicehash is not None:
                nicehash.service.tick(now_ns)
            collector.step()
            await asyncio.sleep(TICK_MS / 1_000)

    stop_on_signals(end)
    failure: BaseException | None = None
    timekeeper: asyncio.Task[None] | None = None
    try:
        sequencer.start()
        lister.run(clock())
        list_live(live, {**engine.markets, **engine.live.markets}, lambda command, done: sequencer.submit(command, done=done))
        await sequencer.drain()
        # looks at everything once, 84 ms with a million orders: before anybody can be waiting
        collector.start()
        await server.start()
        if nicehash is not None:
            await nicehash.start()
        snapshotter.start()
        timekeeper = asyncio.create_task(keep_time())
        # A bug in what the clock drives must not leave an exchange that stands still.
        timekeeper.add_done_callback(lambda task: None if task.cancelled() else end(task.exception()))
        http_url = nicehash.url if nicehash is not None else ""
        say(
            f"{server.url}  data {data_dir}  epoch {journal.epoch}  seq {engine.seq} ({replayed} replayed)  "
            f"{build_kind()} build" + (f"  NiceHash's API {http_url}" if http_url else "")
        )
        logger.info(
            "started",
            url=server.url,
            nicehash=http_url,
            epoch=journal.epoch,
            seq=engine.seq,
            replayed=replayed,
            build=build_kind(),
        )
        if not engine.markets and not engine.live.markets and not config.listings:
            say("no market is listed: see [[listings]] and [[live]] in config.toml, or `hashpit market add`")
        failure = await ended
        if failure is None:
            say("stopping")
            logger.info("stopping")
            exchange.taking = Taking.CANCELS
            feeds.announce("stopping", clock())
            server.stop_accepting()
            await last_cancels(exchange)
            exchange.taking = Taking.NONE
            await sequencer.drain()
    except (JournalError, EngineFailure) as error:
        failure = error
    finally:
        if timekeeper is not None:
            timekeeper.cancel()
        await snapshotter.stop()
        server.stop_accepting()
        if nicehash is not None:
            await nicehash.stop()
        if failure is None:
            await server.close_all(Close.GOING_AWAY, "the exchange is stopping; connect again in a while")
        else:
            await server.close_all(Close.FAILED, "the exchange failed and stops")
        sequencer.close()
        collector.stop()
    if failure is not None:
        bug = None if isinstance(failure, JournalError) else failure
        logger.error("stopped by a failure", problem=str(failure), seq=engine.seq, exc_info=bug)
        complain(f"stopped: {failure}")
        return 1
    say(f"stopped at seq {engine.seq}")
    logger.info("stopped", seq=engine.seq)
    return 0


def nicehash_edge(exchange: Exchange, config: Config, clock: Callable[[], int]) -> "Edge":
    """NiceHash's API; loaded only where it is wanted, for it brings an HTTP framework along."""
    from gateway.nicehash.http import Edge
    from gateway.nicehash.service import Service

    return Edge(Service(exchange, clock()), config, clock)


async def last_cancels(exchange: Exchange) -> None:
    """Give those who are logged in ``server.stop_ms`` to cancel what must not stay; no longer than any of them is there."""
    for _ in range(-(-exchange.config.server.stop_ms // STOP_CHECK_MS)):
        if not exchange.has_traders:
            break
        await asyncio.sleep(STOP_CHECK_MS / 1_000)


def refuse_shared(data_dir: Path) -> None:
    """Raises ConfigError for a directory that others may write to: they could put keys or a journal of their own there."""
    mode = data_dir.stat().st_mode & 0o777
    if mode & 0o022:
        raise ConfigError(f"{data_dir}: others may write to it (mode {mode:04o}); chmod 700 it")


def stop_on_signals(end: Callable[[BaseException | None], None]) -> None:
    """The first SIGTERM or SIGINT ends gracefully, the second at once."""
    asked = False

    def stop() -> None:
        nonlocal asked
        if asked:
            complain("stopped at once, by a second signal")
            os._exit(1)
        asked = True
        end(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)


def sockets_max(config: Config) -> int:
    """How many sockets may be open at once: what the configuration wants, or what the system lets this process have."""
    spare = FILES_SPARE + (config.nicehash.connections_max if config.nicehash.enabled else 0)
    wanted = config.server.connections_max + HANDSHAKES_MAX + spare
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted - spare
    log.get("gateway").warning(
        "the limit of open files (ulimit -n) is lower than connections_max needs", limit=soft, wanted=wanted
    )
    return max(soft - spare, 1)


def say(text: str) -> None:
    """A line for whoever started the process."""
    try:
        sys.stdout.write(f"hashpit: {text}\n")
        sys.stdout.flush()
    except OSError:
        pass  # whoever it was has stopped listening, the traders have not


def complain(text: str) -> None:
    """The one line that says why the process ended."""
    sys.stderr.write(f"hashpit: {text}\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, serve, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description="Serve an exchange out of its data directory.")
    parser.add_argument("data", type=Path, help="data directory; `hashpit init` makes one")
    parser.add_argument("--host", help="listen here instead of config.toml's server.host")
    parser.add_argument("--port", type=int, help="listen here instead of config.toml's server.port; 0: any free port")
    options = parser.parse_args(arguments)
    try:
        if not options.data.is_dir():
            raise ConfigError(f"there is no data directory at {options.data}: run `hashpit init {options.data}`")
        refuse_shared(options.data)
        if not __debug__:
            raise ConfigError(
                "assertions are off (python -O, PYTHONOPTIMIZE), and they stop the process at a bug: leave them on"
            )
        config = load(options.data)
        changes = {name: value for name in ("host", "port") if (value := getattr(options, name)) is not None}
        if changes:
            config = replace(config, server=replace(config.server, **changes))
            check(config)
        log.configure(config.log.format, config.log.level)
        return run(options.data, config)
    except ConfigError as error:
        complain(str(error))
        return 2
    except (JournalError, RecoveryError, KeyStoreError, ListenError) as error:
        complain(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
