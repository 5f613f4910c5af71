"""`wallet-actions saga`: what it lists and shows, what it starts, cancels and reverses, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.unit.ops.kit import Ran, assert_one_line, url_of, work
from tests.unit.saga.kit import A, B, Job, Peer, Shop, Work
from wallet_actions.action import Action
from wallet_actions.coins import ActionKey
from wallet_actions.executor import Executor
from wallet_actions.ops.program import Commands
from wallet_actions.registry import Registry
from wallet_actions.saga import start_saga
from wallet_actions.saga_cli.command import app as saga_app
from wallet_actions.store import Store, open_store
from wallet_actions.testing.clock import FakeClock

APP = "tests.unit.ops.test_saga_cli:app"

program = typer.Typer(cls=Commands, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
program.add_typer(saga_app, name="saga")


def app(store: Store) -> tuple[Shop, list[type[Action[Any, Any, Any]]]]:
    return Shop(Peer(), FakeClock(), store), [Work]


def other(store: Store) -> tuple[Shop, list[type[Action[Any, Any, Any]]]]:
    return Shop(Peer(), FakeClock(), store), []


def saga(*args: str, db: Path, columns: int = 160) -> Ran:
    from typer.testing import CliRunner

    result = CliRunner().invoke(program, ["saga", *args, "--db", str(db)], env={"COLUMNS": str(columns)})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """One that is done, one that waits, one that has failed, one that is stuck, and one that has not begun."""
    path = tmp_path / "sagas.db"

    async def fill() -> None:
        async with open_store(url_of(path)) as store:
            shop = app(store)[0]
            executor = Executor(store, shop, Registry([Work]), clock=shop.clock)
            some = frozenset({"b"})
            for name, job in {
                "good": Job(),
                "waiting": Job(waits=some),
                "failed": Job(fails=some),
                "stuck": Job(fails=some, sticks=frozenset({"a"})),
            }.items():
                who = "cron" if name == "good" else "ops"
                await start_saga(
                    executor, Work, name, job, [A, B], purpose="update", triggered_by=who, labels=[f"l:{name}", "all"]
                )
                await executor.drive(ActionKey("work", name))
            await start_saga(executor, Work, "new", Job(), ["a", ["b", "c"]], purpose="test")

    work(fill())
    return path


def ids(ran: Ran) -> list[str]:
    assert ran.status == 0, ran
    return [one["id"] for one in ran.json["sagas"]]


def test_sagas_are_listed_and_chosen(db: Path) -> None:
    everything = ["good", "waiting", "failed", "stuck", "new"]
    assert ids(saga("list", "--json", db=db)) == everything
    assert ids(saga("list", "--json", "--status", "stuck", "--status", "parked", db=db)) == ["waiting", "stuck"]
    assert ids(saga("list", "--json", "--kind", "work", "--label", "all", db=db)) == everything[:4]
    assert ids(saga("list", "--json", "--label", "l:failed", db=db)) == ["failed"]
    assert ids(saga("list", "--json", "--triggered-by", "cron", db=db)) == ["good"]
    assert ids(saga("list", "--json", "--purpose", "test", db=db)) == ["new"]
    assert ids(saga("list", "--json", "--kind", "none", db=db)) == []
    first = saga("list", "--json", "--limit", "2", db=db)
    assert ids(first) == everything[:2]
    assert ids(saga("list", "--json", "--after", str(first.json["next_after"]), db=db)) == everything[2:]
    shown = saga("list", db=db).out
    assert "1 compensation_failed, 1 compensated" in shown
    assert "all, l:waiting" in shown
    assert saga("list", "--limit", "1", db=db).out.splitlines()[-1].startswith("There are more: --after ")
    assert saga("list", "--label", "none", db=db).out == "no sagas\n"


def test_the_ledger_is_shown(db: Path) -> None:
    told = saga("show", "work", "stuck", "--json", db=db).json
    assert (told["status"], told["purpose"], told["labels"]) == ("stuck", "update", ["all", "l:stuck"])
    assert told["reason"] == "the step b failed: the peer refuses"
    assert [(row["step"], row["group"], row["state"], row["error"]) for row in told["ledger"]] == [
        ("a", 1, "compensation_failed", "the peer keeps it"),
        ("b", 2, "compensated", "the peer refuses"),
    ]
    assert saga("show", "work", "new", "--json", db=db).json["plan"] == [["a"], ["b", "c"]]
    text = saga("show", "work", "stuck", db=db).out
    for part in ("rolled back", "the step b failed: the peer refuses", "compensation_failed", "the peer keeps it"):
        assert part in text
    assert "s/a" not in saga("show", "work", "good", db=db).out, "what a step returned may be secret"


def test_one_is_started_driven_and_reversed(db: Path) -> None:
    job = json.dumps({"waits": ["b"]})
    begun = ("start", "work", "fresh", "--app", APP, "--input", job, "--step", "a", "--step", "b,c")
    more = ("--purpose", "provision", "--triggered-by", "me", "--label", "x", "--label", "y")
    assert saga(*begun, *more, db=db).out == "work fresh: started\n"
    again = saga(*begun, "--json", db=db)
    assert again.json == {"kind": "work", "id": "fresh", "is_new": False}
    told = saga("show", "work", "fresh", "--json", db=db).json
    assert (told["plan"], told["purpose"], told["triggered_by"]) == ([["a"], ["b", "c"]], "provision", "me")
    assert (told["labels"], told["steps"]) == (["x", "y"], {"pending": 3})
    assert_one_line(saga("reverse", "work", "fresh", "--app", APP, db=db), "only what is done can be reversed")
    assert saga("reverse", "work", "good", "--app", APP, db=db).status == 0
    undoing = saga("show", "work", "good/reversal", "--json", db=db).json
    assert (undoing["reverses"], undoing["purpose"], undoing["phase"]) == ("good", "rollback", "backward")
    assert [row["started_at"] for row in undoing["ledger"]] == [None, None]


def test_a_request_to_cancel_is_on_disk_and_heeded_by_the_app(db: Path) -> None:
    assert "the request to cancel is on disk" in saga("cancel", "work", "waiting", db=db).out
    assert saga("show", "work", "waiting", "--json", db=db).json["cancel"] == "requested"

    async def drive() -> str:
        async with open_store(url_of(db)) as store:
            executor = Executor(store, app(store)[0], Registry([Work]))
            driven = await executor.drive(ActionKey("work", "waiting"))
            return str(driven.status)

    assert work(drive()) == "cancelled"
    assert_one_line(saga("cancel", "work", "waiting", db=db), "has already ended: cancelled")
    assert_one_line(saga("cancel", "work", "stuck", db=db), "is rolling back already")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["show", "work", "none"], "none"),
        (["cancel", "work", "none"], "none"),
        (["start", "work", "x", "--app", APP, "--input", "{"], "--input is no input of work (value: json_invalid)"),
        (["start", "work", "x", "--app", APP, "--input", '{"hunter2": 1}'], "extra_forbidden"),
        (["start", "work", "x", "--app", APP, "--step", "z"], "work has no step 'z' (there are: a, b, c, d, e)"),
        (["start", "other", "x", "--app", APP], "there is no saga 'other' (there are: work)"),
        (["start", "work", "x", "--app", f"{APP[:-3]}other"], "(there are: none)"),
    ],
)
def test_bad_use_is_told_in_one_line_and_starts_nothing(db: Path, args: list[str], said: str) -> None:
    before = ids(saga("list", "--json", db=db))
    ran = saga(*args, db=db)
    assert_one_line(ran, said)
    assert ids(saga("list", "--json", db=db)) == before


def test_without_a_database_nothing_is_made(tmp_path: Path) -> None:
    assert_one_line(saga("list", db=tmp_path / "none.db"), "there is no database")
    assert list(tmp_path.iterdir()) == []
