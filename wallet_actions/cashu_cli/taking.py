"""The commands that bring money in: `issue`, `receive`, `restore`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from wallet_actions.cashu import Cashu, Issue, Issued
from wallet_actions.cashu.errors import MalformedError
from wallet_actions.cashu.receive import Received
from wallet_actions.cashu.restore import Restore, Restored
from wallet_actions.cashu.token_forms import MAX_TOKEN_CHARS
from wallet_actions.cashu.tokens import TokenSummary, inspect_token
from wallet_actions.cashu_cli.desk import Desk, decoded, find
from wallet_actions.cashu_cli.failures import told
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
    YesOption,
)
from wallet_actions.cashu_cli.qr import show_qr
from wallet_actions.cashu_cli.waiting import Display
from wallet_actions.coins import ActionKey
from wallet_actions.ops.failures import NEEDS_A_PERSON, CommandError
from wallet_actions.ops.records import time_record
from wallet_actions.ops.terminal import confirm, emit, is_interactive, say
from wallet_actions.ops.text import counted, local

STDIN = "-"


class _UnknownMintError(Exception):
    """The wallet has nothing of the token's mint, and nobody said that it is to be trusted."""


def issue(
    amount: OptionalAmountArgument = None,
    unit: UnitOption = "sat",
    mint: MintOption = None,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="ID", help="Wait again for one that is under way.", show_default=False),
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Show the invoice and leave; see `pending`.")] = False,
    patience: TimeoutOption = None,
    qr: QrOption = False,
    db: DbOption = DEFAULT_DB,
    seed_file: SeedFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn a payment into ecash: shows an invoice, and waits until it is paid.

    Ctrl-C leaves it under way: it goes on with the next command, whichever that is, and `issue --resume ID` shows the
    invoice again and waits.

    JSON, one object a line: first {id, state: unpaid, amount, unit, mint, request, expires_at}, then {id, state: done,
    amount, unit, mint}.
    """
    desk = Desk(db, seed_file, as_json=as_json)
    if (amount is None) == (resume is None):
        raise typer.BadParameter("give either AMOUNT, or --resume ID")

    async def work() -> None:
        async with desk.wallet(watch=not no_wait) as cashu:
            if resume is None:
                action = await cashu.issue(desk.mint(mint), amount or 0, unit)
                name = action.id
                _show_invoice(desk, action, qr=qr)
            else:
                checkpoint = await find(cashu, (Issue.kind,), resume)
                name = checkpoint.id
                if not checkpoint.status.is_terminal:
                    _show_invoice(desk, await decoded(cashu, checkpoint.key, Issue), qr=qr)
            if not no_wait:
                again = f"wallet-actions cashu issue --resume {name}"
                key = ActionKey(Issue.kind, name)
                ended = await desk.until(cashu, key, lambda _: cashu.issued(name), patience=patience, again=again)
                _tell_issued(desk, name, ended)

    desk.run(work())


def _show_invoice(desk: Desk, action: Issue, *, qr: bool) -> None:
    if desk.as_json:
        desk.line(
            {
                "id": action.id,
                "state": "unpaid",
                "amount": action.amount,
                "unit": action.unit,
                "mint": action.mint,
                "request": action.request,
                "expires_at": time_record(action.expires_at),
            }
        )
        return
    say(action.request)
    show_qr(action.request.upper(), is_wanted=qr)  # in upper case it takes a smaller code
    until = "" if action.expires_at is None else f", until {local(action.expires_at)}"
    desk.tell(f"Pay this invoice for {action.amount} {action.unit}{until}. It is issue {action.id}.")


def _tell_issued(desk: Desk, id: str, ended: Issued) -> None:
    if desk.as_json:
        desk.line({"id": id, "state": "done", "amount": ended.amount, "unit": ended.unit, "mint": ended.mint})
    else:
        say(f"issued {ended.amount} {ended.unit}")


def receive(
    token: Annotated[
        str | None,
        typer.Argument(
            metavar="TOKEN|-",
            help="The token; - reads it from the standard input, which keeps it out of the shell's history.",
            show_default=False,
        ),
    ] = None,
    mint: Annotated[
        str | None,
        typer.Option("--mint", metavar="URL", help="Refuse a token of any other mint.", show_default=False),
    ] = None,
    preimage: Annotated[
        list[str] | None,
        typer.Option("--preimage", metavar="HEX", help="Opens a token that is locked to its hash.", show_default=False),
    ] = None,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Print a public key that a sender can lock a token to (`send --lock`).")
    ] = False,
    yes: YesOption = False,
    patience: TimeoutOption = None,
    db: DbOption = DEFAULT_DB,
    seed_file: SeedFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a token over: its coins are swapped for coins that nobody else knows.

    A token of a mint that the wallet has nothing of is received only after a question, with --yes, or with --mint: its
    coins are worth what that mint is.

    JSON: {id, amount, fee, spent: what of the token had been spent before, unit, mint, memo}; with --new-key {pubkey}.
    """
    desk = Desk(db, seed_file, as_json=as_json)
    if (token is None) == (not new_key):
        raise typer.BadParameter("give either TOKEN (or - to read it), or --new-key")
    if token is None:
        _new_key(desk)
        return
    text = _read_token() if token == STDIN else token
    try:
        summary = inspect_token(text)
    except MalformedError as error:
        raise told(error) from None

    async def work(*, is_trusted: bool) -> tuple[str, Received]:
        async with desk.wallet() as cashu:
            if not is_trusted and summary.mint not in await _known_mints(desk, cashu):
                raise _UnknownMintError
            action = await cashu.receive(text, mint=desk.mint(mint or summary.mint), preimages=preimage or ())
            ended = await desk.until(cashu, action.key, lambda _: cashu.received(action.id), patience=patience)
            return action.id, ended

    try:
        name, ended = desk.run(work(is_trusted=mint is not None or yes))
    except _UnknownMintError:
        _ask_for_trust(summary)  # outside the event loop: Ctrl-C ends the question at once
        name, ended = desk.run(work(is_trusted=True))
    if as_json:
        emit({"id": name, **ended.model_dump(mode="json"), "memo": summary.memo})
        return
    fee = f", after a fee of {ended.fee}" if ended.fee else ""
    say(f"received {ended.amount} {ended.unit}{fee}")
    if ended.spent:
        say(f"{ended.spent} {ended.unit} of the token had been spent before")
    if summary.memo:
        say(f"memo: {summary.memo}")


