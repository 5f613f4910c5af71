"""How a source file is broken: one small edit at one place, each a bug that somebody could have written.

An edit replaces a span of the text and leaves the rest as it stands, so that a mutant differs in one readable line.
Texts that only people read are left alone: docstrings, messages, what is logged.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

SHOWN = 110

Edit = tuple[str, int, int, str]
"""The operator's name, the span in bytes, and what takes its place."""

_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
}
_TWINS = {"min": "max", "max": "min", "any": "all", "all": "any"}
_SQL = re.compile(r"\b(?:SELECT|INSERT INTO|UPDATE|DELETE FROM) |\bWHERE ")
_TERM = r"[\w.]+ (?:(?:=|<>|<|>) (?:\?|'\w*'|[\w.]+)|IS (?:NOT )?NULL)"
_SQL_EDITS: Sequence[tuple[str, re.Pattern[str], Callable[[str], str]]] = (
    ("check removed in SQL", re.compile(rf"(?:(?<=WHERE )|(?<=AND )){_TERM}"), lambda term: f"({term} OR 1)"),
    ("other state in SQL", re.compile(r"'reserved'"), lambda _: "'spendable'"),
    ("other state in SQL", re.compile(r"'spendable'|'spent'"), lambda _: "'reserved'"),
    ("null in SQL", re.compile(r"IS NULL"), lambda _: "IS NOT NULL"),
    ("null in SQL", re.compile(r"IS NOT NULL"), lambda _: "IS NULL"),
    ("existence in SQL", re.compile(r"NOT EXISTS"), lambda _: "EXISTS"),
    ("comparison in SQL", re.compile(r"(?<= )<(?= )"), lambda _: "<="),
    ("function in SQL", re.compile(r"\bmax(?=\()"), lambda _: "min"),
    ("constant in SQL", re.compile(r"\+ 1\b"), lambda _: "+ 2"),
    ("field left out in SQL", re.compile(r", \w+ = NULL"), lambda _: ""),
    ("order removed in SQL", re.compile(r" ORDER BY \w+"), lambda _: ""),
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file with one bug in it.

    Attributes:
        path: of the file, from the root of the repository.
        line: where the edit begins.
        key: names the mutant for as long as the code around it stays; line numbers have no part in it.
        start, end, text: the edit, in bytes of the file.
        before, after: the lines that it touches, on one line each.
    """

    path: str
    line: int
    operator: str
    key: str
    start: int
    end: int
    text: str
    before: str
    after: str

    def apply(self, source: str) -> str:
        """The file with the bug."""
        data = source.encode()
        return (data[: self.start] + self.text.encode() + data[self.end :]).decode()


class Source:
    """A file's text and the places of its nodes."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.data = text.encode()
        self.tree = ast.parse(text)
        self._lines = [0]
        for line in self.data.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Where a node begins and ends."""
        place = node.lineno, node.col_offset, node.end_lineno, node.end_col_offset  # type: ignore[attr-defined]
        return self._lines[place[0] - 1] + place[1], self._lines[place[2] - 1] + place[3]

    def of(self, node: ast.AST) -> str:
        """A node's text."""
        start, end = self.span(node)
        return self.data[start:end].decode()

    def mutant(self, operator: str, where: str, edit: tuple[int, int, str], seen: Counter[str]) -> Mutant:
        """Name an edit, and show it."""
        start, end, text = edit
        line = self.data.count(b"\n", 0, start)
        first, last = self._lines[line], self.data.find(b"\n", end)
        last = len(self.data) if last < 0 else last
        head, tail = self.data[first:start].decode(), self.data[end:last].decode()
        removed = self.data[start:end].decode()
        before, after = (_shown(head, middle, tail) for middle in (removed, text))
        key = f"{self.path}::{where}::{operator}::{_flat(removed)} -> {_flat(text)}"
        seen[key] += 1
        if seen[key] > 1:
            key = f"{key} #{seen[key]}"
        return Mutant(self.path, line + 1, operator, key, start, end, text, before, after)


def mutants(path: str, text: str) -> list[Mutant]:
    """Every mutant of a file, in the order of its text."""
    source = Source(path, text)
    seen: Counter[str] = Counter()
    return [
        source.mutant(operator, where, (start, end, replacement), seen)
        for where, (operator, start, end, replacement) in _walk(source, source.tree, ())
    ]


def _walk(source: Source, node: ast.AST, scope: tuple[str, ...]) -> Iterator[tuple[str, Edit]]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        scope = (*scope, node.name)
    if isinstance(node, ast.stmt):
        for edit in _statement(source, node):
            yield ".".join(scope), edit
    if isinstance(node, ast.expr | ast.pattern | ast.keyword):
        for edit in _expression(source, node):
            yield ".".join(scope), edit
    if isinstance(node, ast.If | ast.While) and not _is_negated_otherwise(node.test):
        yield ".".join(scope), ("negated", *_negated(source, node.test))
    if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Tuple):
        for left in range(len(node.type.elts)):
            kept = [source.of(one) for index, one in enumerate(node.type.elts) if index != left]
            yield ".".join(scope), ("error left out", *source.span(node.type), f"({', '.join(kept)},)")
    for child in _children(node):
        yield from _walk(source, child, scope)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """What is mutated beneath a node: neither types nor texts."""
    match node:
        case ast.Raise() | ast.Import() | ast.ImportFrom() | ast.JoinedStr():
            return
        case ast.Expr(value=value) if _is_text(value) or _is_log(value):
            return
        case ast.Assign(targets=[ast.Name(id="__slots__")] | [ast.Name(id="__all__")]):
            return
        case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar" | "ParamSpec"))):
            return
        case ast.Assign(targets=[ast.Name()], value=ast.Subscript(), col_offset=0):  # an alias of a type
            return
        case ast.AnnAssign(value=value):
            yield from [] if value is None else [value]
        case ast.FunctionDef(args=args, body=body) | ast.AsyncFunctionDef(args=args, body=body):
            yield from args.defaults
            yield from (default for default in args.kw_defaults if default is not None)
            yield from body
        case ast.ClassDef(body=body):
            yield from body
        case ast.ExceptHandler(body=body):
            yield from body
        case ast.Compare(left=ast.Tuple() as left, comparators=[ast.Tuple() as right]):
            yield from (*left.elts, *right.elts)
        case _:
            yield from ast.iter_child_nodes(node)


