"""The commands for sagas, put together: `wallet-actions saga …`."""

from __future__ import annotations

import typer

from wallet_actions.saga_cli import looking, starting

app = typer.Typer(name="saga", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

app.command("list")(looking.list_them)
app.command("show")(looking.show)
app.command("start")(starting.start)
app.command("cancel")(starting.cancel)
app.command("reverse")(starting.reverse)


@app.callback(invoke_without_command=True)
def _overview(ctx: typer.Context) -> None:
    """Sagas: find them, look into their ledgers, start, cancel and reverse them.

    What is started or asked for here is on disk, and done by the app; or by `wallet-actions drive` with --app.

    Exit status: 0 all is well; 2 it could not be done, and nothing was written; 130 interrupted.
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(2)
