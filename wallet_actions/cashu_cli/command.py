"""The commands of the wallet, put together: `wallet-actions cashu …`."""

from __future__ import annotations

import typer

from wallet_actions.cashu_cli import founding, giving, looking, paying, taking

app = typer.Typer(name="cashu", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

app.command("init")(founding.init)
app.command("balance")(looking.balance)
app.command("issue")(taking.issue)
app.command("send")(giving.send)
app.command("receive")(taking.receive)
app.command("swap")(paying.swap)
app.command("melt")(paying.melt)
app.command("pending")(looking.pending)
app.command("restore")(taking.restore)
app.command("history")(looking.history)


@app.callback(invoke_without_command=True)
def _overview(ctx: typer.Context) -> None:
    """A Cashu wallet: ecash from a mint, kept in one file.

    Whatever is under way when a command ends, or is killed, goes on with the next one, whichever that is.

    Exit status: 0 all is well; 1 the operation failed, or is still under way; 2 it could not be begun; 130 interrupted.
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(2)
