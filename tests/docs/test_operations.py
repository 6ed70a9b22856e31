"""docs/OPERATIONS.md: its table of configuration is the configuration, its messages are those that the code has."""

import ast
import re
import tomllib
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest
from msgspec.structs import fields

from gateway.config import Bucket, Config, Listing, LiveListing, parse
from tests.docs.test_protocol import code

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")


def rows(after: str) -> list[list[str]]:
    """Cells of the first table behind ``after``."""
    assert after in TEXT
    found = re.search(r"^\|.*?(?=^(?!\|))", TEXT.partition(after)[2], re.MULTILINE | re.DOTALL)
    assert found is not None
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[0].strip().splitlines()[2:]]


def bounds(kind: Any) -> str:
    """How the table writes what a field may be."""
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if kind is Bucket:
        return bounds(get_type_hints(Bucket, include_extras=True)["burst"])
    for part in get_args(kind):
        if isinstance(part, msgspec.Meta) and part.ge is not None:
            return f"{part.ge} to {part.le}"
        if isinstance(part, msgspec.Meta) and part.max_length is not None:
            return f"{part.min_length} to {part.max_length} characters"
        if inner := bounds(part):
            return inner
    return ""


def value(text: str) -> Any:
    return tomllib.loads(f"x = {text}")["x"]


def plain(item: Any) -> Any:
    """As TOML has it."""
    return [*item] if isinstance(item, tuple) else msgspec.to_builtins(item)


def test_every_field_is_told_with_default_and_bounds() -> None:
    told = {code(row[0]): row for row in rows("cannot be\nignored.")}
    wanted = {}
    for section in fields(Config):
        if section.name in ("listings", "live"):
            continue
        kind = get_type_hints(Config)[section.name]
        hints = get_type_hints(kind, include_extras=True)
        for field in fields(kind):
            wanted[f"{section.name}.{field.name}"] = (plain(getattr(section.default, field.name)), bounds(hints[field.name]))
    assert [*told] == [*wanted]
    for name, (default, bound) in wanted.items():
        assert value(code(told[name][1])) == default, name
        assert told[name][2] == bound, name


@pytest.mark.parametrize(("kind", "after"), [(Listing, "Each `[[listings]]`"), (LiveListing, "Each `[[live]]`")])
def test_every_field_of_a_listing_is_told(kind: type[msgspec.Struct], after: str) -> None:
    told = {code(row[0]): row for row in rows(after)}
    hints = get_type_hints(kind, include_extras=True)
    assert [*told] == [field.name for field in fields(kind)]
    for field in fields(kind):
        row = told[field.name]
        assert row[2] == bounds(hints[field.name]), field.name
        if field.required or field.default is None:
            assert row[1] == "", field.name
        else:
            assert value(code(row[1])) == field.default, field.name


def test_examples_of_configuration_are_taken() -> None:
    examples = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert [(len(parse(example).listings), len(parse(example).live)) for example in examples] == [(2, 0), (0, 2)]


def literals() -> str:
    """All texts of the gateway's sources, with ``...`` where something is filled in."""
    found = []
    for file in sorted((ROOT / "gateway").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values))
    return "\n".join(found)


MESSAGES = [row[0] for row in rows("`...` stands\nfor names and numbers.")]


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_are_the_codes_own(message: str) -> None:
    if message.startswith("Object contains"):
        return  # the decoder's own words, checked below
    texts = literals()
    for part in re.split(r"\.\.\.", message):
        assert part.strip(" :,") in texts, part


def test_unknown_field_is_named() -> None:
    with pytest.raises(Exception, match="server: Object contains unknown field `prot`"):
        parse("[server]\nprot = 1\n")


def test_log_events_are_the_codes_own() -> None:
    texts = literals()
    for row in rows("are never logged."):
        for event in re.findall(r"`([^`]*)`", row[0]):
            assert f"\n{event}\n" in texts, event


def test_exit_codes() -> None:
    text = (ROOT / "gateway" / "__main__.py").read_text(encoding="utf-8")
    assert "0 after a graceful stop, 1 after a failure, 2 for a" in text
    assert [row[0] for row in rows("So does kill -9.")] == ["0", "1", "2"]
