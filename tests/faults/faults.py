"""The faults, one function each: what is done to a real server, and what has to hold afterwards.

Each gets a :class:`tests.faults.scene.Scene` and raises AssertionError where the exchange did not keep a promise: what was
acknowledged is there, the operator was told, and either it goes on by itself or the message says what to do. Not here, because
they are elsewhere: broken and hostile frames (tests/hostile), kill -9 many times over (tests/crash).
"""

import asyncio
import errno
import os
import resource
import shutil
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final

from engine.commands import Entry, Tick
from gateway.auth import KeyStore
from gateway.journal import Journal, encode_batch
from gateway.wire import Close, ErrorCode
from tests.crash.trader import KILLED
from tests.faults.flood import flood
from tests.faults.scene import Scene, Unable, contents, small_disk, write_protect
from tests.faults.shim import Shim
from tests.gateway.test_server import self_signed
from tests.hostile.attacks import slow_reader
from tests.support import PlainClient, RpcError, TestKey

Fault = Callable[[Scene], Awaitable[None]]

STOPPED_S: Final = 10.0
CONNECTS: Final = 10_000
CONNECTS_FILES_SPARE: Final = 500
"""Descriptors that this process needs besides those of a flood."""
HOUR_NS: Final = 3_600 * 10**9
PATIENCE_S: Final = 5.0
WAL: Final = "journal.db-wal"
WAL_HEADER_BYTES: Final = 32
WAL_FRAME_BYTES: Final = 24 + 4_096
WAL_FRAMES_MIN: Final = 16
"""Frames that a log to be damaged has in force."""
WAL_FRAMES_BEHIND: Final = 8
"""Intact ones that stay behind the damage: a damaged last commit looks like a torn one."""
CLI: Final = "from hashpit.cli import main; main()"


# ---------------------------------------------------------------------------------------------------------- the process


async def killed(scene: Scene) -> None:
    """SIGKILL at random moments, while starting too: what traders were told is there (tests/crash, a few rounds)."""
    await scene.start()
    await scene.kills(4)
    await scene.end()


async def killed_while_writing(scene: Scene) -> None:
    """SIGKILL half way through a write of the journal: a torn commit was told to nobody, and is dropped."""
    shim = Shim(scene.directory)
    scene.server.environment = shim.environment
    await scene.start()
    for number in range(4):

        async def tear() -> None:
            await asyncio.sleep(0.2)
            shim.set(writes_left=scene.random.randint(1, 12))
            assert await scene.server.ended() == -signal.SIGKILL

        await scene.strike(tear, KILLED)
        shim.set(writes_left=0)
        scene.note(f"torn write {number + 1}: the server died with a write half done")
        await scene.back()
    await scene.end()


async def stopped_for_a_while(scene: Scene) -> None:
    """SIGSTOP for ten seconds: everybody waits, nobody is told anything wrong, and all is as before."""
    await scene.start()

    async def stop() -> None:
        await asyncio.sleep(0.3)
        os.kill(scene.server.pid, signal.SIGSTOP)
        await asyncio.sleep(STOPPED_S)
        os.kill(scene.server.pid, signal.SIGCONT)
        await asyncio.sleep(0.3)

    await scene.strike(stop)
    await scene.goes_on()
    await scene.end()


async def stopped_with_orders_in_flight(scene: Scene) -> None:
    """SIGTERM while everybody trades: exit code 0, and every call was answered, refused, or can be asked again."""
    scene.configure(stop_ms=200)
    await scene.start()
    for _ in range(3):

        async def terminate() -> None:
            await asyncio.sleep(0.3)
            assert await scene.server.stop() == 0

        await scene.strike(terminate, Close.GOING_AWAY)
        assert '"event": "stopped"' in scene.server.log_text() or '"event":"stopped"' in scene.server.log_text()
        await scene.back()
    await scene.end()


# -------------------------------------------------------------------------------------------------------------- the disk


async def io_error_on_sync(scene: Scene) -> None:
    """EIO from fdatasync at a commit: the server stops, names the entries, and acknowledges none of them."""
    shim = Shim(scene.directory)
    scene.server.environment = shim.environment
    await scene.start()
    await scene.fails(lambda: shim.set(sync_errno=errno.EIO), "could not be written", "None of them was acknowledged", "disk")
    assert shim.get("syncs_failed")
    shim.set(sync_errno=0)
    await scene.back()
    await scene.end()


