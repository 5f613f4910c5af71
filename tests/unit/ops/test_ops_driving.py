"""`drive` and `recover`, and what `--app` may name."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cashu.fake_mint import URL, FakeMint
from tests.unit.ops.kit import (
    MAIN,
    ORDERS,
    ROOT,
    assert_one_line,
    assert_silent_about_secrets,
    cli,
    contents,
    make,
    row,
    spawn,
    url_of,
    work,
)
from wallet_actions.cashu import KINDS, CashuWallet, Issue, Seed
from wallet_actions.executor import Executor
from wallet_actions.registry import Registry
from wallet_actions.store import open_store

KIT = "tests.unit.ops.kit"


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return make(tmp_path / "shop.db", *ORDERS)


@pytest.mark.parametrize("factory", ["app", "later", "managed", "described", "engine"])
def test_every_shape_of_an_app_drives(db: Path, factory: str) -> None:
    ran = cli("drive", "pay", "park-1", "--db", str(db), "--app", f"{KIT}:{factory}", "--json")
    assert (ran.status, ran.err) == (0, "")
    assert ran.json == {
        "kind": "pay",
        "id": "park-1",
        "outcome": "done",
        "status": "done",
        "phase": "sent",
        "version": 3,
        "wake_at": None,
        "error": None,
        "result": {"order": "park-1", "preimage": "**********"},
    }
    assert_silent_about_secrets(ran)
    # Nothing but the action that was named: also an Engine is not set going.
    assert row(db, "wait-1")["version"] == 2


CASHU_APP = """
from tests.unit.cashu.fake_mint import FakeMint
from wallet_actions.cashu import Cashu, Seed

def first(store): return Cashu(store, Seed(bytes(32)), connect=FakeMint(quote="first").client)
def second(store): return Cashu(store, Seed(bytes(32)), connect=FakeMint(quote="second").client)
def other_seed(store): return Cashu(store, Seed(bytes([1] * 32)), connect=FakeMint().client)
def other_store(store): return Cashu("memory://", Seed(bytes(32)), connect=FakeMint().client)
"""


def test_a_cashu_wallet_is_an_app_and_is_not_set_going(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the command names is driven, by the seed that the file belongs to."""
    (tmp_path / "ops_cashu.py").write_text(CASHU_APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    db = tmp_path / "cashu.db"
    mint = FakeMint(state="UNPAID")

    async def fill() -> list[str]:
        async with open_store(url_of(db)) as store, CashuWallet(store, Seed(bytes(32)), connect=mint.client) as wallet:
            ids = []
            for mint.quote in ("first", "second"):
                issue = await Issue.of(wallet, URL, 10)
                await Executor(store, wallet, Registry(KINDS)).start(issue)
                ids.append(issue.id)
            return ids

    first, second = work(fill())
    for name, part in {"other_seed": "belongs to another recovery phrase", "other_store": "another store"}.items():
        ran = cli("drive", "cashu_issue", first, "--db", str(db), "--app", f"ops_cashu:{name}")
        assert_one_line(ran, "--app", part)
    ran = cli("drive", "cashu_issue", first, "--db", str(db), "--app", "ops_cashu:first", "--json")
    assert (ran.status, ran.err, ran.json["outcome"]) == (0, "", "done")
    shown = cli("show", "cashu_issue", second, "--db", str(db), "--app", "ops_cashu:second", "--json")
    assert (shown.status, shown.json["version"]) == (0, 0), "the engine was not entered"
    assert cli("recover", "--db", str(db), "--app", "ops_cashu:second", "--json").status == 0
    assert cli("show", "cashu_issue", second, "--db", str(db), "--json").json["status"] == "done"


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("nowhere:app", ["no module nowhere", "current directory"]),
        ("tests.unit.nowhere:app", ["no module tests.unit.nowhere"]),
        (f"{KIT}:nothing", [f"{KIT} has no nothing"]),
        (f"{KIT}", ["not of the form module:factory"]),
        (":app", ["not of the form module:factory"]),
        (f"{KIT}:NOT_A_FUNCTION", ["is of type int, not a function"]),
        (f"{KIT}:raising", ["raised", "RuntimeError at kit.py:", "WALLET_ACTIONS_DEBUG=1"]),
        (f"{KIT}:leaving", ["ended the program"]),
        (
            f"{KIT}:wrong",
            ["of type int, not (wallet, kinds), an object with .wallet and .kinds, or an Engine"],
        ),
        (f"{KIT}:not_kinds", ["among the kinds", "is int, which is no class of actions"]),
        (f"{KIT}:no_list", ["not a list of actions' classes"]),
        (f"{KIT}:twice", ["two classes are registered as 'pay'"]),
        (f"{KIT}:other_engine", ["an Engine on another store"]),
    ],
)
def test_an_app_that_cannot_be_used_is_one_line(db: Path, spec: str, parts: list[str]) -> None:
    for command in (["drive", "pay", "park-1"], ["recover"], ["show", "pay", "park-1"]):
        ran = cli(*command, "--db", str(db), "--app", spec)
        assert_one_line(ran, "--app", *parts)
        assert_silent_about_secrets(ran)
    as_json = cli("recover", "--db", str(db), "--app", spec, "--json")
    assert as_json.error["error"]["type"] == "AppError"
    assert row(db, "park-1")["version"] == 2


