"""Small changes of a module, one at a time: mutmut's, and two kinds of our own.

mutmut changes expressions: operators, comparisons, numbers, arguments, what is assigned. Beside them a statement is left out,
and the condition of an ``if`` is always or never met: what nobody misses is not tested. Texts only tell, and stay as they are.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper
from mutmut.mutation.file_mutation import MutationVisitor
from mutmut.mutation.mutators import mutation_operators, operator_string
from mutmut.mutation.pragma_handling import IgnoredCode

Change = tuple[str, str]
"""The lines that go, and those that come, without what is the same before and behind them."""


@dataclass
class Mutant:
    """``function`` of a module, changed at ``line``; ``code`` is the whole module."""

    function: str
    line: int
    change: Change
    code: str

    def __str__(self) -> str:
        old, new = (
            "\n".join(f"  {sign} {text}" for text in part.splitlines()) for sign, part in zip("-+", self.change, strict=True)
        )
        return f"{self.function}, line {self.line}\n{old}\n{new}"


def mutants(path: Path) -> list[Mutant]:
    """All mutants of a module, in the order of its lines; those that come to the same code are one."""
    source = path.read_text()
    wrapper = MetadataWrapper(cst.parse_module(source))
    visitor = MutationVisitor(OPERATORS, IgnoredCode(set(), set(), set()))
    module = wrapper.visit(visitor)
    found: dict[str, Mutant] = {}
    texts: dict[cst.FunctionDef, str] = {}
    for mutation in visitor.mutations:
        function = mutation.contained_by_top_level_function
        if not isinstance(function, cst.FunctionDef) or _tells(mutation.original_node) or _is_false(mutation.original_node):
            continue
        # replacing within the function is much faster than within the module
        mutated = cst.ensure_type(function.deep_replace(mutation.original_node, mutation.mutated_node), cst.FunctionDef)
        method = function not in module.body
        if function not in texts:
            texts[function] = _text(function, method)
        old, new = texts[function], _text(mutated, method)
        start = source.index(old)
        code = source[:start] + new + source[start + len(old) :]
        if new != old and code not in found:
            line, change = _change(old, new)
            line += source.count("\n", 0, start)
            found[code] = Mutant(_function(source, line), line, change, code)
    return sorted(found.values(), key=lambda mutant: mutant.line)


def _text(function: cst.FunctionDef, method: bool) -> str:
    """As it stands in the module, a method with its indentation."""
    if not method:
        return str(cst.Module([function]).code)
    return str(cst.Module([cst.ClassDef(cst.Name("X"), cst.IndentedBlock([function]))]).code).partition("\n")[2]


def _conditions(node: cst.If) -> Iterator[cst.If]:
    for literal in ("False", "True"):
        yield node.with_changes(test=cst.Name(literal))


def _left_out(node: cst.SimpleStatementLine) -> Iterator[cst.SimpleStatementLine]:
    statement = node.body[0]
    if m.matches(statement, m.Expr(m.SimpleString() | m.ConcatenatedString()) | m.Pass() | m.AnnAssign(value=None)):
        return
    yield node.with_changes(body=[cst.Pass()])


OPERATORS: list[tuple[type, Callable[[Any], Iterable[cst.CSTNode]]]] = [
    *(pair for pair in mutation_operators if pair[1] is not operator_string),
    (cst.If, _conditions),
    (cst.SimpleStatementLine, _left_out),
]


def _tells(node: cst.CSTNode) -> bool:
    """Whether it only makes a text: an error's arguments."""
    return bool(m.matches(node, m.Call(args=[m.Arg(m.FormattedString() | m.SimpleString()), m.ZeroOrMore()])))


def _is_false(node: cst.CSTNode) -> bool:
    """Whether False is assigned, which None could stand for; that it becomes True is another mutant."""
    return bool(m.matches(node, m.Assign(value=m.Name("False")) | m.AnnAssign(value=m.Name("False"))))


def _change(old: str, new: str) -> tuple[int, Change]:
    before, after = old.splitlines(), new.splitlines()
    first = next(at for at, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1])
    while before and after and before[-1] == after[-1] and min(len(before), len(after)) > first + 1:
        before.pop()
        after.pop()
    gone, come = ("\n".join(line.strip() for line in lines[first:]) for lines in (before, after))
    return first + 1, (gone, come)


def _function(source: str, line: int) -> str:
    """The function, with its class, that a line lies in: the last heads above it, each less indented."""
    names: list[str] = []
    depth = len(source)
    for text in reversed(source.splitlines()[:line]):
        head = re.match(r"( *)(?:async def|def|class) (\w+)", text)
        if head is not None and len(head[1]) < depth:
            depth = len(head[1])
            names.insert(0, head[2])
    return ".".join(names)
