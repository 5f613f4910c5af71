"""Real processes that pay: killed by SIGKILL, and two at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from wallet_actions.demo_lightning.child import Order
from wallet_actions.demo_lightning.process import run_child
from wallet_actions.demo_lightning.scenario import BALANCE_MSAT, Demo
from wallet_actions.lightning import payment_hash_of
from wallet_actions.lightning.sandbox import SandboxNode, SandboxServer

pytestmark = pytest.mark.anyio


async def test_two_processes_that_send_the_same_invoice_pay_it_once(tmp_path: Path) -> None:
    """G2, G6: on one file."""
    async with SandboxServer(SandboxNode(balance_msat=BALANCE_MSAT)) as lnd:
        invoice, address = lnd.node.invoice(21_000), lnd.address
        order = Order(
            store=f"sqlite:///{tmp_path / 'wallet.db'}",
            target=address.target,
            certificate=address.certificate.decode(),
            macaroon=address.macaroon,
            allot_msat=BALANCE_MSAT,
            invoice=invoice,
        )
        runs = await asyncio.gather(run_child(order), run_child(order))
        assert lnd.node.settled == {payment_hash_of(invoice): 1}
        for run in runs:
            (finished,) = run.of("finished")
            assert finished["unfinished"] == 0
            assert finished["spendable"] == lnd.node.balance_msat == BALANCE_MSAT - 21_100


async def test_the_demo_begins() -> None:
    """The whole of it is `make demo-lightning`; its last points are those of lost answers."""
    report = await Demo(points=2).run()
    assert (report.kills, report.missed) == (2, [])
    assert (report.lost_sat, report.unfinished) == (0, 0)
