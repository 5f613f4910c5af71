"""What a wallet owns after it all, held against what the mint says, to the satoshi."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from wallet_actions.testing.nutshell import NutshellMint

Row = Mapping[str, Any]


class Harm(StrEnum):
    """What can come of a fault."""

    LOST = "lost"
    STUCK = "stuck"
    DOUBLED = "doubled"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be; the text may be shown."""

    harm: Harm
    text: str

    def __str__(self) -> str:
        return f"{self.harm}: {self.text}"


@dataclass(frozen=True, slots=True)
class UnevenChange:
    """The change of a payment that a mint settled twice at once, in sat; its own books contradict each other.

    Nutshell 0.20.2 does so where two look-ups of a pending payment, or a look-up and the payment's own request, hear
    together that it has settled. Each signs the change, on blank outputs of its own, or on the same ones for another
    amount (by a look-up a payment costs nothing, by its request 1 sat), and one of them then fails.

    Attributes:
        inputs: what it was paid with.
        due: the change that belongs to it, by the fee that the mint noted.
        signed: the change that it notes as signed.
    """

    inputs: int
    due: int
    signed: int

    def left(self, taken: int) -> int:
        """What is noted as signed and nobody has; less than 0 where the mint signed more than it noted.

        Only a wallet that has what is due, or whatever the mint shows, has no claim to more.
        """
        return self.signed - taken if taken >= self.due else 0


@dataclass(frozen=True, slots=True)
class MintBooks:
    """What the mint says.

    Attributes:
        outstanding: what it has signed and not redeemed, in sat.
        issued, paid: how its quotes stand, by invoice: those that it took money for, and those that it paid.
        uneven: the payments whose change is not what is due, by invoice.
    """

    outstanding: int
    issued: Mapping[str, str] = field(default_factory=dict)
    paid: Mapping[str, str] = field(default_factory=dict)
    uneven: Mapping[str, UnevenChange] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WalletBooks:
    """What a wallet's file says.

    Attributes:
        coins: id, amount and state of each.
        rows: its history.
        actions: how many actions there are.
        unfinished: those that have not ended, in words.
        orphans: how many coins are held by nobody.
    """

    coins: Sequence[tuple[str, int, str]]
    rows: Sequence[Row]
    actions: int
    unfinished: Sequence[str]
    orphans: int

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """Read what a process told, see `wallet.books`."""
        coins = [(str(name), int(amount), str(state)) for name, amount, state in told["coins"]]
        return cls(coins, told["rows"], told["actions"], told["unfinished"], told["orphans"])

    @property
    def owned(self) -> int:
        """Whatever it has not spent, in sat."""
        return sum(amount for _, amount, state in self.coins if state != "spent")

    @property
    def held(self) -> int:
        """What it cannot use, in sat."""
        return sum(amount for _, amount, state in self.coins if state == "reserved")

    @property
    def unspent_ids(self) -> list[str]:
        """The coins that it has not spent."""
        return [name for name, _, state in self.coins if state != "spent"]

    @property
    def explained(self) -> int:
        """What it should own by its own history, in sat."""
        return sum(map(effect, self.rows))


def effect(row: Row) -> int:
    """What an operation did to the balance, by its row in the history."""
    amount, fee, state = int(row["amount"]), int(row["fee"]), row["state"]
    match row["operation"], state:
        case (("cashu_issue" | "cashu_issue_batch"), "done") | ("cashu_restore", _):
            return amount
        case "cashu_receive", "done":
            return amount - fee
        case (("cashu_melt" | "cashu_send"), "done"):
            return -amount - fee
        case _:
            return -fee  # of a swap; of taking coins back from a payment that failed, or from a token


def quotes(mint: NutshellMint, *, after: tuple[int, int] = (0, 0)) -> tuple[dict[str, str], dict[str, str]]:
    """How the mint's quotes stand, by invoice: those for issuing, and those for paying.

    Args:
        after: the last rows that do not count any more; see `last_quotes`.
    """
    with closing(_books_of(mint)) as connection:
        found = [
            dict(connection.execute(f"SELECT request, state FROM {table}_quotes WHERE rowid > ?", (row,)))
            for table, row in zip(("mint", "melt"), after, strict=True)
        ]
    return found[0], found[1]


def last_quotes(mint: NutshellMint) -> tuple[int, int]:
    """The last rows of the mint's quotes."""
    with closing(_books_of(mint)) as connection:
        rows = [
            int(connection.execute(f"SELECT coalesce(max(rowid), 0) FROM {table}_quotes").fetchone()[0])
            for table in ("mint", "melt")
        ]
    return rows[0], rows[1]


