"""The options and arguments that commands share."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from wallet_actions.ops.text import parse_age

KindArgument = Annotated[str, typer.Argument(metavar="KIND", help="The kind of the action.", show_default=False)]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The id of the action.", show_default=False)]
DbOption = Annotated[
    str,
    typer.Option(
        "--db",
        metavar="FILE",
        help="The database: a path, or a store's URL (sqlite:///wallet.db). Never created here.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON, errors too (on stderr: error.type, error.message, exit_status).")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
APP_HELP = (
    "The app's code, as module:factory. factory(store) gets the open store and returns (wallet, kinds), an object with"
    " .wallet and .kinds, or an Engine on that store; it may be async, or an async context manager. The current"
    " directory is searched too."
)
AppOption = Annotated[str, typer.Option("--app", metavar="MODULE:FACTORY", help=APP_HELP, show_default=False)]
OptionalAppOption = Annotated[
    str | None,
    typer.Option(
        "--app", metavar="MODULE:FACTORY", help=f"Show values, secrets masked. {APP_HELP}", show_default=False
    ),
]


def age(text: str) -> timedelta:
    """Read an age on the command line.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        return parse_age(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


AgeOption = Annotated[
    timedelta,
    typer.Option(
        "--older-than",
        metavar="AGE",
        parser=age,
        help="How long ago an action must have ended: 30d, 12h, 90m or 45s.",
        show_default=False,
    ),
]
