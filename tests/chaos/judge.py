"""What the store says after it all, held against the bank's ledger and what the workers wrote down."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos import history
from tests.chaos.bank import Bank
from tests.chaos.desk import LIMITS, RECEIPT, Batch, Express
from tests.chaos.history import Record
from tests.crash_matrix.judge import Finding, Harm
from wallet_actions.checkpoint import Status
from wallet_actions.coins import CoinState
from wallet_actions.store import Store
from wallet_actions.testing import oracles
from wallet_actions.testing.linear import Answer, violations

PAGE = 500


@dataclass(slots=True)
class Verdict:
    """What was found.

    Attributes:
        facts: figures for people.
        statuses: how many actions there are, by kind and status.
    """

    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)

    def find(self, harm: Harm, texts: Iterable[str]) -> None:
        """Add what is wrong."""
        self.findings += [Finding(harm, text) for text in texts]


async def judge(store: Store, bank: Bank, records: Sequence[Record], *, has_all_ended: bool) -> Verdict:
    """Hold everything together.

    Args:
        has_all_ended: else amounts are not compared: what is under way is neither here nor there.
    """
    verdict = Verdict()
    actions = await oracles.all_actions(store)
    coins = await oracles.all_coins(store)
    verdict.statuses = Counter(f"{action.kind} {action.status.value}" for action in actions)
    if has_all_ended:
        await _hold_against(store, bank, verdict)
    verdict.find(Harm.STUCK, await oracles.held_rightly(store))
    verdict.find(Harm.STUCK, [f"coin {coin.id} is held by nobody" for coin in await store.orphans()])
    verdict.find(Harm.DOUBLED, oracles.once(bank.effects))
    verdict.find(Harm.DOUBLED, bank.anomalies)
    verdict.find(Harm.DOUBLED, await oracles.terminal_is_final(store))
    verdict.find(Harm.LOST, await oracles.history_complete(store))
    finals = {action.key: action.version for action in actions}
    verdict.find(Harm.DOUBLED, violations(history.operations(records), finals, coins))
    verdict.find(Harm.DOUBLED, history.unfenced(records))
    held = history.tenures(records, epoch_s=time.time() - time.monotonic())
    verdict.find(Harm.DOUBLED, history.held_by_two(held))
    verdict.find(Harm.DOUBLED, history.beyond_concurrency(held, LIMITS))
    verdict.find(Harm.DOUBLED, history.beyond_rate(records, LIMITS))
    verdict.find(Harm.DOUBLED, history.unclaimed(bank.calls, held, LIMITS))
    verdict.facts |= {
        "late writes dropped": sum(record.answer is Answer.CONFLICT for record in records),
        "writes of unknown outcome": sum(
            record.answer is Answer.UNKNOWN and record.op in ("save", "finish", "create") for record in records
        ),
        "calls at the bank": len(bank.calls),
        "store calls": len(records),
        "the bank": dict(bank.counts),
        "express at once": history.most_at_once(tenure for tenure in held if tenure.key.kind == Express.kind)[0],
    }
    return verdict


async def _hold_against(store: Store, bank: Bank, verdict: Verdict) -> None:
    coins = await oracles.all_coins(store)
    mine = {coin.id: coin.amount for coin in coins if coin.state is not CoinState.SPENT}
    owed = {coin.id: coin.amount for coin in bank.coins.values() if not coin.is_spent}
    if lost := owed.keys() - mine.keys():
        worth = sum(owed[one] for one in lost)
        verdict.find(Harm.LOST, [f"{len(lost)} coins that the bank owes are not here, worth {worth}"])
    if surplus := mine.keys() - owed.keys():
        worth = sum(mine[one] for one in surplus)
        verdict.find(Harm.DOUBLED, [f"{len(surplus)} coins are here that the bank does not owe, worth {worth}"])
    if not lost and not surplus:
        verdict.find(Harm.LOST, await oracles.conserved(store, bank.owed))
    receipts = {fact.key async for fact in _facts(store)}
    for action in await oracles.all_actions(store):
        is_done = action.status is Status.DONE
        if action.kind == Batch.kind:
            verdict.find(Harm.STUCK, [f"{action.key} is {action.status.value}"] if not is_done else [])
            continue
        was_done = bank.effects[action.id] > 0
        if is_done != was_done:
            said = "has done it" if was_done else "has not done it"
            verdict.find(Harm.LOST, [f"{action.key} is {action.status.value}, and the bank {said}"])
        if was_done != (action.id in receipts):
            verdict.find(Harm.LOST, [f"{action.key}: the receipt is {'missing' if was_done else 'for nothing'}"])
    strange = bank.effects.keys() - {action.id for action in await oracles.all_actions(store)}
    verdict.find(Harm.LOST, [f"the bank has done {about}, of which nobody knows" for about in sorted(strange)])
    verdict.facts["the bank owes"] = sum(bank.owed.values())


async def _facts(store: Store) -> Any:
    cursor = 0
    while page := await store.facts(kind=RECEIPT, after=cursor, limit=PAGE):
        cursor = page[-1][0]
        for _, fact in page:
            yield fact