def _statement(source: Source, node: ast.stmt) -> Iterator[Edit]:
    match node:
        case ast.Expr(value=value):
            if not _is_text(value) and not _is_log(value):
                yield ("statement removed", *source.span(node), "pass")
        case ast.Raise() | ast.Continue() | ast.Break() | ast.Delete() | ast.AugAssign():
            yield ("statement removed", *source.span(node), "pass")
        case ast.Return(value=None):
            yield ("statement removed", *source.span(node), "pass")
        case ast.Assign(targets=targets):
            # Another use of the name would fail by itself, so locals are left to the tests of what they hold.
            is_state = all(isinstance(target, ast.Attribute | ast.Subscript) for target in targets)
            is_choice = node.col_offset > 8 and isinstance(node.value, ast.Name | ast.Constant | ast.Attribute)
            if is_state or is_choice:
                yield ("assignment removed", *source.span(node), "pass")


def _expression(source: Source, node: ast.AST) -> Iterator[Edit]:
    match node:
        case ast.Compare():
            yield from _comparisons(source, node)
        case ast.BoolOp(op=op, values=values):
            word, other = ("and", "or") if isinstance(op, ast.And) else ("or", "and")
            texts = [_enclosed(source, value) for value in values]
            yield ("and for or", *source.span(node), f" {other} ".join(texts))
            for left_out in range(len(texts)):
                terms = [text for index, text in enumerate(texts) if index != left_out]
                yield ("term removed", *source.span(node), f" {word} ".join(terms))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield ("negated", *source.span(node), _enclosed(source, operand))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            parts = [_enclosed(source, part) for part in (orelse, test, body)]
            yield ("branches swapped", *source.span(node), "{} if {} else {}".format(*parts))
        case ast.Constant(value=bool() as value):
            yield ("truth", *source.span(node), repr(not value))
        case ast.Constant(value=int() as value):
            yield ("constant", *source.span(node), repr(value + 1))
            if value > 0:
                yield ("constant", *source.span(node), repr(value - 1))
        case ast.Constant(value=str()) | ast.JoinedStr():
            yield from _sql(source, node)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
            sign = "-" if isinstance(op, ast.Add) else "+"
            yield ("sign", *source.span(node), f"{_enclosed(source, left)} {sign} {_enclosed(source, right)}")
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            for side in (left, right):
                yield ("alternative left out", *source.span(node), source.of(side))
        case ast.MatchOr(patterns=patterns):
            for left_out in range(len(patterns)):
                kept = [source.of(one) for index, one in enumerate(patterns) if index != left_out]
                yield ("alternative left out", *source.span(node), " | ".join(kept))
        case ast.Set(elts=elts) if len(elts) > 1:
            for left_out in range(len(elts)):
                kept = [source.of(one) for index, one in enumerate(elts) if index != left_out]
                yield ("field left out", *source.span(node), f"{{{', '.join(kept)}}}")
        case ast.Tuple(elts=elts, ctx=ast.Load()) if len(elts) > 1:
            yield from _lost_fields(source, elts)
        case ast.Call(func=func, args=args):
            if isinstance(func, ast.Name) and func.id in _TWINS:
                yield ("function", *source.span(func), _TWINS[func.id])
            if len(args) > 4:
                yield from _lost_fields(source, args)
        case ast.keyword(arg=str(), value=value):
            if not _is_text(value):
                yield ("argument left out", *_with_comma(source, node), "")


