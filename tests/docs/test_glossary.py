"""docs/GLOSSARY.md speaks of things that exist under that name, and each word has one row."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "GLOSSARY.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| ")]
SOURCES = "\n".join(
    file.read_text(encoding="utf-8") for package in ("engine", "gateway") for file in sorted((ROOT / package).rglob("*.py"))
)


def test_names_are_those_of_the_code() -> None:
    named = {name for row in ROWS for name in re.findall(r"`([a-z_]+)`", " ".join(row[:2]))}
    assert len(named) > 40
    missing = [name for name in sorted(named) if not re.search(rf"\b_?{name}_?\b|{name.upper()}|_{name.strip('_')}\b", SOURCES)]
    assert not missing, f"in the glossary and not in the code: {missing}"


def test_each_term_is_explained_once() -> None:
    terms = [term.strip(" `") for row in ROWS if row[0] not in ("Term", "---") for term in row[0].split(",")]
    twice = {term for term in terms if terms.count(term) > 1}
    # The word for an order's type and the word for a book.
    assert twice <= {"market"}, twice
