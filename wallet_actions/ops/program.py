"""The commands, put together."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from wallet_actions.ops import doctor, driving, plugins, reading, steering, workers
from wallet_actions.ops.failures import is_debugging, tell_failure


class Commands(TyperGroup):
    """The commands of this package and of its plugins; ends the process with the statuses of `failures`."""

    def main(  # noqa: D102 as the base class's
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        _quieten()
        try:
            returned = super().main(
                given, prog_name or "wallet-actions", complete_var, False, windows_expand_args, **extra
            )
            sys.stdout.flush()
        except BrokenPipeError:
            _forget_output()
            sys.exit(1)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 the last resort: one line, never a traceback
            sys.exit(tell_failure(error, as_json=_wants_json(given)))
        sys.exit(returned if type(returned) is int else 0)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: D102 as the base class's
        own = list(super().list_commands(ctx))
        return [*own, *(name for name in plugins.names() if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: D102 as the base class's
        return super().get_command(ctx, cmd_name) or plugins.command(cmd_name)


app = typer.Typer(
    name="wallet-actions",
    cls=Commands,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.command("list")(reading.list_actions)
app.command("show")(reading.show)
app.command("history")(reading.history)
app.command("drive")(driving.drive)
app.command("recover")(driving.recover)
app.command("cancel")(steering.cancel)
app.command("stop")(steering.stop)
app.command("pause")(steering.pause)
app.command("resume")(steering.resume)
app.command("retry")(steering.retry)
app.command("workers")(workers.workers)
app.command("doctor")(doctor.doctor)
app.command("prune")(steering.prune)


@app.callback(invoke_without_command=True)
def _overview(ctx: typer.Context) -> None:
    """Look at the actions of a wallet, and steer them by hand.

    Exit status: 0 all is well; 1 the outcome is bad or needs a person; 2 it could not be done, and nothing was written;
    130 interrupted. Times are local; with --json they are UTC.
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(2)


def _wants_json(args: Sequence[str]) -> bool:
    options = args[: args.index("--")] if "--" in args else args
    return "--json" in options


def _quieten() -> None:
    """Keep the library's log off the terminal: what it would say is in the report, the row or the exit status."""
    if is_debugging():
        logging.basicConfig()  # not at DEBUG: aiosqlite logs what it binds there, coins' payloads too
    for name in ("wallet_actions", "wallet_actions_storage"):
        logger = logging.getLogger(name)
        if is_debugging():
            logger.setLevel(logging.DEBUG)
        elif not logger.handlers:
            logger.addHandler(logging.NullHandler())


def _forget_output() -> None:
    """The reader of our output has gone; keep the interpreter from complaining when it flushes."""
    with contextlib.suppress(OSError):
        sys.stdout.close()