async def io_error_on_write(scene: Scene) -> None:
    """EIO from a write of the journal: as for a sync."""
    shim = Shim(scene.directory)
    scene.server.environment = shim.environment
    await scene.start()
    await scene.fails(lambda: shim.set(write_errno=errno.EIO), "could not be written", "None of them was acknowledged")
    assert shim.get("writes_failed")
    shim.set(write_errno=0)
    await scene.back()
    await scene.end()


async def disk_full(scene: Scene) -> None:
    """No room on the disk: the server stops and says so; with room again everything acknowledged is there."""
    try:
        with small_disk(scene.directory, 64) as place:
            scene.note("on a file system of 64 MiB")
            await _disk_full(scene, place)
    except Unable as problem:
        scene.note(f"{problem}; with the preloaded library instead")
        shim = Shim(scene.directory)
        scene.server.environment = shim.environment
        await scene.start()
        await scene.fails(lambda: shim.set(write_errno=errno.ENOSPC), "could not be written", "Make room")
        shim.set(write_errno=0)
        await scene.back()
        await scene.end()


async def _disk_full(scene: Scene, place: Path) -> None:
    shutil.copytree(scene.data_dir, place / "data")
    scene.server.data_dir = scene.data_dir = place / "data"
    ballast = place / "ballast"

    def fill() -> None:
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65_536))

    await scene.start()
    await scene.fails(fill, "could not be written", "full", "Make room")
    # Started without room it has to refuse, or serve from what is there: it may not come up and then lose something.
    ended = await asyncio.to_thread(scene.program, "-m", "gateway", str(scene.data_dir), prefix=("timeout", "-s", "INT", "2"))
    scene.note(f"started while still full: exit code {ended.code}: {ended.last_line or ended.out.strip()[-200:]}")
    scene.says(ended.err)
    ballast.unlink()
    await scene.back()
    await scene.end()


async def slow_disk(scene: Scene) -> None:
    """Every sync takes a quarter of a second: answers are late, none comes early, nothing breaks."""
    shim = Shim(scene.directory)
    scene.server.environment = shim.environment
    await scene.start()

    async def slow_down() -> None:
        shim.set(sync_delay_us=250_000)
        began = time.monotonic()
        async with PlainClient.to(scene.server, scene.server.operator) as operator:
            await operator.call("deposit", account=scene.traders[0].key.account, amount="0.00000000001", transfer_id="slow")
        waited = time.monotonic() - began
        scene.note(f"a deposit was answered after {waited:.2f} s")
        assert waited >= 0.25, "it was answered before it was durable"
        await asyncio.sleep(1.5)
        shim.set(sync_delay_us=0)

    await scene.strike(slow_down)
    await scene.goes_on()
    await scene.end()


async def read_only_data(scene: Scene) -> None:
    """A data directory that cannot be written: the start refuses and says so."""
    await scene.start()
    await scene.trade(0.3)
    await scene.stop()
    try:
        with small_disk(scene.directory, 64) as place:
            shutil.copytree(scene.data_dir, place / "data")
            write_protect(place)
            await scene.refuses(place / "data", 1, str(place / "data"), "Read-only file system")
    except Unable as problem:
        shut = scene.copied("shut")
        (shut / "lock").unlink()
        shut.chmod(0o500)
        if os.access(shut, os.W_OK):
            raise
        scene.note(f"{problem}; with permissions instead")
        await scene.refuses(shut, 1, str(shut), "Permission denied")
        shut.chmod(0o700)
    await scene.back()
    await scene.end()


# -------------------------------------------------------------------------------------------------------------- the clock


async def clock_set_back(scene: Scene) -> None:
    """The system's clock goes back by an hour: trading, heartbeats and new keys go on; time on the exchange stands still."""
    await _clock(scene, -HOUR_NS)


async def clock_set_forward(scene: Scene) -> None:
    """The system's clock goes forward by an hour, and back again: nobody is cut off as idle, trading goes on."""
    await _clock(scene, HOUR_NS)


