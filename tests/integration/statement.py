"""A wallet's history read as a statement of account: each row says by how much what the wallet owns has changed."""

from __future__ import annotations

from collections.abc import Iterable

from wallet_actions.cashu import Transaction, TransactionState
from wallet_actions.cashu.facts import TRANSACTION, transactions
from wallet_actions.checkpoint import Status
from wallet_actions.store import Store
from wallet_actions.testing import oracles

ENDS = {
    Status.DONE: {TransactionState.DONE},
    Status.FAILED: {TransactionState.FAILED, TransactionState.EXPIRED},
    Status.CANCELLED: {TransactionState.CANCELLED, TransactionState.REVOKED},
}
MONEY_IN = {"cashu_issue", "cashu_issue_batch", "cashu_receive"}
MONEY_OUT = {"cashu_melt", "cashu_send"}


def change(row: Transaction) -> int:
    """What the row says the wallet owns more by, in its unit."""
    if row.operation == "cashu_restore":
        return row.amount  # what came back stays, however it ended
    if row.state is TransactionState.DONE and row.operation in MONEY_IN:
        return row.amount - row.fee
    if row.state is TransactionState.DONE and row.operation in MONEY_OUT:
        return -row.amount - row.fee
    return -row.fee  # a swap moves nothing; what was given up, or is not claimed yet, may have cost something


def statement(rows: Iterable[Transaction]) -> dict[tuple[str, str], int]:
    """What the wallet owns by its history, by mint and unit; without those of which nothing is left."""
    sums: dict[tuple[str, str], int] = {}
    for row in rows:
        sums[row.mint, row.unit] = sums.get((row.mint, row.unit), 0) + change(row)
    return {place: amount for place, amount in sums.items() if amount}


async def history_faults(store: Store) -> list[str]:
    """What is wrong with the history: one row an operation, as it ended, and all together what the wallet owns.

    Only further units of a restore have rows beside the first.
    """
    found: list[str] = []
    rows = [row async for row in transactions(store)]
    firsts = [fact.key for _, fact in await store.facts(kind=TRANSACTION) if fact.key.count("/") == 1]
    actions = [action for action in await oracles.all_actions(store) if action.kind.startswith("cashu_")]
    wanted = [f"{action.kind}/{action.id}" for action in actions]
    found += [f"{key} has no row in the history" for key in wanted if key not in firsts]
    found += [f"{key} has a row, and is no action" for key in firsts if key not in wanted]
    for action in actions:
        states = ENDS.get(action.status, {TransactionState.PENDING})
        found += [
            f"{action.key} is {action.status.value}, and the history says {row.state.value}"
            for row in rows
            if (row.operation, row.id) == action.key and row.state not in states
        ]
    owned = {(one.account, one.unit): one.spendable + one.reserved for one in await store.balances()}
    booked = statement(rows)
    if {place: amount for place, amount in owned.items() if amount} != booked:
        found.append(f"by its history the wallet owns {booked}, and it has {owned}")
    return found
