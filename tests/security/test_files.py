"""Attacks by files: what other users of the machine may read, what they may put in the way, and files made to harm."""

import asyncio
import gzip
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.auth import KEYS_FILE, KeyStore
from gateway.config import CONFIG_BYTES_MAX
from gateway.journal import Journal
from gateway.recovery import archive, recover, snapshot_paths
from hashpit import keys
from hashpit.errors import KeyFileError
from hashpit.replay import LINE_BYTES_MAX, LineError, replay
from tests.support import ROOT, Server
from tests.support import config as server_config

MIB = 2**20


def hashpit(*words: object, umask: int = -1, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hashpit.cli", *map(str, words)],
        cwd=ROOT,
        env=os.environ | options.pop("env", {}),
        capture_output=True,
        text=True,
        timeout=60,
        umask=umask,
        **options,
    )


def open_to_others(directory: Path) -> dict[str, str]:
    """What others may read, write or enter, with its mode."""
    found = [directory, *directory.rglob("*")]
    modes = {str(path): path.stat().st_mode & 0o777 for path in found}
    return {path: f"{mode:04o}" for path, mode in modes.items() if mode & 0o077}


# ------------------------------------------------------------------------------------------------------------ file modes


async def test_nothing_is_open_to_others_under_umask_000(tmp_path: Path) -> None:
    """Keys, configuration, journal, its log, lock, snapshots and archives, made by commands and by the server."""
    data_dir = tmp_path / "data"
    before = os.umask(0)
    try:
        made = await asyncio.to_thread(hashpit, "init", data_dir, umask=0)
        assert made.returncode == 0, made.stderr
        assert open_to_others(data_dir) == {}
        server = Server(tmp_path / "served", server_config(snapshot_entries=1, snapshots_kept=1, snapshot_s=1))
        (server.data_dir / "config.toml").chmod(0o600)  # the test's own
        await server.start()
        trader = await server.trader("trader", "1")
        assert trader.key_id
        KeyStore(server.data_dir).add(1, ["read"], "hmac")
        for _ in range(100):
            if snapshot_paths(server.data_dir):
                break
            await asyncio.sleep(0.1)
        assert open_to_others(server.data_dir) == {}
        await server.stop()
        recovered = recover(server.data_dir)
        archive(server.data_dir, recovered.journal, recovered.engine.seq)
        recovered.journal.close()
        key = keys.Key("k-1", "hmac", secret="5e" * 32)
        key.save(server.data_dir / "own.key")
    finally:
        os.umask(before)
    names = {path.name.partition("-")[0] for path in server.data_dir.rglob("*")}
    assert {"keys.json", "master.key", "journal.db", "lock", "snapshots", "snapshot", "archive", "journal", "own.key"} <= names
    assert open_to_others(server.data_dir) == {}


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
def test_a_data_directory_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    data_dir.chmod(mode)
    done = hashpit("serve", data_dir, "--port", 0)
    assert done.returncode == 2
    assert f"{data_dir}: others may write to it (mode {mode:04o}); chmod 700 it" in done.stderr
    assert not [*data_dir.iterdir()], "nothing was made there"


def test_without_assertions_it_does_not_start(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    done = hashpit("serve", data_dir, "--port", 0, env={"PYTHONOPTIMIZE": "1"})
    assert done.returncode == 2
    assert "assertions are off" in done.stderr


# ------------------------------------------------------------------------------------------------------ links and names


def test_a_key_is_never_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    link = tmp_path / "new.key"
    link.symlink_to(victim)
    with pytest.raises(KeyFileError):
        keys.Key("k-1", "hmac", secret="5e" * 32).save(link)
    dangling = tmp_path / "other.key"
    dangling.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError):
        keys.Key("k-1", "hmac", secret="5e" * 32).save(dangling)
    assert victim.read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_the_servers_keys_are_never_written_through_a_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text('{"version": 1, "keys": []}')
    elsewhere.chmod(0o600)
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / KEYS_FILE).symlink_to(elsewhere)
    KeyStore(data_dir).add(1, ["read"], "hmac")
    assert json.loads(elsewhere.read_text())["keys"] == []
    assert not (data_dir / KEYS_FILE).is_symlink()


