"""The entry point of `wallet-actions`. Importing it needs no extra."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

EXTRA = {"typer", "click", "rich"}


def main() -> NoReturn:
    """Run the command line with the arguments of the process, and end the process."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a character shows its number
            stream.reconfigure(errors="backslashreplace")
    _parser()()
    raise AssertionError("the parser ends the process")


def _parser() -> Any:
    try:
        from typer.main import get_command

        from wallet_actions.ops.program import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in EXTRA:
            raise
        print(  # noqa: T201 the command line speaks here
            'wallet-actions: the command line needs an extra: pip install "wallet-actions[cli]"', file=sys.stderr
        )
        sys.exit(2)
    return get_command(app)
