"""The commands that look: `balance`, `pending`, `history`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

import typer

from wallet_actions.cashu import Cashu
from wallet_actions.cashu.facts import Transaction, TransactionState
from wallet_actions.cashu.send import Send
from wallet_actions.cashu_cli.advice import state_of, waits_for
from wallet_actions.cashu_cli.desk import UNFINISHED, Desk, find
from wallet_actions.cashu_cli.failures import NAMES, OperationError, operation_name
from wallet_actions.cashu_cli.home import DEFAULT_DB
from wallet_actions.cashu_cli.options import DbOption, JsonOption, OnlyMintOption, QrOption, SeedFileOption
from wallet_actions.cashu_cli.qr import show_qr
from wallet_actions.checkpoint import Checkpoint
from wallet_actions.clock import SystemClock
from wallet_actions.coins import Balance
from wallet_actions.ops.records import error_record, time_record
from wallet_actions.ops.terminal import emit, grid, say
from wallet_actions.ops.text import local, span, wake_text

TOKEN_PATIENCE = timedelta(seconds=30)
"""How long to wait for a token that a crash kept from being made."""

SHOWN_ID, SHOWN_COUNTERPART = 16, 16


def balance(
    mint: OnlyMintOption = None,
    db: DbOption = DEFAULT_DB,
    seed_file: SeedFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what there is, by mint and unit.

    Spendable is free; held is what operations under way have set aside, tokens that nobody has claimed yet among it.

    JSON: {balances: [{mint, unit, spendable, held}]}.
    """
    desk = Desk(db, seed_file, as_json=as_json)

    async def work() -> Sequence[Balance]:
        async with desk.wallet() as cashu:
            return await cashu.balances(_only(desk, mint))

    balances = desk.run(work())
    if as_json:
        emit(
            {
                "balances": [
                    {"mint": one.account, "unit": one.unit, "spendable": one.spendable, "held": one.reserved}
                    for one in balances
                ]
            }
        )
    elif not balances:
        say("nothing yet; `wallet-actions cashu issue AMOUNT` turns a payment into ecash")
    else:
        rows = [(one.account, str(one.spendable), str(one.reserved), one.unit) for one in balances]
        grid(("MINT", "SPENDABLE", "HELD", "UNIT"), rows, kept=("SPENDABLE", "HELD", "UNIT"))


