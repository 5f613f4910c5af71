"""The mutants that `make mutants` makes of a source, and that they are what they say."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from textwrap import dedent

import pytest

from tests.mutants.copies import ROOT
from tests.mutants.operators import Mutant, mutants
from tests.mutants.planted import PLANTED, PatchError, Planted
from tests.mutants.targets import TARGETS, equivalents


def changed(source: str, operator: str) -> list[str]:
    """The lines that an operator makes, in order."""
    return [mutant.after for mutant in mutants("a.py", dedent(source)) if mutant.operator == operator]


@cache
def of_target(path: str) -> list[Mutant]:
    return mutants(path, (ROOT / path).read_text())


@pytest.mark.parametrize(
    ("source", "operator", "after"),
    [
        ("x = a < b <= c", "comparison", ["x = a <= b <= c", "x = a < b < c"]),
        ("x = a is not None", "comparison", ["x = a is None"]),
        ("x = a not in (b)", "comparison", ["x = a in (b)"]),
        ("if a:\n    b = 1", "negated", ["if not (a):"]),
        ("if not a:\n    b = 1", "negated", ["if a:"]),
        ("while a and b:\n    pass", "negated", ["while not (a and b):"]),
        ("x = (a or b) and c", "and for or", ["x = (a or b) or c", "x = (a and b) and c"]),
        ("x = a and (b or c)", "term removed", ["x = (b or c)", "x = a", "x = a and (c)", "x = a and (b)"]),
        ("x = a if t else b", "branches swapped", ["x = b if t else a"]),
        ("x = f(is_new=True)", "truth", ["x = f(is_new=False)"]),
        ("f(y[0])", "constant", ["f(y[1])"]),
        ("x = 3 if y else z", "constant", ["x = 4 if y else z", "x = 2 if y else z"]),
        ("x = version + one", "sign", ["x = version - one"]),
        ("x = isinstance(y, A | B)", "alternative left out", ["x = isinstance(y, A)", "x = isinstance(y, B)"]),
        ("x = frozenset({a, b})", "field left out", ["x = frozenset({b})", "x = frozenset({a})"]),
        ("x = (a, b) != (c, d)", "field not compared", ["x = (b,) != (d,)", "x = (a,) != (c,)"]),
        ("x = a, f(b)", "field lost", ["x = None, f(b)", "x = a, None"]),
        ("x = max(a, b)", "function", ["x = min(a, b)"]),
        ("x = f(a, b=c, d=e)", "argument left out", ["x = f(a, d=e)", "x = f(a, b=c)"]),
    ],
)
def test_each_operator_makes_its_bug(source: str, operator: str, after: list[str]) -> None:
    assert changed(source, operator) == after


def test_effects_are_removed() -> None:
    source = """
        async def f(self):
            self.a = 1
            self.n += 1
            await g()
            del self.b
            if self.c:
                raise E("no")
            try:
                h()
            except (A, B):
                return
        """
    removed = [(mutant.operator, mutant.before) for mutant in mutants("a.py", dedent(source)) if mutant.text == "pass"]

    assert removed == [
        ("assignment removed", "self.a = 1"),
        ("statement removed", "self.n += 1"),
        ("statement removed", "await g()"),
        ("statement removed", "del self.b"),
        ("statement removed", 'raise E("no")'),
        ("statement removed", "h()"),
        ("statement removed", "return"),
    ]
    assert changed(source, "error left out") == ["except (B,):", "except (A,):"]


def test_checks_in_sql_are_removed_and_their_parameters_kept() -> None:
    source = """x = "UPDATE t SET a = 'reserved', b = NULL WHERE id = ? AND at < ? AND a = 'spent'" """

    assert changed(source, "check removed in SQL") == [
        """x = "UPDATE t SET a = 'reserved', b = NULL WHERE (id = ? OR 1) AND at < ? AND a = 'spent'\"""",
        """x = "UPDATE t SET a = 'reserved', b = NULL WHERE id = ? AND (at < ? OR 1) AND a = 'spent'\"""",
        """x = "UPDATE t SET a = 'reserved', b = NULL WHERE id = ? AND at < ? AND (a = 'spent' OR 1)\"""",
    ]
    assert len(changed(source, "other state in SQL")) == 2
    assert len(changed(source, "field left out in SQL")) == 1
    assert len(changed(source, "comparison in SQL")) == 1


def test_what_only_people_read_is_left_alone() -> None:
    source = '''
        """A text with WHERE a = ? in it."""
        from x import y

        T = TypeVar("T", bound=1)

        class C:
            """Another."""

            __slots__ = ("a", "b")
            a: dict[str, int | None]

            def f(self, b: int | str) -> tuple[int, int]:
                """And another."""
                logger.warning("gone", extra={"a": 1})
        '''
    assert mutants("a.py", dedent(source)) == []
    inside_a_message = [mutant.text for mutant in mutants("a.py", 'if a:\n    raise E(f"{b + 1}", rule="c", d=2)')]
    assert inside_a_message == ["not (a)", "pass"]


def test_a_mutant_is_one_edit_that_compiles_in_any_text() -> None:
    source = 'x = "é – ✓"; y = f(a == b)\n'
    (mutant,) = [mutant for mutant in mutants("a.py", source) if mutant.operator == "comparison"]

    assert mutant.apply(source) == 'x = "é – ✓"; y = f(a != b)\n'
    assert (mutant.path, mutant.line) == ("a.py", 1)


def test_a_key_does_not_know_the_line_but_tells_equals_apart() -> None:
    source = "def f():\n    g()\n    g()\n"
    first, second = mutants("a.py", source)

    assert first.key == "a.py::f::statement removed::g() -> pass"
    assert second.key == "a.py::f::statement removed::g() -> pass #2"
    assert [mutant.key for mutant in mutants("a.py", f"\n\n{source}")] == [first.key, second.key]


def test_a_long_line_is_cut_where_the_edit_is_not() -> None:
    (mutant,) = [one for one in mutants("a.py", f"x = [{'a, ' * 60}b == c]") if one.operator == "comparison"]

    assert "b == c" in mutant.before
    assert "b != c" in mutant.after
    assert len(mutant.before) < 120


@pytest.mark.parametrize("path", TARGETS)
def test_every_target_is_there_and_gives_distinct_mutants(path: str) -> None:
    source = (ROOT / path).read_text()
    found = of_target(path)

    assert len({mutant.key for mutant in found}) == len(found) > 10
    for mutant in found:
        changed = mutant.apply(source)
        assert changed != source
        compile(changed, path, "exec", flags=ast.PyCF_ONLY_AST)
    for pattern in TARGETS[path]:
        assert list(ROOT.glob(pattern)), pattern


def test_every_known_equivalent_names_a_mutant_and_gives_a_reason() -> None:
    keys = {mutant.key for path in TARGETS for mutant in of_target(path)}
    known = equivalents()

    assert [one.key for one in known if one.key not in keys] == []
    assert [one.key for one in known if not one.reason.endswith(".") or " " not in one.reason] == []
    assert len({one.key for one in known}) == len(known)


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: f"{Path(bug.path).stem}: {bug.bug}")
def test_every_planted_bug_fits_the_code(bug: Planted) -> None:
    source = (ROOT / bug.path).read_text()

    changed = bug.apply(source)

    compile(changed, bug.path, "exec")
    assert changed != source


def test_a_patch_that_does_not_fit_says_so() -> None:
    for source in ("b", "a a"):
        with pytest.raises(PatchError, match="some bug"):
            Planted("some bug", "a.py", (("a", "c"),)).apply(source)