async def _clock(scene: Scene, by_ns: int) -> None:
    shim = Shim(scene.directory)
    scene.server.environment = shim.environment
    scene.configure(heartbeat_ms=200)
    await scene.start()
    scene.markets = sorted(scene.markets)[-1:]
    for trader in scene.traders:
        trader.markets = scene.markets
    beats = Beats()
    async with await beats.client(scene):

        async def step() -> None:
            for offset_ns in (by_ns, 0):
                await asyncio.sleep(0.4)
                shim.set(clock_ns=offset_ns)
                before = beats.count
                async with asyncio.timeout(PATIENCE_S):
                    while beats.count < before + 3:
                        await asyncio.sleep(0.05)

        await scene.strike(step)
        # Another process revokes a key: the server has to look at the file, whatever its clock did.
        key = await scene.server.trader("late")
        async with await _client(scene, key) as client:
            KeyStore(scene.data_dir).revoke(key.key_id)
            async with asyncio.timeout(PATIENCE_S):
                assert await client.closed() == Close.KEY_REVOKED
    scene.says(scene.server.log_text(), "the system's clock was set")
    await scene.goes_on()
    await scene.end()


class Beats:
    """Counts the heartbeats of a socket."""

    def __init__(self) -> None:
        self.count = 0

    def _heard(self, method: str, params: object) -> None:
        self.count += method == "heartbeat"

    async def client(self, scene: Scene) -> "_Open":
        client = await PlainClient.open(scene.server.url, self._heard)
        await client.call("subscribe", channels=["status"])
        return _Open(client)


async def _client(scene: Scene, key: TestKey) -> "_Open":
    client = await PlainClient.open(scene.server.url)
    await client.login(key)
    return _Open(client)


class _Open:
    """A client that is closed at the end of a block."""

    def __init__(self, client: PlainClient) -> None:
        self.client = client

    async def __aenter__(self) -> PlainClient:
        return self.client

    async def __aexit__(self, *error: object) -> None:
        await self.client.close()


# ---------------------------------------------------------------------------------------------------------- the network


async def no_descriptors_left(scene: Scene) -> None:
    """A low limit of open files and more sockets than it allows: the operator is warned, the others are turned away, and those
    who are in go on trading; snapshots too."""
    scene.server.prefix = ["prlimit", "--nofile=300:300"]
    scene.configure(snapshot_s=1, snapshot_entries=1, anonymous_max=10_000)
    await scene.start()
    scene.says(scene.server.log_text(), "the limit of open files (ulimit -n) is lower than connections_max needs")

    async def crowd() -> None:
        for _ in range(3):
            told = await asyncio.to_thread(flood, scene.server.url, 400)
            scene.note(f"of 400 sockets {told.greeted} were greeted, {told.refused} refused")
            assert 0 < told.greeted < 300
            assert not told.hanging

    await scene.strike(crowd)
    assert "Too many open files" not in scene.server.log_text()
    await scene.goes_on()
    await scene.end()


async def never_read(scene: Scene) -> None:
    """Sockets that ask and never read: each is cut off, and costs nobody else anything."""
    await scene.start()
    siege = Onlooker(scene)

    async def stuff() -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(*(slow_reader(siege) for _ in range(3)))

    await scene.strike(stuff)
    assert not siege.faults, siege.faults
    scene.note(f"{siege.frames} calls of slow readers, and {scene.server.memory_bytes() / 2**20:.0f} MiB in use behind them")
    await scene.goes_on()
    await scene.end()


class Onlooker:
    """What the attacks of tests/hostile need of whom they attack."""

    def __init__(self, scene: Scene) -> None:
        self.url = scene.server.url
        self.random = Random("onlooker")
        self.market = scene.markets[0]
        self.anonymous_max = 1_000
        self.reader = self.trader = TestKey()
        self.frames = 0
        self.faults: list[str] = []

    def sent(self, kind: str, frames: int = 1) -> None:
        self.frames += frames

    def fault(self, kind: str, what: str) -> None:
        self.faults.append(f"{kind}: {what}")

    def closed(self, code: int) -> None:
        pass


