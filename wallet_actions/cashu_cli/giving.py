"""The command that gives ecash away: `send`."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta
from typing import Annotated

import typer

from wallet_actions.cashu import Cashu
from wallet_actions.cashu.conditions import Condition, hash_lock, pay_to_key
from wallet_actions.cashu.send import NOT_WORTH_IT, Send
from wallet_actions.cashu.sending import Sent, TokenCreated
from wallet_actions.cashu.tokens import TokenVersion
from wallet_actions.cashu_cli.desk import Desk, find
from wallet_actions.cashu_cli.failures import OperationError
from wallet_actions.cashu_cli.home import DEFAULT_DB
from wallet_actions.cashu_cli.options import (
    DbOption,
    JsonOption,
    MintOption,
    OptionalAmountArgument,
    QrOption,
    SeedFileOption,
    TimeoutOption,
    UnitOption,
)
from wallet_actions.cashu_cli.qr import show_qr
from wallet_actions.checkpoint import Status
from wallet_actions.clock import SystemClock
from wallet_actions.coins import ActionKey
from wallet_actions.errors import ActionFailedError
from wallet_actions.ops.terminal import say
from wallet_actions.ops.text import parse_age

TAKEN_BACK = "taken back"
LOOK = timedelta(seconds=1)


def moment(text: str) -> datetime:
    """Read a time on the command line: an age from now, or a date.

    Raises:
        typer.BadParameter: neither.
    """
    try:
        return SystemClock().now() + parse_age(text)
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            "a time is an age from now, such as 24h, or a date, such as 2031-05-04T12:00"
        ) from None


def send(
    amount: OptionalAmountArgument = None,
    unit: UnitOption = "sat",
    mint: MintOption = None,
    memo: Annotated[
        str | None, typer.Option("--memo", metavar="TEXT", help="Words that go with it.", show_default=False)
    ] = None,
    lock: Annotated[
        str | None,
        typer.Option(
            "--lock", metavar="PUBKEY", help="Only the owner of this key can claim it (P2PK).", show_default=False
        ),
    ] = None,
    hash: Annotated[
        str | None,
        typer.Option(
            "--hash", metavar="HASH", help="Only who knows the preimage can claim it (HTLC).", show_default=False
        ),
    ] = None,
    locktime: Annotated[
        datetime | None,
        typer.Option(
            "--locktime",
            metavar="TIME",
            parser=moment,
            help="From then on the refund key can claim it too, or anybody where there is none: 24h, or a date.",
            show_default=False,
        ),
    ] = None,
    refund: Annotated[
        str | None,
        typer.Option("--refund", metavar="PUBKEY", help="Whose it is after the locktime.", show_default=False),
    ] = None,
    include_fee: Annotated[
        bool, typer.Option("--include-fee", help="Add what it costs to claim it, so that AMOUNT arrives.")
    ] = False,
    v3: Annotated[bool, typer.Option("--v3", help="Write it as older wallets read it (cashuA…).")] = False,
    revoke: Annotated[
        str | None,
        typer.Option("--revoke", metavar="ID", help="Take back one that nobody has claimed yet.", show_default=False),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is claimed.")] = False,
    patience: TimeoutOption = None,
    qr: QrOption = False,
    db: DbOption = DEFAULT_DB,
    seed_file: SeedFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token: text that is money to whoever reads it.

    It is printed on a line of its own. `pending --token ID` prints it again, and `send --revoke ID` takes it back as
    long as nobody has claimed it.

    JSON, one object a line: {id, state: created, amount, unit, mint, token}; with --wait then {id, state: done,
    amount, fee, unit, mint}; with --revoke {id, state: revoked, or done where it was claimed first}.
    """
    desk = Desk(db, seed_file, as_json=as_json)
    if (amount is None) == (revoke is None):
        raise typer.BadParameter("give either AMOUNT, or --revoke ID")
    if revoke is not None:
        _revoke(desk, revoke, patience=patience)
        return
    condition = _condition(lock, hash, locktime, refund)

    async def work() -> None:
        async with desk.wallet(watch=wait) as cashu:
            action = await cashu.send(
                desk.mint(mint),
                amount or 0,
                unit,
                memo=memo,
                condition=condition,
                version=TokenVersion.V3 if v3 else TokenVersion.V4,
                include_fee=include_fee,
            )
            again = f"wallet-actions cashu pending --token {action.id}"
            token = await desk.until(
                cashu, action.key, lambda _: cashu.token(action.id), patience=patience, again=again
            )
            _show_token(desk, action, token, qr=qr)
            if wait:
                sent = await desk.until(
                    cashu, action.key, lambda _: cashu.claimed(action.id), patience=patience, again=again
                )
                _tell_sent(desk, action.id, sent)

    desk.run(work())


def _condition(lock: str | None, hash: str | None, locktime: datetime | None, refund: str | None) -> Condition | None:
    refunds = () if refund is None else (refund,)
    if hash is not None:
        return hash_lock(hash, pubkeys=() if lock is None else (lock,), locktime=locktime, refund=refunds)
    if lock is not None:
        return pay_to_key(lock, locktime=locktime, refund=refunds)
    if locktime is not None or refund is not None:
        raise typer.BadParameter("--locktime and --refund go with --lock or --hash")
    return None


def _show_token(desk: Desk, action: Send, token: str, *, qr: bool) -> None:
    if desk.as_json:
        record = {"amount": action.amount, "unit": action.unit, "mint": action.mint, "token": token}
        desk.line({"id": action.id, "state": "created", **record})
        return
    say(token)
    show_qr(token, is_wanted=qr)
    desk.tell(f"Whoever has this token has the {action.amount} {action.unit}. It is send {action.id}.")


def _tell_sent(desk: Desk, id: str, sent: Sent) -> None:
    if desk.as_json:
        desk.line({"id": id, "state": "done", **sent.model_dump(mode="json")})
    else:
        say(f"claimed: {sent.amount} {sent.unit}")


def _revoke(desk: Desk, id: str, *, patience: TimeoutOption) -> None:
    async def work() -> tuple[str, Sent | str]:
        async with desk.wallet() as cashu:
            checkpoint = await find(cashu, (Send.kind,), id)
            if checkpoint.status.is_terminal:
                ended = "claimed" if checkpoint.status is Status.DONE else checkpoint.status.value
                raise OperationError(f"send {checkpoint.id} is {ended} already; there is nothing to take back")
            return checkpoint.id, await _taken_back(desk, cashu, checkpoint.key, patience=patience)

    name, ended = desk.run(work())
    if desk.as_json:
        desk.line({"id": name, "state": "done" if isinstance(ended, Sent) else "revoked"})
    elif not isinstance(ended, Sent):
        say(ended)
    if isinstance(ended, Sent):
        raise OperationError(f"send {name} was claimed first: {ended.amount} {ended.unit}")


async def _taken_back(desk: Desk, cashu: Cashu, key: ActionKey, *, patience: TimeoutOption) -> Sent | str:
    """How it was, once it is; or what was claimed, where somebody was faster."""

    async def asked() -> Sent:
        await cashu.revoke(key.id)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK.total_seconds()):
                    return await cashu.claimed(key.id)
            checkpoint = await cashu.engine.store.load(key)
            if checkpoint is not None and checkpoint.phase == TokenCreated.tag:
                raise OperationError(f"{NOT_WORTH_IT}; the token stays out, and can be claimed")

    try:
        return await desk.until(cashu, key, lambda _: asked(), patience=patience)
    except ActionFailedError as error:
        if error.status is not Status.CANCELLED:
            raise
        return TAKEN_BACK if error.error is None else error.error.message
