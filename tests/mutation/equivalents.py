"""The mutants in ``equivalents.txt``: changes that nobody can observe, each with the reason."""

from pathlib import Path

Key = tuple[str, str, str]
"""A function, the lines that go, the lines that come."""


def equivalents(module: str) -> dict[Key, str]:
    """The explained mutants of a module, each with its reason."""
    found: dict[Key, str] = {}
    where = reason = function = ""
    old: list[str] = []
    new: list[str] = []

    def end() -> None:
        if function and where == module:
            found[function, "\n".join(old), "\n".join(new)] = reason
        old.clear()
        new.clear()

    for line in Path(__file__).with_suffix(".txt").read_text().splitlines():
        mark, text = line[:2], line[2:]
        if line.startswith("== "):
            end()
            where, function = line[3:], ""
        elif line.startswith("# "):
            end()
            reason, function = text, ""
        elif mark == "- ":
            old.append(text)
        elif mark == "+ ":
            new.append(text)
        elif line.strip():
            end()
            function = line
    end()
    return found