def test_a_module_that_cannot_be_imported_is_one_line(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "ops_syntax.py").write_text("def app(:\n")
    (folder / "ops_import.py").write_text("import not_installed_at_all\n")
    (folder / "ops_raise.py").write_text("\nraise RuntimeError('seed words here')\n")
    (folder / "ops_exit.py").write_text("raise SystemExit(7)\n")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = contents(db.parent)
    for module, part in {
        "ops_syntax": "syntax error at ops_syntax.py:1",
        "ops_import": "needs the module not_installed_at_all, which is not installed",
        "ops_raise": "RuntimeError at ops_raise.py:2",
        "ops_exit": "importing ops_exit ended the program",
    }.items():
        ran = cli("recover", "--db", str(db), "--app", f"{module}:app")
        assert_one_line(ran, part)
        assert "seed words" not in ran.err
    assert contents(db.parent) == before


def test_the_current_directory_is_searched(db: Path, tmp_path: Path) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "ops_here.py").write_text(
        f"import sys; sys.path.append({str(ROOT)!r})\nfrom tests.unit.ops.kit import app\n"
    )
    ran = spawn("drive", "pay", "wait-1", "--db", str(db), "--app", "ops_here:app", "--json", cwd=folder)
    assert (ran.status, ran.json["outcome"]) == (0, "done")


def test_drive_tells_how_it_ended(db: Path) -> None:
    def drive(id: str, *options: str, factory: str = "down") -> tuple[int, str]:
        ran = cli("drive", "pay", id, "--db", str(db), "--app", f"{KIT}:{factory}", *options)
        assert_silent_about_secrets(ran)
        return ran.status, ran.out

    status, told = drive("park-1")
    assert status == 0
    assert "pay park-1: parked in phase sent, version 3: TransientError: the mint is away" in told
    assert "It is due " in told
    assert drive("wait-1")[0] == 0
    assert drive("wait-1", "--until-done")[0] == 1  # L-D2: it is not done, and nobody pretends that it is
    status, told = drive("stuck-1")
    assert (status, "stuck" in told, "the books do not add up" in told) == (1, True, True)
    status, told = drive("fail-1")
    assert (status, told) == (1, "pay fail-1: failed in phase sent, version 2: Failed: no route to the shop\n")
    status, told = drive("done-1")
    assert (status, 'Result: {"order": "done-1", "preimage": "**********"}' in told) == (0, True)
    status, told = drive("config-1", factory="foreign")
    assert (status, "quarantined" in told) == (1, True)
    cli("pause", "pay", "park-1", "--db", str(db))
    status, told = drive("park-1")
    assert (status, "It was not driven" in told) == (1, True)


def test_a_cancelled_action_is_called_so(db: Path) -> None:
    cli("cancel", "pay", "park-1", "--db", str(db))
    ran = cli("drive", "pay", "park-1", "--db", str(db), "--app", f"{KIT}:app", "--json")
    assert ran.status == 1
    assert (ran.json["outcome"], ran.json["status"]) == ("failed", "cancelled")
    assert ran.json["error"] == {"type": "Failed", "message": "called off"}


def test_drive_wants_an_app_and_an_action(db: Path) -> None:
    assert_one_line(cli("drive", "pay", "park-1", "--db", str(db)), "--app")
    before = contents(db.parent)
    ran = cli("drive", "pay", "nobody", "--db", str(db), "--app", f"{KIT}:app")
    assert_one_line(ran, "there is no action pay nobody")
    assert contents(db.parent) == before


def test_recover_prints_its_report(db: Path) -> None:
    """L-D13."""
    ran = cli("recover", "--db", str(db), "--app", f"{KIT}:app", "--json")
    assert ran.status == 0
    assert ran.json == {
        **dict.fromkeys(["failed", "compensated", "parked", "stuck", "elsewhere", "quarantined", "deferred"], 0),
        "resumed": 2,
        "completed": 2,
        "orphans": [],
    }
    assert cli("recover", "--db", str(db), "--app", f"{KIT}:app").out == "0 resumed\n"


def test_recover_says_where_a_person_is_needed(db: Path) -> None:
    ran = cli("recover", "--db", str(db), "--app", f"{KIT}:down")
    assert (ran.status, ran.out, ran.err) == (1, "2 resumed, 1 parked, 1 stuck\n", "")


def test_ctrl_c_ends_with_130_and_one_line(db: Path) -> None:
    ran = spawn("drive", "pay", "park-1", "--db", str(db), "--app", f"{KIT}:interrupted")
    assert_one_line(ran, "interrupted; every action is as it was last committed", status=130)


def test_a_signal_ends_a_drive_that_sleeps(db: Path) -> None:
    arguments = ["drive", "pay", "park-1", "--until-done", "--db", str(db), "--app", f"{KIT}:down"]
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert "retry → sent, version 3: TransientError: the mint is away" in child.stdout.readline()
        child.send_signal(signal.SIGINT)
        told = child.stderr.read()
        assert child.wait(timeout=60) == 130
    assert told == "wallet-actions: interrupted; every action is as it was last committed\n"
    assert row(db, "park-1")["version"] == 3


def test_a_whole_run_in_a_process_of_its_own(db: Path) -> None:
    ran = spawn("drive", "pay", "park-1", "--db", str(db), "--app", f"{KIT}:app")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines()[-2].startswith("pay park-1: done in phase sent, version 3")
    assert_silent_about_secrets(ran)
