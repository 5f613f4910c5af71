"""The commands that pay, and that change coins: `melt`, `swap`."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from wallet_actions.cashu import Cashu, Exchanged, Melt, Paid
from wallet_actions.cashu.facts import TransactionState
from wallet_actions.cashu_cli.desk import Desk
from wallet_actions.cashu_cli.failures import PENDING
from wallet_actions.cashu_cli.home import DEFAULT_DB
from wallet_actions.cashu_cli.options import (
    DbOption,
    JsonOption,
    MintOption,
    SeedFileOption,
    TimeoutOption,
    UnitOption,
    YesOption,
)
from wallet_actions.cashu_cli.options import (
    amount as read_amount,
)
from wallet_actions.cashu_cli.options import (
    denominations as read_denominations,
)
from wallet_actions.coins import MAX_AMOUNT
from wallet_actions.ops.failures import CommandError
from wallet_actions.ops.terminal import confirm, emit, say
from wallet_actions.ops.text import counted

INVOICE = re.compile(r"ln[a-z0-9]{20,}")
URI = "lightning:"


def melt(
    invoice: Annotated[str, typer.Argument(metavar="INVOICE", help="A Lightning invoice.", show_default=False)],
    unit: UnitOption = "sat",
    mint: MintOption = None,
    max_fee: Annotated[
        int | None,
        typer.Option(
            "--max-fee",
            metavar="FEE",
            min=0,
            max=MAX_AMOUNT,
            help="The largest fee reserve to accept; by default a tenth of the amount, or 100 where that is more.",
            show_default=False,
        ),
    ] = None,
    receipt: Annotated[
        bool, typer.Option("--receipt", help="Print the payment's preimage too, which proves that it was made.")
    ] = False,
    yes: YesOption = False,
    patience: TimeoutOption = None,
    db: DbOption = DEFAULT_DB,
    seed_file: SeedFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the mint pay an invoice; what is left of the fee reserve comes back.

    Shows what it costs and asks first. A payment that has begun cannot be called back: Ctrl-C leaves it under way.

    JSON: {id, amount, fee, unit, mint}, and with --receipt preimage, null where the mint gave none.
    """
    desk = Desk(db, seed_file, as_json=as_json)
    request = invoice.strip().lower().removeprefix(URI)
    if not INVOICE.fullmatch(request):
        raise CommandError("that is no Lightning invoice: it begins with ln, and has letters and digits only")

    async def offer() -> Melt:
        async with desk.wallet() as cashu:
            await _require_unpaid(cashu, request)
            return await Melt.of(cashu.wallet, desk.mint(mint), request, unit, max_fee=max_fee)

    offered = desk.run(offer())
    most = offered.fee_reserve + offered.input_fee
    desk.tell(f"{offered.mint} pays {offered.amount} {unit} for a fee of at most {most} {unit}.")
    # Outside the event loop: Ctrl-C must end the question at once.
    confirm(f"Pay {offered.amount} {unit}?", yes=yes)

    async def pay() -> tuple[str, Paid]:
        async with desk.wallet(is_recovery_told=False) as cashu:
            action = await cashu.pay(offered)
            ended = await desk.until(cashu, action.key, lambda _: cashu.paid(action.id), patience=patience)
            return action.id, ended

    name, paid = desk.run(pay())
    preimage = None if paid.preimage is None or not receipt else paid.preimage.get_secret_value()
    if as_json:
        shown = {"preimage": preimage} if receipt else {}
        emit({"id": name, "amount": paid.amount, "fee": paid.fee, "unit": unit, "mint": offered.mint, **shown})
        return
    say(f"paid {paid.amount} {unit}, for a fee of {paid.fee}")
    if receipt:
        say(f"receipt: {preimage or 'the mint gave none'}")


async def _require_unpaid(cashu: Cashu, request: str) -> None:
    """Have an invoice paid once, by whichever mint.

    Raises:
        CommandError: this wallet has paid it, or is about to.
    """
    async for row in cashu.history():
        if row.operation != Melt.kind or (row.counterpart or "").lower() != request:
            continue
        if row.state is TransactionState.DONE:
            raise CommandError(f"this wallet has paid this invoice already: melt {row.id}")
        if row.state is TransactionState.PENDING:
            raise CommandError(f"this invoice is being paid already: melt {row.id} (see `{PENDING}`)")


def swap(
    unit: UnitOption = "sat",
    mint: MintOption = None,
    amount: Annotated[
        int | None,
        typer.Option(
            "--amount",
            metavar="AMOUNT",
            parser=read_amount,
            help="Swap coins of at least that much, and leave the others.",
            show_default=False,
        ),
    ] = None,
    denominations: Annotated[
        str | None,
        typer.Option(
            "--denominations",
            metavar="COINS",
            help="Coins to make: 1x10,64x2 is ten of 1 and two of 64; the rest comes in few coins.",
            show_default=False,
        ),
    ] = None,
    patience: TimeoutOption = None,
    db: DbOption = DEFAULT_DB,
    seed_file: SeedFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change coins into others: by default all of them into few.

    JSON: {id, amount: what the new coins are worth, fee, coins: how many there are, left: how many old ones were left
    for another swap, unit, mint}.
    """
    desk = Desk(db, seed_file, as_json=as_json)
    wanted = None if denominations is None else read_denominations(denominations)

    async def work() -> tuple[str, Exchanged]:
        async with desk.wallet() as cashu:
            action = await cashu.swap(desk.mint(mint), unit, amount=amount, denominations=wanted)
            ended = await desk.until(cashu, action.key, lambda _: cashu.swapped(action.id), patience=patience)
            return action.id, ended

    name, ended = desk.run(work())
    if as_json:
        emit({"id": name, **ended.model_dump(mode="json")})
        return
    fee = f", for a fee of {ended.fee}" if ended.fee else ""
    say(f"swapped {ended.amount} {unit} into {counted(ended.coins, 'coin')}{fee}")
    if ended.left:
        say(f"{counted(ended.left, 'coin')} were left: swap again")