@pytest.mark.parametrize("name", ["/dev/zero", "a directory", "a pipe"])
def test_what_is_no_regular_file_is_no_key_file(tmp_path: Path, name: str) -> None:
    path = Path(name) if name.startswith("/") else tmp_path / name
    if name == "a directory":
        path.mkdir()
    elif name == "a pipe":
        os.mkfifo(path)
    with pytest.raises(KeyFileError, match="no regular file"):
        keys.load(path)


def test_files_of_other_names_are_not_taken_for_snapshots_or_archives(tmp_path: Path) -> None:
    """A copy that somebody put aside there must neither be used nor stop anything."""
    data_dir = tmp_path / "data"
    with Journal(data_dir / "journal.db"):
        pass
    for folder, name in (
        ("snapshots", "snapshot-old.bin"),
        ("snapshots", "snapshot-00000000000000000009.bin.bak"),
        ("snapshots", "snapshot-..%2f..%2fetc.bin"),
        ("archive", "journal-1-2 (copy).db"),
        ("archive", "journal-..-...db"),
    ):
        (data_dir / folder).mkdir(exist_ok=True)
        (data_dir / folder / name).write_bytes(b"x")
    warnings: list[str] = []
    recovered = recover(data_dir, warn=warnings.append)
    recovered.journal.close()
    assert (recovered.engine.seq, warnings) == (0, [])
    done = hashpit("snapshot", data_dir, "--keep", 1)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["a?mode=memory&b", "a#b", "%2e%2e", "file:a", "a\nb", "\x1b[2J", "-rf", "\u202e"])
def test_a_data_directory_may_have_any_name(tmp_path: Path, name: str) -> None:
    """SQLite is opened by URI: nothing of the name is read as a part of it."""
    data_dir = tmp_path / name
    with Journal(data_dir / "journal.db") as journal:
        epoch = journal.epoch
    assert (data_dir / "journal.db").stat().st_size > 4_096
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with Journal(data_dir / "journal.db") as journal:
        assert journal.epoch == epoch


def test_a_replay_writes_through_no_link_that_waits_for_it(tmp_path: Path) -> None:
    flow = tmp_path / "flow.jsonl"
    flow.write_text('{"op":"place","id":"a","side":"buy","price":"1","qty":"1"}\n')
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "trades.jsonl.part").symlink_to(victim)
    replay(flow, trades=tmp_path / "trades.jsonl")
    assert victim.read_text() == "mine"
    assert (tmp_path / "trades.jsonl").is_file()


# --------------------------------------------------------------------------------------------------- files made to harm


@pytest.mark.parametrize("filling", [b"0", b" ", b"\n"])
def test_a_gzip_bomb_takes_no_memory(tmp_path: Path, filling: bytes) -> None:
    """300 MiB in 300 KiB: one endless line is refused at its bound, blank lines run through one by one."""
    flow = tmp_path / "bomb.jsonl.gz"
    with gzip.open(flow, "wb") as bomb:
        for _ in range(300 if filling != b"\n" else 2):
            bomb.write(filling * MIB)
    assert flow.stat().st_size < MIB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if filling == b"\n":
        assert replay(flow).commands == 0
    else:
        with pytest.raises(LineError, match=f"line 1: longer than {LINE_BYTES_MAX} bytes"):
            replay(flow)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1_024 < 32 * MIB


@pytest.mark.parametrize("number", ["1e999999", "9" * 60_000, "0." + "0" * 60_000 + "1", "NaN", "-1", "1_0"])
def test_numbers_of_a_flow_are_bounded(tmp_path: Path, number: str) -> None:
    flow = tmp_path / "flow.jsonl"
    flow.write_text(json.dumps({"op": "place", "id": "a", "side": "buy", "price": number, "qty": "1"}) + "\n")
    with pytest.raises(LineError, match="line 1: price"):
        replay(flow)
    flow.write_text('{"op":"place","id":"a","side":"buy","price":"1","qty":' + number + "}\n")
    with pytest.raises(LineError, match="line 1: "):
        replay(flow)


@pytest.mark.parametrize("text", ["[" * 5_000, "#" * (CONFIG_BYTES_MAX + 1), "x = " + "9" * 60_000, 'x = "\x00"'])
def test_a_configuration_that_is_a_weapon_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    (data_dir / "config.toml").write_text(text)
    done = hashpit("serve", data_dir, "--port", 0)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "config.toml: " in done.stderr
