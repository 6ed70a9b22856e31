"""docs/SECURITY.md: what it names as proof exists and is collected, and every attack is named there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECURITY = (ROOT / "docs" / "SECURITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", SECURITY)))


def names_in(file: Path) -> set[str]:
    """The tests of a file."""
    nodes = ast.parse(file.read_text(encoding="utf-8")).body
    names = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return {name for name in names if name.startswith("test_")}


def test_there_is_much_to_prove() -> None:
    assert len(NAMED) > 80


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_what_is_named_as_proof_exists(file: str, test: str) -> None:
    assert test in names_in(ROOT / file), f"{file} has no {test}"


def test_every_attack_is_named() -> None:
    attacks = {
        (f"tests/security/{file.name}", test)
        for file in (ROOT / "tests" / "security").glob("test_*.py")
        for test in names_in(file)
        if test != "test_the_honest_are_served_to_the_end"
    }
    assert attacks - set(NAMED) == set()


def test_every_point_says_how_it_is_met_and_what_proves_it() -> None:
    checked = SECURITY.partition("## What was checked")[2].partition("## What is open")[0]
    rows = [line for line in checked.splitlines() if line.startswith("| ") and not line.startswith("| Point")]
    assert len(rows) > 45
    for row in rows:
        point, met, proof = (cell.strip() for cell in row.strip("|").split(" | "))
        assert point, row
        assert met, row
        assert "::" in proof or "by hand" in proof or "`make " in proof, row


def test_every_open_point_says_why_and_until_when() -> None:
    opened = SECURITY.partition("## What is open")[2].partition("\n## ")[0]
    rows = [line for line in opened.splitlines() if line.startswith("| ") and not line.startswith("| |")]
    assert rows
    for row in rows:
        what, why, until = (cell.strip() for cell in row.strip("|").split(" | "))
        assert what, row
        assert why, row
        assert until, row