def _new_key(desk: Desk) -> None:
    async def work() -> str:
        async with desk.wallet() as cashu:
            return await cashu.wallet.receiving_key()

    pubkey = desk.run(work())
    if desk.as_json:
        emit({"pubkey": pubkey})
    else:
        say(pubkey)


def _read_token() -> str:
    if sys.stdin.isatty():
        print("The token, then Enter:", file=sys.stderr)  # noqa: T201 the command line speaks here
        return sys.stdin.readline(MAX_TOKEN_CHARS + 1)
    try:
        return sys.stdin.read(MAX_TOKEN_CHARS + 1)
    except UnicodeDecodeError:
        raise CommandError("the standard input is not a token: it is not text") from None


async def _known_mints(desk: Desk, cashu: Cashu) -> set[str]:
    """The mints that the wallet has coins of, and the one that it uses where none is named."""
    mints = {one.account for one in await cashu.balances()}
    default = desk.home.default_mint()
    return mints if default is None else {*mints, default}


def _ask_for_trust(summary: TokenSummary) -> None:
    """Have a person say yes to a mint that is new to the wallet.

    Raises:
        CommandError: nobody did.
    """
    if not is_interactive():
        raise CommandError(
            f"the token is of {summary.mint}, a mint that this wallet has nothing of: --mint {summary.mint} receives it"
        )
    confirm(
        f"This token of {summary.amount} {summary.unit} is of {summary.mint}, a mint that this wallet has nothing of. "
        "Receive it, and trust that mint with it?",
        yes=False,
    )


def restore(
    mint: MintOption = None,
    patience: TimeoutOption = None,
    db: DbOption = DEFAULT_DB,
    seed_file: SeedFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring back what the recovery phrase owns at a mint, from the mint's own records.

    Takes a while; Ctrl-C or a crash leaves it where it is, and it goes on from there. What has come back by then can
    be spent. Where the phrase is in use in another database at the same time, both would take the same coins for their
    own: use one.

    Exit status: 1 where a part could not be read.

    JSON: {id, mint, amounts: by unit, coins, pending: by unit what the mint holds for now, unusable, unread,
    unsupported: ids of keysets, asked}.
    """
    desk = Desk(db, seed_file, as_json=as_json)

    async def work() -> tuple[str, Restored]:
        async with desk.wallet() as cashu:
            action = await cashu.restore(desk.mint(mint))

            async def followed(display: Display) -> Restored:
                async for at in cashu.restoring(action.id):
                    found = ", ".join(f"{amount} {unit}" for unit, amount in at.amounts.items()) or "nothing"
                    words = f"keyset {min(at.keysets_done + 1, at.keysets)} of {at.keysets}, {found} found"
                    display.show(words, completed=at.keysets_done, total=at.keysets)
                return await cashu.restored(action.id)

            again = "wallet-actions cashu restore"
            key = ActionKey(Restore.kind, action.id)
            ended = await desk.until(cashu, key, followed, patience=patience, again=again, has_bar=True)
            return action.id, ended

    name, ended = desk.run(work())
    if as_json:
        emit({"id": name, **ended.model_dump(mode="json")})
    else:
        _print_restored(ended)
    if ended.unread or ended.unusable:
        raise typer.Exit(NEEDS_A_PERSON)


def _print_restored(ended: Restored) -> None:
    found = ", ".join(f"{amount} {unit}" for unit, amount in ended.amounts.items())
    if found:
        say(f"restored {found} in {counted(ended.coins, 'coin')}")
    else:
        say("nothing to restore: the mint has no unspent coins of this phrase that the wallet does not have")
    for unit, amount in ended.pending.items():
        say(f"{amount} {unit} more are held by the mint for now; restore again later")
    if ended.unusable:
        say(f"{counted(ended.unusable, 'signature')} of the mint cannot be used")
    if ended.unread:
        say(f"{counted(len(ended.unread), 'keyset')} could not be read; restore again later")
    if ended.unsupported:
        say(f"{counted(len(ended.unsupported), 'keyset')} of a version that is not supported were passed over")