def pending(
    db: DbOption = DEFAULT_DB,
    seed_file: SeedFileOption = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", metavar="ID", help="Print the token of a send that nobody has claimed yet.", show_default=False
        ),
    ] = None,
    mint: OnlyMintOption = None,
    qr: QrOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what is under way.

    Also tokens that nobody has claimed: `pending --token ID` shows one again, `send --revoke ID` takes it back. An id
    may be shortened to its first characters.

    Tells of each what it waits for, and what to do about it.

    JSON: {pending: [{operation, id, state, status, amount, unit, mint, since, wake_at, error: {type, message} or null,
    waits_for: a sentence for the user}]}; with --token {id, token}.
    """
    desk = Desk(db, seed_file, as_json=as_json)
    if token is not None:
        _show_token(desk, token, qr=qr)
        return

    async def work() -> list[tuple[Checkpoint, Transaction | None]]:
        async with desk.wallet() as cashu:
            return await _under_way(cashu)

    only = _only(desk, mint)
    found = [(checkpoint, row) for checkpoint, row in desk.run(work()) if only in (None, row and row.mint)]
    if as_json:
        emit({"pending": [_pending_record(checkpoint, row) for checkpoint, row in found]})
    elif not found:
        say("nothing is under way")
    else:
        _print_pending(found)


def _show_token(desk: Desk, id: str, *, qr: bool) -> None:
    async def work() -> tuple[str, str]:
        async with desk.wallet() as cashu:
            checkpoint = await find(cashu, (Send.kind,), id)
            if checkpoint.status.is_terminal:
                raise OperationError(
                    f"send {checkpoint.id} is {checkpoint.status.value}; its token is of no use any more"
                )
            token = await desk.until(
                cashu, checkpoint.key, lambda _: cashu.token(checkpoint.id), patience=TOKEN_PATIENCE
            )
            return checkpoint.id, token

    name, token = desk.run(work())
    if desk.as_json:
        emit({"id": name, "token": token})
        return
    say(token)
    show_qr(token, is_wanted=qr)


async def _under_way(cashu: Cashu) -> list[tuple[Checkpoint, Transaction | None]]:
    rows: dict[tuple[str, str], Transaction] = {}
    async for row in cashu.history():
        if row.state is TransactionState.PENDING:
            rows.setdefault((row.operation, row.id), row)
    found: list[tuple[Checkpoint, Transaction | None]] = []
    after = 0
    store = cashu.engine.store
    while page := await store.list_actions(statuses=UNFINISHED, kinds=tuple(NAMES), after=after):
        after = page[-1].row
        found += [(checkpoint, rows.get(checkpoint.key)) for checkpoint in page]
    return found


def _pending_record(checkpoint: Checkpoint, row: Transaction | None) -> dict[str, Any]:
    return {
        "operation": operation_name(checkpoint.kind),
        "id": checkpoint.id,
        "state": checkpoint.phase,
        "status": checkpoint.status.value,
        "amount": None if row is None else row.amount,
        "unit": None if row is None else row.unit,
        "mint": None if row is None else row.mint,
        "since": time_record(checkpoint.created_at),
        "wake_at": time_record(checkpoint.wake_at),
        "error": error_record(checkpoint.error),
        "waits_for": waits_for(checkpoint),
    }


def _print_pending(found: Sequence[tuple[Checkpoint, Transaction | None]]) -> None:
    now = SystemClock().now()
    rows = [
        (
            operation_name(checkpoint.kind),
            checkpoint.id[:SHOWN_ID],
            "" if row is None else f"{row.amount} {row.unit}",
            state_of(checkpoint),
            span(now - checkpoint.created_at),
            wake_text(checkpoint, now, frozenset()),
        )
        for checkpoint, row in found
    ]
    grid(("OPERATION", "ID", "AMOUNT", "STATE", "AGE", "NEXT"), rows, kept=("OPERATION", "ID", "AMOUNT", "AGE"))
    for checkpoint, _ in found:
        if checkpoint.error is not None:
            say(f"{operation_name(checkpoint.kind)} {checkpoint.id}: {checkpoint.error.message}")
    for state, words in sorted({(state_of(checkpoint), waits_for(checkpoint)) for checkpoint, _ in found}):
        say(f"{state}: {words}")


def history(
    mint: OnlyMintOption = None,
    db: DbOption = DEFAULT_DB,
    seed_file: SeedFileOption = None,
    limit: Annotated[int, typer.Option("--limit", metavar="COUNT", min=1, max=100_000, help="How many at most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show what the wallet did, the newest first; one row an operation.

    JSON: {history: [{operation, id, mint, unit, amount, fee, state: pending, done, failed, expired, cancelled or
    revoked, at, counterpart, memo}]}. Memos come from strangers.
    """
    desk = Desk(db, seed_file, as_json=as_json)

    async def work() -> Sequence[Transaction]:
        async with desk.wallet() as cashu:
            if only is None:
                return await cashu.latest(limit)
            newest: deque[Transaction] = deque(maxlen=limit)
            async for row in cashu.history():
                if row.mint == only:
                    newest.appendleft(row)
            return list(newest)

    only = _only(desk, mint)
    rows = desk.run(work())
    if as_json:
        emit({"history": [_history_record(row) for row in rows]})
    elif not rows:
        say("nothing has happened yet")
    else:
        _print_history(rows)


def _history_record(row: Transaction) -> dict[str, Any]:
    record = row.model_dump(mode="json", include={"id", "mint", "unit", "amount", "fee", "counterpart", "memo"})
    return {
        "operation": operation_name(row.operation),
        **record,
        "state": row.state.value,
        "at": time_record(row.at),
    }


def _print_history(rows: Sequence[Transaction]) -> None:
    several = len({row.mint for row in rows}) > 1
    grid(
        ("WHEN", "OPERATION", "AMOUNT", "FEE", "UNIT", "STATE", "WITH", "MINT"),
        [
            (
                "" if row.at is None else local(row.at, has_zone=False),
                operation_name(row.operation),
                str(row.amount),
                str(row.fee) if row.fee else "",
                row.unit,
                row.state.value,
                " ".join(filter(None, [_shortened(row.counterpart), row.memo])),
                row.mint if several else "",
            )
            for row in rows
        ],
        kept=("WHEN", "OPERATION", "AMOUNT", "FEE", "UNIT", "STATE"),
    )


def _only(desk: Desk, mint: str | None) -> str | None:
    return None if mint is None else desk.mint(mint)


def _shortened(counterpart: str | None) -> str:
    text = counterpart or ""
    return text if len(text) <= SHOWN_COUNTERPART else f"{text[: SHOWN_COUNTERPART - 1]}…"
