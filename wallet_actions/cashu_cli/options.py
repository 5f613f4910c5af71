"""The options and arguments that the commands of the wallet share."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

import typer

from wallet_actions.cashu_cli.home import DB_VARIABLE, MINT_VARIABLE, MNEMONIC_VARIABLE
from wallet_actions.coins import MAX_AMOUNT
from wallet_actions.ops.options import JsonOption, YesOption, age

__all__ = [
    "DbOption",
    "JsonOption",
    "MintOption",
    "OnlyMintOption",
    "OptionalAmountArgument",
    "QrOption",
    "SeedFileOption",
    "TimeoutOption",
    "UnitOption",
    "YesOption",
    "amount",
    "denominations",
]

MOST_COINS = 1000


def amount(text: str) -> int:
    """Read an amount on the command line.

    Raises:
        typer.BadParameter: it is none.
    """
    if not re.fullmatch(r"[0-9]{1,19}", text) or not 0 < int(text) <= MAX_AMOUNT:
        raise typer.BadParameter("an amount is a whole number from 1 on, in the smallest part of the unit")
    return int(text)


def denominations(text: str) -> tuple[int, ...]:
    """Read which coins are wanted: `1x10,64x2` is ten coins of 1 and two of 64.

    Raises:
        typer.BadParameter: not of that form, or too many coins.
    """
    coins: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,19})(?:x([0-9]{1,4}))?", part.strip())
        count = 0 if match is None else int(match[2] or 1)
        if match is None or not 0 < int(match[1]) <= MAX_AMOUNT or not count > 0 or len(coins) + count > MOST_COINS:
            raise typer.BadParameter(
                f"coins are written as amount x count, such as 1x10,64x2, and are at most {MOST_COINS}"
            )
        coins.extend([int(match[1])] * count)
    return tuple(coins)


DbOption = Annotated[
    str,
    typer.Option("--db", metavar="FILE", envvar=DB_VARIABLE, help="The wallet's database."),
]
SeedFileOption = Annotated[
    str | None,
    typer.Option(
        "--seed-file",
        metavar="FILE",
        help=f"The file with the recovery phrase. By default {MNEMONIC_VARIABLE} where it is set, or else the file "
        "beside the database: FILE.seed.",
        show_default=False,
    ),
]
MintOption = Annotated[
    str | None,
    typer.Option(
        "--mint",
        metavar="URL",
        envvar=MINT_VARIABLE,
        help="The mint; by default the one that `init` was told.",
        show_default=False,
    ),
]
OnlyMintOption = Annotated[
    str | None,
    typer.Option("--mint", metavar="URL", help="Show nothing of other mints.", show_default=False),
]
UnitOption = Annotated[str, typer.Option("--unit", metavar="UNIT", help="sat, msat, usd, …: what the mint issues.")]
OptionalAmountArgument = Annotated[
    int | None, typer.Argument(metavar="AMOUNT", parser=amount, help="How much, in the unit.", show_default=False)
]
QrOption = Annotated[
    bool, typer.Option("--qr", help="A QR code too where the output is no terminal, or the terminal is too narrow.")
]
TimeoutOption = Annotated[
    timedelta | None,
    typer.Option(
        "--timeout",
        metavar="AGE",
        parser=age,
        help="How long to wait at most, such as 30s or 5m. What is under way then goes on with the next command.",
        show_default=False,
    ),
]