def _comparisons(source: Source, node: ast.Compare) -> Iterator[Edit]:
    left = node.left
    for op, right in zip(node.ops, node.comparators, strict=True):
        found, other = _COMPARISONS[type(op)]
        start = source.span(left)[1]
        between = source.data[start : source.span(right)[0]].decode()
        place = re.search(found, between)
        if place is not None:
            yield ("comparison", start + place.start(), start + place.end(), other)
        if isinstance(left, ast.Tuple) and isinstance(right, ast.Tuple) and len(left.elts) == len(right.elts) > 1:
            for left_out in range(len(left.elts)):
                sides = [
                    ", ".join(source.of(one) for index, one in enumerate(side.elts) if index != left_out)
                    for side in (left, right)
                ]
                yield (
                    "field not compared",
                    source.span(left)[0],
                    source.span(right)[1],
                    f"({sides[0]},){between}({sides[1]},)",
                )
        left = right


def _sql(source: Source, node: ast.AST) -> Iterator[Edit]:
    text = source.of(node)
    if _SQL.search(text):
        start = source.span(node)[0]
        for operator, pattern, replace in _SQL_EDITS:
            for place in pattern.finditer(text):
                offset = start + len(text[: place.start()].encode())
                yield (operator, offset, offset + len(place[0].encode()), replace(place[0]))


def _lost_fields(source: Source, elts: Sequence[ast.expr]) -> Iterator[Edit]:
    for one in elts:
        is_query = isinstance(one, ast.Name) and one.id.isupper()  # without it nothing runs at all
        if not is_query and not isinstance(one, ast.Constant | ast.Starred | ast.Tuple | ast.JoinedStr):
            yield ("field lost", *source.span(one), "None")


def _negated(source: Source, test: ast.expr) -> tuple[int, int, str]:
    return (*source.span(test), f"not ({source.of(test)})")


def _with_comma(source: Source, node: ast.AST) -> tuple[int, int]:
    start, end = source.span(node)
    behind = re.match(rb"\s*,\s*", source.data[end:])
    if behind is not None:
        return start, end + behind.end()
    before = re.search(rb",\s*$", source.data[:start])
    return start if before is None else before.start(), end


def _enclosed(source: Source, node: ast.expr) -> str:
    text = source.of(node)
    needs_it = isinstance(node, ast.BoolOp | ast.IfExp | ast.NamedExpr | ast.BinOp | ast.Lambda)
    return f"({text})" if needs_it or "\n" in text else text


def _is_negated_otherwise(test: ast.expr) -> bool:
    if isinstance(test, ast.Compare):
        return len(test.ops) == 1
    return isinstance(test, ast.UnaryOp)


def _is_text(node: ast.expr) -> bool:
    is_plain = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return is_plain or isinstance(node, ast.JoinedStr)


def _is_log(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="logger" | "_LOG"))):
            return True
    return False


def _flat(text: str) -> str:
    return " ".join(text.split())


def _shown(head: str, middle: str, tail: str) -> str:
    """The lines around an edit as one, cut where they are long, but not at the edit."""
    line = _flat(head + middle + tail)
    if len(line) <= SHOWN:
        return line
    start = max(0, len(_flat(head)) - SHOWN // 3)
    cut = line[start : start + SHOWN]
    return f"{'…' if start else ''}{cut}{'…' if start + SHOWN < len(line) else ''}"
