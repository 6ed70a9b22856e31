"""The pictures of docs/MARKETS.md show what the engine says, and what they write can be read.

Needs nothing that draws: a picture carries the facts that it was drawn from. Only the last test draws, where that is possible.
"""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from tests.docs.markets import PRICE
from tests.docs.pictures import DRAWN, PICTURES, drawn_facts, main

MARKETS = PICTURES.parent / "MARKETS.md"
SHOWN_PX = 800
"""How wide a page shows a picture."""
TEXT_PX_MIN = 10
REDRAW = "draw it again: python -m tests.docs.pictures"


def texts(path: Path) -> list[ElementTree.Element]:
    return list(ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text"))


def numbers(facts: Any) -> set[int]:
    """Every whole number in decoded JSON."""
    if isinstance(facts, dict):
        return numbers(list(facts.values()))
    if isinstance(facts, list):
        return {number for fact in facts for number in numbers(fact)}
    return {facts} if type(facts) is int else set()


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_was_drawn_from_what_the_engine_says_now(name: str) -> None:
    drawn = msgspec.json.decode(drawn_facts(PICTURES / f"{name}.svg"))
    assert drawn == msgspec.to_builtins(DRAWN[name].facts()), REDRAW


@pytest.mark.parametrize("name", DRAWN)
def test_every_amount_that_a_picture_writes_is_one_of_its_facts(name: str) -> None:
    path = PICTURES / f"{name}.svg"
    written = re.findall(r"\d\.\d{8}", " ".join(text.text or "" for text in texts(path)))
    assert len(written) >= 3, "a picture with numbers"
    facts = numbers(msgspec.json.decode(drawn_facts(path)))
    # prices are satoshi, money is msat
    known = {PRICE.format(number) for number in facts} | {PRICE.format(number // 1_000) for number in facts}
    assert set(written) <= known, REDRAW


@pytest.mark.parametrize("name", DRAWN)
def test_text_is_large_enough(name: str) -> None:
    path = PICTURES / f"{name}.svg"
    width = float(ElementTree.parse(path).getroot().attrib["viewBox"].split()[2])
    for text in texts(path):
        size = re.search(r"font-size: ([\d.]+)px", text.attrib["style"])
        assert size, text.text
        assert float(size[1]) * SHOWN_PX / width >= TEXT_PX_MIN, text.text


def test_the_page_shows_every_picture_and_says_what_is_seen() -> None:
    shown = dict(re.findall(r"!\[([^\]]*)\]\(pictures/([\w.]+)\)", MARKETS.read_text(encoding="utf-8")))
    assert sorted(shown.values()) == sorted(path.name for path in PICTURES.iterdir()) == sorted(f"{name}.svg" for name in DRAWN)
    for alt in shown:
        assert len(alt) > 100, f"say what is seen: {alt!r}"


@pytest.mark.slow
def test_drawing_twice_makes_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pictures are not drawn")
    for folder in ("first", "second"):
        main(tmp_path / folder)
    for name in DRAWN:
        first, second = ((tmp_path / folder / f"{name}.svg") for folder in ("first", "second"))
        assert drawn_facts(first) == msgspec.json.encode(DRAWN[name].facts())
        assert first.read_bytes() == second.read_bytes()
