"""What ``equivalents.txt`` explains is still there: an explanation does not outlive the lines that it is about."""

from pathlib import Path

import pytest

from tests.mutation.equivalents import equivalents

ROOT = Path(__file__).resolve().parent.parent.parent
MODULES = ("engine/book.py", "engine/ledger.py", "engine/matching.py", "gateway/sequencer.py")


@pytest.mark.parametrize("module", MODULES)
def test_the_lines_of_each_explained_mutant_are_in_the_module(module: str) -> None:
    lines = [line.strip() for line in (ROOT / module).read_text(encoding="utf-8").splitlines()]
    for (function, old, new), reason in equivalents(module).items():
        assert reason
        assert old != new
        assert f"def {function.rpartition('.')[2]}(" in "\n".join(lines), function
        wanted = old.splitlines()
        assert any(lines[at : at + len(wanted)] == wanted for at in range(len(lines))), (function, old)


def test_every_explanation_is_for_a_module_that_is_mutated() -> None:
    text = (Path(__file__).with_name("equivalents.txt")).read_text(encoding="utf-8")
    assert {line[3:] for line in text.splitlines() if line.startswith("== ")} <= {*MODULES}
