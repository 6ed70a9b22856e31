"""What all commands share: the options that come again and again, how they connect, and how they print and fail."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, cast

import msgspec
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gateway.text import printable
from hashpit.client import Client
from hashpit.errors import HashpitError, RateLimited, Unknown
from hashpit.explain import error_object, explain, when
from hashpit.keys import Key
from hashpit.keys import load as load_key

REFRESH_PER_S = 8
AROUND = 5
"""Lines of a picture that are no levels."""
DAY_S = 86_400
LOGIN_TRIES = 5
"""How often a command tries to log in while the exchange says that there are too many logins."""
EXPIRES_S_MAX = 10_000 * DAY_S
"""What still fits the wire's times; the exchange takes less, and says how much."""
PIPE_COLUMNS = 200
"""Width of tables that do not go to a terminal, so that nothing in them is cut."""

# What the exchange says is text, never markup.
out = Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS, markup=False, emoji=False)
_IN_JSON = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
"""What JSON may carry as it is, and a terminal takes for a command or for another direction of writing."""
T = TypeVar("T")


json_wanted: ContextVar[bool] = ContextVar("json_wanted", default=False)
"""Whether the command was given --json: the way it speaks of errors, too."""


def _remember_json(wanted: bool) -> bool:
    json_wanted.set(wanted)
    return wanted


def number(text: str) -> str:
    """A price, quantity or amount as it is typed: .5 is 0.5."""
    return f"0{text}" if text.startswith(".") else text


def symbol(text: str) -> str:
    """A market as it is typed: in any case."""
    return text.upper()


Url = Annotated[str, typer.Option("--url", envvar="HASHPIT_URL", help="where the exchange listens")]
KeyFile = Annotated[Path | None, typer.Option("--key", envvar="HASHPIT_KEY", metavar="FILE", help="key file to log in with")]
AsJson = Annotated[bool, typer.Option("--json", callback=_remember_json, help="print JSON instead of text, errors included")]
Data = Annotated[Path, typer.Argument(metavar="DATA", help="data directory")]
Market = Annotated[str, typer.Argument(metavar="MARKET", parser=symbol, help="such as SHA256-20261124; see market list")]
InMarket = Annotated[str | None, typer.Option("--market", metavar="MARKET", parser=symbol, help="in this market only")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="how many at most")]


def fail(message: str, code: int = 1, error: dict[str, Any] | None = None) -> NoReturn:
    """End with a line on standard error; under ``--json`` that is ``{"error": ...}``."""
    if json_wanted.get():
        typer.echo(json_text({"error": {**(error or {}), "message": message}}), err=True)
    else:
        typer.echo(f"hashpit: {printable(message)}", err=True)
    raise typer.Exit(code)


def os_text(error: OSError) -> str:
    """What the system refused, and for which file."""
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)


async def log_in(url: str, key: Key | None) -> Client:
    """A connected client. Commands typed one after the other by a script are many logins: when they are too many, wait."""
    for _ in range(LOGIN_TRIES - 1):
        client = Client(url, key)
        try:
            await client.connect()
            return client
        except RateLimited as error:
            await asyncio.sleep(error.retry_after_s)
    client = Client(url, key)
    await client.connect()
    return client


def ask(url: str, key_file: Path | None, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Connect, do the work, disconnect. Errors of the SDK become one line and exit code 1."""

    async def connected() -> T:
        client = await log_in(url, load_key(key_file) if key_file else None)
        try:
            return await work(client)
        finally:
            await client.close()

    try:
        return asyncio.run(connected())
    except (HashpitError, ValueError) as error:
        fail(explain(error), error=error_object(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def ask_with_key(url: str, key_file: Path | None, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """``ask`` for what nobody may do without a key."""
    if key_file is None:
        fail("this command needs a key: --key FILE or HASHPIT_KEY", 2)
    return ask(url, key_file, work)


async def surely(client: Client, command: Coroutine[Any, Any, T]) -> T:
    """Await a command; when its outcome is unknown, find out. The ids that it carries make that safe."""
    try:
        return await command
    except Unknown as unknown:
        return cast(T, await client.retry(unknown))


def json_text(value: object) -> str:
    """JSON for a terminal: what that would take for a command is spelt out, and still the same JSON."""
    return msgspec.json.encode(value).decode().translate(_IN_JSON)


def print_json(value: object) -> None:
    typer.echo(json_text(value))


def show(value: object, as_json: bool, table: Callable[[], Table | str]) -> None:
    """Print a result, as JSON or as a table."""
    if as_json:
        print_json(value)
    else:
        told = table()
        out.print(told if isinstance(told, Table) else "\n".join(map(printable, told.split("\n"))))


def levels_that_fit(most: int) -> int:
    """How many levels of each side a picture has room for: on a terminal that is too low, the bids would be cut off."""
    return max(1, min(most, (out.height - AROUND) // 2)) if out.is_terminal else most


def rows(title: str, columns: Sequence[str], lines: Iterable[Sequence[object]]) -> Table:
    """A table; columns whose name ends in ``>`` are numbers, set to the right."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left", overflow="fold")
    for line in lines:
        table.add_row(*(printable(str(cell)) for cell in line))
    return table


def fields(title: str, value: msgspec.Struct) -> Table:
    """One thing, a line per field."""
    table = rows(title, ["", ""], [_field(name, getattr(value, name)) for name in value.__struct_fields__])
    table.show_header = False
    return table


def _field(name: str, value: Any) -> tuple[str, str]:
    """A field for people: lists without brackets, yes and no, times in UTC, a dash for nothing."""
    if value is None:
        return name, "-"
    if isinstance(value, bool):
        return name, "yes" if value else "no"
    if isinstance(value, list):
        return name, " ".join(str(one) for one in value)
    if name.endswith("_us"):
        return f"{name.removesuffix('_us')} (UTC)", when(value)
    return name, str(value)
