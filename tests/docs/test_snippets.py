"""Programs and commands that the documents show: they run, and they are shown as they are.

The bot of the README is run by tests/hashpit/test_exchange.py.
"""

import asyncio
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from hashpit.cli import app
from tests.support import PlainClient, TestKey, running

ROOT = Path(__file__).resolve().parents[2]
BOT = ROOT / "docs" / "snippets" / "bot.py"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROTOCOL = (ROOT / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "docs" / "OPERATIONS.md"]


def programs(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_readme_shows_the_bot() -> None:
    assert programs(README) == [BOT.read_text(encoding="utf-8")]


def test_figures_of_the_readme_are_measured_ones() -> None:
    expected = README.partition("## What to expect")[2].partition("## ")[0]
    figures = re.findall(r"\d[\d,.]*\d(?= µs| bytes| KiB| \|)", expected)
    results = (ROOT / "bench" / "RESULTS.md").read_text(encoding="utf-8")
    assert len(figures) >= 4
    assert not [figure for figure in figures if figure not in results]


async def run(arguments: list[str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(30):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_client_from_scratch_of_the_protocol(tmp_path: Path) -> None:
    (program,) = programs(PROTOCOL)
    (tmp_path / "scratch.py").write_text(program)
    async with running(tmp_path / "data") as server:
        key: TestKey = await server.trader("scratch", "0.1")
        async with PlainClient.to(server) as anyone:
            market = (await anyone.call("markets"))[0]["market"]
        seed = key.private.private_bytes_raw().hex()
        code, output = await run([str(tmp_path / "scratch.py"), server.url, key.key_id, seed, market])
    assert code == 0, output
    assert re.fullmatch(r"logged in as 100\naccepted 2\norder \d+ is open\ncanceled 3\n", output), output


def commands() -> list[tuple[str, str]]:
    """Every ``hashpit ...`` line of a fenced block without a language."""
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"^```\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                if re.match(r"(\.venv/bin/)?hashpit ", line):
                    found.append((document.name, line.partition("#")[0].strip()))
    return found


@pytest.mark.parametrize(("document", "line"), commands(), ids=lambda value: value)
def test_commands_exist(document: str, line: str) -> None:
    arguments = shlex.split(line)[1:]
    if arguments in (["--help"], ["--version"]):
        return
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name = arguments.pop(0)
        assert name in command.commands, f"{document}: {line}: there is no {name}"
        command = command.commands[name]
    if arguments == ["--help"]:
        return
    try:
        command.make_context("hashpit", arguments)
    except Exception as problem:
        raise AssertionError(f"{document}: {line}: {problem}") from None
