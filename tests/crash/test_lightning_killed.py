"""Real processes that pay: killed by SIGKILL, and two at once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from wallet_actions.demo_lightning.child import Order
from wallet_actions.demo_lightning.command import demo
from wallet_actions.demo_lightning.scenario import BALANCE_MSAT, Demo, Ending, Point, Report, Row
from wallet_actions.lightning import payment_hash_of
from wallet_actions.lightning.sandbox import SandboxNode, SandboxServer
from wallet_actions.testing.demos.parent import ChildError, Run, run_child

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("names", [("wallet", "wallet"), ("one", "other")], ids=["one file", "a file each"])
async def test_two_processes_that_send_the_same_invoice_pay_it_once(tmp_path: Path, names: tuple[str, str]) -> None:
    """G2, G6: on one file, and on two that know nothing of each other: the node knows the payment hash."""
    async with SandboxServer(SandboxNode(balance_msat=BALANCE_MSAT)) as lnd:
        invoice, address = lnd.node.invoice(21_000), lnd.address
        orders = [
            Order(
                store=f"sqlite:///{tmp_path / name}.db",
                target=address.target,
                certificate=address.certificate.decode(),
                macaroon=address.macaroon,
                allot_msat=BALANCE_MSAT,
                invoice=invoice,
            )
            for name in names
        ]
        runs = await asyncio.gather(*map(run_child, orders))
        assert lnd.node.settled == {payment_hash_of(invoice): 1}
        assert lnd.node.records[payment_hash_of(invoice)].starts == 1
        for run in runs:
            assert run.finished is not None
            assert run.finished["unfinished"] == 0
            assert run.finished["spendable"] == lnd.node.balance_msat == BALANCE_MSAT - 21_100


class ShortDemo(Demo):
    """Kills after the second write, and where the answer to the sending is lost, or the sending arrives too late."""

    async def _points(self, ending: Ending) -> list[Point]:
        points = await super()._points(ending)
        return [points[3], points[-3]] if ending == "settle" else points[-1:]


@pytest.mark.timeout(300)
async def test_nothing_is_lost_and_nothing_left_unfinished() -> None:
    """T2: the whole of it is `make demo-lightning`."""
    counts: list[int] = []
    rows: list[Row] = []
    report = await ShortDemo(on_plan=counts.append, on_row=rows.append).run()
    assert (report.lost_sat, report.unfinished, report.missed, report.is_ok) == (0, 0, [], True)
    assert counts == [len(rows)] == [3]
    assert rows[0].kills == 1
    assert all(row.kills > 1 for row in rows[1:]), "the recovery from a lost answer is killed too"


def test_what_is_lost_or_paid_twice_is_counted() -> None:
    assert Report(owned=5_000, balance=5_000).lost_sat == 0
    assert Report(owned=5_000, balance=5_000, reserved=1).lost_sat == 1
    assert Report(owned=5_000, balance=5_000, paid_twice=1).lost_sat == 21
    assert Report(owned=5_000, balance=3_999).lost_sat == 2
    assert not Report(unfinished=1).is_ok
    missed = Report(rows=[Row(Point("fail", "somewhere"))])
    assert (missed.missed, missed.is_ok) == (["fail, somewhere"], False)


def test_a_last_process_that_says_nothing_is_an_error() -> None:
    with pytest.raises(ChildError):
        Demo()._sum_up(Run())


@pytest.mark.parametrize(("lost", "status"), [(0, 0), (1_000, 1)])
def test_the_command_says_so_in_its_last_line(monkeypatch: pytest.MonkeyPatch, lost: int, status: int) -> None:
    async def run(self: Demo) -> Report:
        self._on_plan(1)
        row = Row(Point("settle", "before write 1 (dispatched)"), kills=1, recovery=["dispatched", "done"])
        self._on_row(row)
        return Report(rows=[row], owned=5_000 - lost, balance=5_000)

    monkeypatch.setattr(Demo, "run", run)
    app = typer.Typer()
    app.command()(demo)
    told = CliRunner().invoke(app)
    assert told.exit_code == status
    assert "settle killed before write 1 (dispatched) → dispatched, done" in told.output
    assert told.output.splitlines()[-1] == f"demo: 1 kills, {lost // 1000} sat lost, 0 actions unfinished"
    told = CliRunner().invoke(app, ["--json"])
    assert told.exit_code == status
    assert json.loads(told.stdout)["sat_lost"] == lost // 1000