async def many_connects(scene: Scene) -> None:
    """10,000 connects at once: each is greeted or refused, traders go on, and nothing of them stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < CONNECTS + CONNECTS_FILES_SPARE:
        raise Unable(f"{CONNECTS:,} sockets take more than the {hard:,} descriptors that a process may have here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CONNECTS + CONNECTS_FILES_SPARE), hard))
    scene.configure(anonymous_max=2 * CONNECTS)
    await scene.start()
    before = _sockets(scene)

    async def connect() -> None:
        began = time.monotonic()
        flooding = asyncio.create_task(asyncio.to_thread(flood, scene.server.url, CONNECTS))
        waits = [0.0]
        async with await _client(scene, scene.traders[0].key) as client:
            while not flooding.done():
                asked = time.monotonic()
                await client.call("balances")
                waits.append(time.monotonic() - asked)
        told = await flooding
        took_s = time.monotonic() - began
        scene.note(f"meanwhile {len(waits) - 1} questions were answered, the slowest after {max(waits):.2f} s")
        scene.note(f"of {CONNECTS:,} sockets {told.greeted:,} were greeted, {told.refused:,} refused, in {took_s:.1f} s")
        assert not told.hanging, f"{told.hanging} sockets heard nothing"
        assert told.greeted > CONNECTS // 2

    await scene.strike(connect)
    async with asyncio.timeout(PATIENCE_S * 4):
        while _sockets(scene) > before:
            await asyncio.sleep(0.1)
    await scene.goes_on()
    await scene.end()


def _sockets(scene: Scene) -> int:
    found = 0
    for link in Path(f"/proc/{scene.server.pid}/fd").iterdir():
        try:
            found += str(link.readlink()).startswith("socket:")
        except FileNotFoundError:
            continue
    return found


# --------------------------------------------------------------------------------------------------------------- mistakes


async def two_servers(scene: Scene) -> None:
    """A second server on the same data directory: it refuses, names the first, and disturbs nothing."""
    await scene.start()

    async def start_another() -> None:
        await scene.refuses(scene.data_dir, 1, f"in use by process {scene.server.pid}", "stop it first")

    await scene.strike(start_another)
    await scene.goes_on()
    await scene.end()


async def port_taken(scene: Scene) -> None:
    """Another program listens on the port: the start refuses and says what to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (scene.data_dir / "config.toml").write_text(f"[server]\nport = {port}\n")
        await scene.refuses(scene.data_dir, 1, "cannot listen on", str(port), "--port")
    scene.configure()
    await scene.start()
    await scene.end()


