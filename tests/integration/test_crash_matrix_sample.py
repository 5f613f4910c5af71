"""A small, seeded sample of `make crash-matrix`; and that the matrix finds what is broken."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator

import pytest
from rich.console import Console

from tests.crash_matrix import planted
from tests.crash_matrix.judge import Finding, Harm, MintBooks, UnevenChange, WalletBooks, compare, judge
from tests.crash_matrix.lane import Lane
from tests.crash_matrix.lives import Zygote
from tests.crash_matrix.points import LONGEST_DELAY_MS, Course, Fault, Kind, Point, delays, doubles, singles
from tests.crash_matrix.report import as_json, print_matrix
from tests.crash_matrix.runner import Matrix, Wanted, run
from tests.crash_matrix.scenarios import SCENARIOS
from tests.crash_matrix.trial import Result
from wallet_actions.testing.nutshell import MintConfig

pytestmark = pytest.mark.anyio

COURSE = Course(writes=("create", "finish"), requests=("GET a", "POST b", "GET c"))
SAMPLE = ("issue", "melt.paid", "melt.fails", "receive", "swap", "revoke")  # that wait for nothing


@pytest.fixture(scope="module")
async def lane() -> AsyncIterator[Lane]:
    """For wallets that are broken."""
    async with Lane(MintConfig(input_fee_ppk=100)) as lane:
        yield lane


async def test_a_sample_loses_nothing_and_leaves_nothing_stuck_or_doubled() -> None:
    """G2, G3, G4, L-S1, L-C5, L-C7, L-P2: everything that can go wrong, a few of each."""
    told: list[Result] = []
    planned: list[int] = []
    matrix = await run(
        Wanted(scenarios=SAMPLE, seed=4, count=20, jobs=1, config=MintConfig(input_fee_ppk=100)),
        planned.append,
        told.append,
    )
    assert [str(finding) for result in matrix.failures for finding in result.findings] == []
    assert matrix.points >= 15
    assert len(told) == sum(planned) == matrix.points + len(matrix.not_reached) + len(SAMPLE)
    assert {result.point.kind for result in matrix.results} >= {None, Kind.TWICE, Kind.WRITE, Kind.ANSWER}
    assert sum(result.kills for result in matrix.results) > 10
    assert str(matrix) == f"crash matrix: {matrix.points} points, 0 lost, 0 stuck, 0 doubled"


@pytest.mark.parametrize(
    ("plant", "point", "harm"),
    [
        (planted.gives_up_an_issue, "issue/lose@r6.answered", Harm.LOST),
        (planted.frees_coins_on_no_answer, "melt.paid/kill@w3.after/kill@r1.answered", Harm.DOUBLED),
        (planted.takes_tokens_back, "send.exact", Harm.LOST),
        (planted.never_swaps, "swap/kill@w3.after", Harm.STUCK),
        (planted.forgets_its_history, "issue/kill@w4.after", Harm.LOST),
        (planted.passes_over_what_it_was_not_told, "restore/lose@r3.answered", Harm.LOST),
    ],
)
async def test_it_finds_what_is_broken(lane: Lane, plant: object, point: str, harm: Harm) -> None:
    """A matrix that cannot fail proves nothing."""
    lane.plant = f"{planted.__name__}:{getattr(plant, '__name__', '')}"
    result = await lane.run(Point.parse(point))
    assert result.was_reached
    assert result.has(harm), result.findings


def test_points_have_names_that_can_be_read_again() -> None:
    points = [*singles("swap", COURSE), *delays("swap", COURSE)]
    points += doubles(points[0], COURSE)
    assert len(points) == len(set(points)) == 2 * 2 + 2 * 3 + 3 * 3 + 3 * (LONGEST_DELAY_MS + 1) + 2 * 2 + 2 * 3
    assert [Point.parse(str(point)) for point in points] == points
    assert {point.kind for point in points} == set(Kind)
    assert str(points[-1]) == "swap/kill@w1.before/kill@r3.answered"


@pytest.mark.parametrize(
    "text", ["502@w1.after", "lose@r1+3ms", "kill@w1.answered", "kill@r1.after", "kill@r0.before", ""]
)
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no fault"):
        Fault.parse(text)


def test_each_difference_to_the_books_is_a_finding() -> None:
    row = {"operation": "cashu_issue", "amount": 8, "fee": 0, "state": "done", "counterpart": "lnbc"}
    coins = [("a", 8, "spendable")]

    def found(
        *, coins: list[tuple[str, int, str]] = coins, row: dict[str, object] = row, owed: int = 8, **changes: object
    ) -> set[Harm]:
        wallet = WalletBooks(coins, changes.get("rows", [row]), 1, changes.get("open", []), 0)  # type: ignore[arg-type]
        mint = MintBooks(owed, {"lnbc": str(changes.get("issued", "ISSUED"))}, dict(changes.get("paid", {})))  # type: ignore[call-overload]
        return {one.harm for one in judge(wallet, mint, elsewhere=0, spent=changes.get("spent", []))}  # type: ignore[arg-type]

    assert found() == set()
    assert found(owed=9) == {Harm.LOST}
    assert found(owed=7) == {Harm.DOUBLED}
    assert found(coins=[]) == {Harm.LOST}
    assert found(coins=[("a", 8, "reserved")]) == {Harm.STUCK}
    assert found(open=["cashu_issue x"]) == {Harm.STUCK}
    assert Harm.STUCK in found(row={**row, "operation": "cashu_swap", "state": "pending"})
    assert found(row={**row, "state": "pending"}) == {Harm.LOST, Harm.DOUBLED}
    assert found(issued="PAID") == {Harm.LOST}
    assert found(paid={"other": "PAID"}) == {Harm.LOST}
    assert found(spent=["a"]) == {Harm.DOUBLED}
    assert Harm.LOST in found(rows=[])
    assert Harm.DOUBLED in found(rows=[row, row])
    assert compare(row, {**row, "fee": 1}, was_started=True, slack=1) == []
    assert compare(row, {**row, "fee": 1}, was_started=True, slack=0) != []
    assert compare(None, row, was_started=True, slack=0) != []
    assert compare(None, row, was_started=False, slack=0) == []


def test_change_of_a_payment_that_the_mint_settled_twice_is_owed_once() -> None:
    """Whatever the wallet took of it; what is due is never forgiven."""

    def found(signed: int, *, fee: int, coins: int, owed: int) -> set[Harm]:
        row = {"operation": "cashu_melt", "amount": 29, "fee": fee, "state": "done", "counterpart": "lnbc"}
        opening = {"operation": "cashu_issue", "amount": 50, "fee": 0, "state": "done", "counterpart": "lnbc1"}
        wallet = WalletBooks([("a", coins, "spendable")], [opening, row], 2, [], 0)
        change = UnevenChange(inputs=50, due=20, signed=signed)
        mint = MintBooks(owed, {"lnbc1": "ISSUED"}, {"lnbc": "PAID"}, {"lnbc": change})
        return {one.harm for one in judge(wallet, mint, elsewhere=0, spent=[])}

    assert found(40, fee=1, coins=20, owed=40) == set(), "it took what was due"
    assert found(40, fee=-19, coins=40, owed=40) == set(), "it took both"
    assert found(40, fee=11, coins=10, owed=40) == {Harm.LOST}
    assert found(40, fee=1, coins=20, owed=41) == {Harm.LOST}
    assert found(40, fee=1, coins=20, owed=39) == {Harm.DOUBLED}
    assert found(19, fee=1, coins=20, owed=19) == set(), "it took what was due, and the mint notes less"
    assert found(19, fee=2, coins=19, owed=19) == set(), "it took what the mint shows"
    assert found(19, fee=3, coins=18, owed=19) == {Harm.LOST}


def test_a_failure_is_told_with_how_to_run_it_again() -> None:
    matrix = Matrix(seed=1, left_out={Kind.DELAY: 7})
    point = Point.parse("issue/kill@w1.before")
    matrix.results = [Result(Point("issue")), Result(point, findings=[Finding(Harm.LOST, "8 sat")], kills=1)]
    console = Console(width=150, record=True, file=io.StringIO(), markup=False)
    print_matrix(matrix, console)
    lines = console.export_text().splitlines()
    assert "  again: make crash-matrix ONLY=issue/kill@w1.before" in lines
    assert "left out, by the choice of the seed: killed, 0–50 ms on: 7" in lines
    assert lines[-1] == "crash matrix: 1 points, 1 lost, 0 stuck, 0 doubled"
    told = json.loads(json.dumps(as_json(matrix)))
    assert told["table"]["issue"]["killed at a write"] == {"points": 1, "lost": 1, "stuck": 0, "doubled": 0}


async def test_a_line_that_a_life_did_not_hear_is_not_the_next_ones() -> None:
    async with Zygote("tests.crash_matrix.listener") as zygote:

        async def too_late(life: object, line: dict[str, object]) -> None:
            if line["what"] == "here":
                for number in range(3):
                    await zygote.tell({"number": number})

        first = await zygote.live("tests.crash_matrix.listener:leave", {}, on_line=too_late)
        assert first.was_killed

        async def in_time(life: object, line: dict[str, object]) -> None:
            if line["what"] == "here":
                await zygote.tell({"number": 7})

        second = await zygote.live("tests.crash_matrix.listener:listen", {}, on_line=in_time)
    assert (second.was_killed, second.status) == (False, 0)
    assert second.last("heard") == {"what": "heard", "line": {"number": 7}}


def test_all_operations_are_there() -> None:
    assert {scenario.operation for scenario in SCENARIOS.values()} == {
        "issue",
        "issue_many",
        "melt",
        "send",
        "receive",
        "swap",
        "revoke",
        "restore",
    }
    assert {(one.operation, one.lock) for one in SCENARIOS.values() if one.lock} == {
        (operation, lock) for operation in ("send", "receive") for lock in ("p2pk", "htlc")
    }
    endings = {(one.payment.ending, one.payment.is_pending) for one in SCENARIOS.values() if one.payment is not None}
    assert endings == {("SETTLED", False), ("FAILED", False), ("SETTLED", True), ("FAILED", True)}