def uneven_change(mint: NutshellMint) -> dict[str, UnevenChange]:
    """The payments whose change is not what is due, by invoice, from the mint's own books."""
    with closing(_books_of(mint)) as connection:
        rows = connection.execute(
            """
            SELECT q.request, i.total, i.total - q.amount - (i.ppk + 999) / 1000 - coalesce(q.fee_paid, 0), c.total
            FROM melt_quotes q
            JOIN (SELECT melt_quote, sum(amount) total, sum(k.input_fee_ppk) ppk
                  FROM proofs_used u JOIN keysets k ON k.id = u.id GROUP BY melt_quote) i ON i.melt_quote = q.quote
            JOIN (SELECT melt_quote, sum(amount) total
                  FROM promises WHERE c_ IS NOT NULL GROUP BY melt_quote) c ON c.melt_quote = q.quote
            WHERE q.state = 'PAID'
            """
        )
        found = {request: UnevenChange(inputs, due, signed) for request, inputs, due, signed in rows}
    return {request: change for request, change in found.items() if change.signed != change.due}


def left_at_mint(wallet: WalletBooks, mint: MintBooks) -> int:
    """By how much the mint notes more change than it gave, in sat; never any of what is due."""
    left = 0
    for row in wallet.rows:
        change = mint.uneven.get(row.get("counterpart", "")) if row["operation"] == "cashu_melt" else None
        if change is not None and row["state"] == "done":
            left += change.left(change.inputs - int(row["amount"]) - int(row["fee"]))
    return left


def _books_of(mint: NutshellMint) -> sqlite3.Connection:
    return sqlite3.connect(mint.log.parent / "mint" / "mint.sqlite3", timeout=10)


def judge(wallet: WalletBooks, mint: MintBooks, *, elsewhere: int, spent: Sequence[str]) -> list[Finding]:
    """Hold a wallet that has recovered against its mint.

    Args:
        mint: what changed in its books since the wallet was made.
        elsewhere: what others have of that, in sat.
        spent: coins that the wallet thinks it has, and that the mint would not take.
    """
    found: list[Finding] = []

    def find(harm: Harm, text: str) -> None:
        found.append(Finding(harm, text))

    for name in wallet.unfinished:
        find(Harm.STUCK, f"{name} has not ended")
    if wallet.held or wallet.orphans:
        find(Harm.STUCK, f"{wallet.held} sat are held, {wallet.orphans} coins by nobody")
    if spent:
        find(Harm.DOUBLED, f"{len(spent)} coins of the wallet are spent or pending at the mint")
    owned, owed = wallet.owned + elsewhere, mint.outstanding - left_at_mint(wallet, mint)
    if owned < owed:
        find(Harm.LOST, f"the mint owes {owed} sat, and all own {owned} together")
    if owned > owed:
        find(Harm.DOUBLED, f"all own {owned} sat together, and the mint owes {owed}")
    if wallet.owned != wallet.explained:
        harm = Harm.LOST if wallet.owned < wallet.explained else Harm.DOUBLED
        find(harm, f"the wallet owns {wallet.owned} sat, by its history {wallet.explained}")
    if len(wallet.rows) != wallet.actions:
        harm = Harm.LOST if len(wallet.rows) < wallet.actions else Harm.DOUBLED
        find(harm, f"{len(wallet.rows)} rows in the history for {wallet.actions} operations")
    for row in wallet.rows:
        found += _judge_row(row, mint)
    known = {row.get("counterpart") for row in wallet.rows}
    for request, state in mint.paid.items():
        if state != "UNPAID" and request not in known:
            find(Harm.LOST, f"the mint's payment is {state}, and the history does not know it")
    return found


def _judge_row(row: Row, mint: MintBooks) -> list[Finding]:
    operation, state, invoice = row["operation"], row["state"], row.get("counterpart", "")
    name = f"{operation} is {state}"
    match operation:
        case "cashu_issue" if (state == "done") != (mint.issued.get(invoice) == "ISSUED"):
            return [Finding(Harm.LOST, f"{name} in the history, and {mint.issued.get(invoice)} at the mint")]
        case "cashu_issue_batch" if (state == "done") != (set(mint.issued.values()) == {"ISSUED"}):
            states = ", ".join(mint.issued.values())
            return [Finding(Harm.LOST, f"{name} in the history, and {states} at the mint")]
        case "cashu_melt" if (state == "done") != (mint.paid.get(invoice) == "PAID"):
            return [Finding(Harm.LOST, f"{name} in the history, and {mint.paid.get(invoice)} at the mint")]
    return [Finding(Harm.STUCK, f"{name} in the history")] if state == "pending" else []


def compare(row: Row | None, calm: Row | None, *, was_started: bool, slack: int) -> list[Finding]:
    """Hold the row of an operation against the one that it leaves when nothing goes wrong.

    Args:
        was_started: the app had been told that the operation is durable.
        slack: by how much the fee may differ, in sat.
    """
    if row is None:
        return [Finding(Harm.LOST, "the operation was durable, and is not in the history")] if was_started else []
    if calm is None:
        return []
    mine, usual = ({name: one[name] for name in ("amount", "fee", "state")} for one in (row, calm))
    if abs(row["fee"] - calm["fee"]) <= slack:
        usual["fee"] = row["fee"]
    if mine != usual:
        return [Finding(Harm.LOST, f"the history says {mine}, without a fault {usual}")]
    return []