async def wrong_keys(scene: Scene) -> None:
    """Wrong, revoked and too weak keys, and key files that others may read or nobody can: each is refused by name."""
    await scene.start()
    await scene.trade(0.2)
    reader = await scene.server.trader("reader", permissions=("read",))
    stranger, revoked = TestKey(), await scene.server.trader("gone", deposit="1.0")
    stranger.key_id = reader.key_id
    order = {"market": scene.markets[0], "side": "buy", "qty": "0.001", "price": "0.00048"}
    await _refused(scene, "login", ErrorCode.LOGIN_FAILED, stranger)
    await _refused(scene, "place", ErrorCode.PERMISSION, reader, **order)
    async with await _client(scene, revoked) as client:
        placed = await client.call("place", **order)
        KeyStore(scene.data_dir).revoke(revoked.key_id)
        async with asyncio.timeout(PATIENCE_S):
            assert await client.closed() == Close.KEY_REVOKED
    await _refused(scene, "login", ErrorCode.LOGIN_FAILED, revoked)
    scene.note(f"a revoked key's order {placed['order_id']} stays: the operator cancels it")
    async with PlainClient.to(scene.server, scene.server.operator) as operator:
        assert (await operator.call("account_cancel_all", account=revoked.account))["canceled"] == [placed["order_id"]]
    keys = scene.data_dir / "keys.json"
    good = keys.read_bytes()
    mistakes: list[tuple[str, Callable[[Path], object]]] = [
        ("chmod 600", lambda path: path.chmod(0o644)),
        ("keys.json", lambda path: path.write_bytes(good[: len(good) // 2])),
        ("keys.json", lambda path: path.write_bytes(b"\xff\xfe")),
    ]
    for words, spoil in mistakes:
        copy = scene.copied("spoilt")
        spoil(copy / "keys.json")
        await scene.refuses(copy, 1, words)
        before = scene.server.log_text().count("keys not reloaded")
        spoil(keys)
        os.utime(keys)
        async with asyncio.timeout(PATIENCE_S):
            while scene.server.log_text().count("keys not reloaded") == before:
                await asyncio.sleep(0.05)
        async with await _client(scene, reader) as client:
            await client.call("balances")  # those that are known stay in force
        keys.write_bytes(good)
        keys.chmod(0o600)
    client_key = scene.directory / "client.key"
    client_key.write_text('{"key": "k-1", "kind": "ed25519", "private_key": "' + "07" * 32 + '"}')
    client_key.chmod(0o644)
    ended = await asyncio.to_thread(scene.program, "-c", CLI, "key", "list", "--key", str(client_key))
    scene.note(f"a client's key file of mode 0644: exit code {ended.code}: {ended.last_line}")
    assert ended.code
    scene.says(ended.err + ended.out, "chmod 600")
    await scene.goes_on()
    await scene.end()


async def _refused(scene: Scene, method: str, code: int, key: TestKey, **params: object) -> None:
    client = await PlainClient.open(scene.server.url)
    try:
        await client.login(key)
        await client.call(method, **params)
    except RpcError as error:
        refusal = error
    else:
        raise AssertionError(f"{method} was not refused")
    finally:
        await client.close()
    assert refusal.code == code, refusal
    assert refusal.data["reason"]


async def wrong_certificates(scene: Scene) -> None:
    """Certificates that are missing, not PEM, or of another key: exit code 2, naming both fields."""
    (scene.directory / "other").mkdir()
    certificate, key = self_signed(scene.directory)
    _, other_key = self_signed(scene.directory / "other")
    garbage = scene.directory / "garbage.pem"
    garbage.write_bytes(b"\xff not PEM \x00")
    for first, second in (
        (scene.directory / "nowhere.pem", key),
        (garbage, key),
        (certificate, garbage),
        (certificate, other_key),
        (key, certificate),
    ):
        text = f'[server]\nport = 0\ntls_certificate = "{first}"\ntls_key = "{second}"\n'
        (scene.data_dir / "config.toml").write_text(text)
        await scene.refuses(scene.data_dir, 2, "server.tls_certificate, server.tls_key: cannot be used")
    (scene.data_dir / "config.toml").write_text(f'[server]\nport = 0\ntls_certificate = "{certificate}"\n')
    await scene.refuses(scene.data_dir, 2, "server.tls_key: TLS needs both")


# ----------------------------------------------------------------------------------------------------------------- damage


async def damaged_journal(scene: Scene) -> None:
    """A journal that is cut, overwritten, mixed up or gone: the start refuses, changes nothing and says what to restore; with
    the backup back everything acknowledged is there."""
    await scene.start()
    await scene.trade(1.0)
    await scene.strike(_kill(scene), KILLED)
    rng = scene.random

    def cut(data: bytes) -> bytes:
        return data[: len(data) // 2]

    def overwrite(data: bytes) -> bytes:
        at = rng.randrange(len(data) // 4, len(data) // 2)
        return data[:at] + rng.randbytes(4_096) + data[at + 4_096 :]

    def wipe(data: bytes) -> bytes:
        return bytes(len(data))

    with_log = scene.directory / "with-log"
    _copy_with_log(scene.copied("open"), with_log)
    folded = scene.copied("folded")  # the journal in one file, as after a clean end
    Journal(folded / "journal.db").close()

    def overwrite_log(data: bytes) -> bytes:
        at = WAL_HEADER_BYTES + rng.randrange(_frames_in_force(data) - WAL_FRAMES_BEHIND) * WAL_FRAME_BYTES
        return data[: at + 24] + rng.randbytes(4_096) + data[at + WAL_FRAME_BYTES :]

    damages: list[tuple[str, Path, str, Callable[[bytes], bytes], str]] = [
        ("the journal's second half is gone", folded, "journal.db", cut, "restore"),
        ("4 KiB inside the journal are garbage", folded, "journal.db", overwrite, "restore"),
        ("the journal is all zeros", folded, "journal.db", wipe, "restore"),
        ("a page of the write-ahead log is garbage", with_log, WAL, overwrite_log, "before commits that are intact"),
        ("the write-ahead log's header is garbage", with_log, WAL, lambda data: b"\xff" * 32 + data[32:], "damaged header"),
    ]
    for what, source, name, damage, words in damages:
        broken = scene.directory / "broken"
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(source, broken)
        (broken / name).write_bytes(damage((broken / name).read_bytes()))
        before = contents(broken)
        scene.note(what)
        await scene.refuses(broken, 1, words)
        changed = {name for name, data in contents(broken).items() if before.get(name) != data and name != "keys.lock"}
        assert not changed, f"the refused start changed {changed}"
        assert scene.verify(broken), "hashpit verify finds nothing wrong"
    await scene.back()
    await scene.end()


def _copy_with_log(source: Path, copy: Path) -> None:
    """Copy a data directory while its log is in use and has WAL_FRAMES_MIN frames in force: behind those SQLite leaves what it
    folded back long ago, and damage there hurts nobody."""
    journal = Journal(source / "journal.db")
    try:
        for number in range(WAL_FRAMES_MIN * 4):
            tick = Entry(journal.last_seq + 1, time.time_ns(), Tick())
            journal.append(tick.seq, tick.seq, encode_batch([tick]))
            # The last commits are small ones, so that some follow behind any damaged frame.
            if number > WAL_FRAMES_BEHIND and _frames_in_force((source / WAL).read_bytes()) >= WAL_FRAMES_MIN:
                break
        else:
            raise AssertionError("the log does not grow")
        shutil.copytree(source, copy)
    finally:
        journal.close()


def _frames_in_force(log: bytes) -> int:
    """Frames of the log's current round: those that have its salts."""
    salts, frames = log[16:24], 0
    while log[WAL_HEADER_BYTES + frames * WAL_FRAME_BYTES :][8:16] == salts:
        frames += 1
    return frames


def _kill(scene: Scene) -> Callable[[], Awaitable[None]]:
    async def kill() -> None:
        await asyncio.sleep(0.5)
        scene.server.kill(whole_group=True)

    return kill


async def damaged_snapshots(scene: Scene) -> None:
    """Snapshots that are cut, overwritten or garbage: an older one or the journal serves, and the operator is told. A journal
    that is gone from beside its snapshots is no new exchange."""
    scene.told = ("snapshot not used",)
    scene.configure(snapshot_s=1, snapshot_entries=1, snapshots_kept=3)
    await scene.start()
    async with asyncio.timeout(20):
        while len([*scene.data_dir.glob("snapshots/snapshot-*.bin")]) < 2:
            await scene.trade(0.5)
    await scene.stop()
    newest, *older = sorted(scene.data_dir.glob("snapshots/snapshot-*.bin"), reverse=True)
    whole = newest.read_bytes()
    lost = scene.copied("lost")
    for path in lost.glob("journal.db*"):
        path.unlink()
    await scene.refuses(lost, 1, "is missing, but there are snapshots", "restore")
    scene.configure()
    for damage in (whole[: len(whole) // 2], scene.random.randbytes(len(whole)), b"", whole[:-100] + bytes(100)):
        newest.write_bytes(damage)
        before = scene.server.log_text().count("snapshot not used")
        await scene.restart()
        assert scene.server.log_text().count("snapshot not used") > before, "nobody was told"
        await scene.stop()
    for path in older:
        path.write_bytes(b"no snapshot")
    scene.note("every snapshot is garbage: the journal and its archives serve")
    await scene.back()
    found = scene.verify(scene.data_dir)
    assert len(found) == 1 + len(older), found
    for path in (newest, *older):
        path.unlink()
    await scene.end()


FAULTS: Final[dict[str, Fault]] = {
    fault.__name__.replace("_", "-"): fault
    for fault in (
        killed,
        killed_while_writing,
        stopped_for_a_while,
        stopped_with_orders_in_flight,
        io_error_on_sync,
        io_error_on_write,
        disk_full,
        slow_disk,
        read_only_data,
        clock_set_back,
        clock_set_forward,
        no_descriptors_left,
        never_read,
        many_connects,
        two_servers,
        port_taken,
        wrong_keys,
        wrong_certificates,
        damaged_journal,
        damaged_snapshots,
    )
}
"""Every fault, by the name that it is called with."""
QUICK: Final = (
    "io-error-on-sync",
    "read-only-data",
    "clock-set-back",
    "no-descriptors-left",
    "wrong-keys",
    "damaged-journal",
)
"""Those that pytest runs."""
