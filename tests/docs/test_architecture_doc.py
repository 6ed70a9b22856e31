"""docs/ARCHITECTURE.md: its examples run, and the files that documents name exist."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE = ROOT / "docs" / "ARCHITECTURE.md"
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
# Files of a data directory and of the system, not of this repository.
ELSEWHERE = re.compile(r"^(config\.toml|keys\.json|master\.key|journal\.db.*|.*snapshot-.*|/.*)$")


def test_settlement_example_runs() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    session = "".join(re.findall(r"^```pycon\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    example = doctest.DocTestParser().get_doctest(session, {}, "ARCHITECTURE.md", str(ARCHITECTURE), 0)
    assert len(example.examples) > 20
    runner = doctest.DocTestRunner()
    report: list[str] = []
    runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)


def test_tests_that_are_named_as_proof_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", ARCHITECTURE.read_text(encoding="utf-8"))
    assert len(named) > 15
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file} has no {test}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_that_a_document_names_exist(document: Path) -> None:
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    named = re.findall(r"`((?:engine|gateway|hashpit|tests|bench|docs|scripts)/[\w./-]*)`", text)
    missing = [name for name in named if not ELSEWHERE.match(name) and not (ROOT / name).exists()]
    assert not missing, f"{document.name} names files that do not exist: {missing}"
