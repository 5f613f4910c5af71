"""The command `doctor`: what is wrong with a database, and what to do."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from wallet_actions.clock import SystemClock
from wallet_actions.coins import Coin
from wallet_actions.ops import tables
from wallet_actions.ops.examination import Finding, Report, examine
from wallet_actions.ops.failures import NEEDS_A_PERSON, CommandError
from wallet_actions.ops.options import DbOption, JsonOption, YesOption
from wallet_actions.ops.records import Record, balance_record
from wallet_actions.ops.target import opened, writable
from wallet_actions.ops.terminal import confirm, emit, grid, run, say
from wallet_actions.ops.text import counted, span


class DamagedDatabaseError(CommandError):
    """The database itself is not sound."""


def doctor(
    db: DbOption,
    release_orphans: Annotated[
        bool,
        typer.Option("--release-orphans", help="Free reserved coins whose action is gone; shows them and asks first."),
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Look for whatever needs a person, and say what to do.

    Integrity and version of the database; actions that are stuck, quarantined, paused or wrongly configured, and for
    how long; leases that have run out; actions that are due and that nobody drives; coins whose action is gone; the
    clock; counts and balances.

    Exit status: 0 all is well; 1 something needs a person; 2 the database is damaged.

    JSON: {ok, findings: [{ok, topic, finding, advice, items}], counts: [{kind, status, count}], balances: [{account,
    unit, spendable, reserved}], paused_kinds, released: ids of coins}. items name at most 20 actions ({kind, id, since,
    for_s, …}) or coins (as in `show`).
    """
    released: list[Coin] = []
    if release_orphans:
        released = _release(db, yes=yes, as_json=as_json)

    async def look() -> Report:
        async with opened(db) as store:
            return await examine(store, SystemClock().now())

    report = run(look())
    if as_json:
        emit({**_record(report), "released": [coin.id for coin in released]})
    else:
        _print(report)
    if report.is_damaged:
        raise DamagedDatabaseError("the database is damaged; what doctor found is on the standard output")
    if not report.is_ok:
        raise typer.Exit(NEEDS_A_PERSON)


def _release(db: str, *, yes: bool, as_json: bool) -> list[Coin]:
    """Free orphaned coins at a person's word (G5)."""

    async def find() -> list[Coin]:
        async with opened(db) as store:
            return list(await store.orphans())

    orphans = run(find())
    if not orphans:
        if not as_json:
            say("no coins to free")
        return []
    if not as_json:
        say(f"{counted(len(orphans), 'coin')} reserved by actions that have ended or do not exist:")
        tables.print_coins(orphans)
        say("Where the peer has taken them already, freeing them makes a payment fail later.")
    confirm(f"Free {counted(len(orphans), 'coin')}?", yes=yes)

    async def free() -> list[Coin]:
        async with writable(db) as store:
            await store.release_orphans([coin.id for coin in orphans])
            left = {coin.id for coin in await store.orphans()}
            return [coin for coin in orphans if coin.id not in left]

    freed = run(free())
    if not as_json:
        say(f"{counted(len(freed), 'coin')} freed")
        say()
    return freed


def _record(report: Report) -> Record:
    return {
        "ok": report.is_ok,
        "findings": [
            {
                "ok": finding.is_ok,
                "topic": finding.topic,
                "finding": finding.finding,
                "advice": finding.advice,
                "items": list(finding.items),
            }
            for finding in report.findings
        ],
        "counts": [
            {"kind": kind, "status": status.value, "count": count}
            for (kind, status), count in sorted(report.counts.items())
        ],
        "balances": [balance_record(balance) for balance in report.balances],
        "paused_kinds": sorted(report.paused_kinds),
    }


def _print(report: Report) -> None:
    for finding in report.findings:
        say(f"{'ok  ' if finding.is_ok else 'look'}  {finding.topic}: {finding.finding}")
        for item in finding.items:
            say(f"        {_item(item)}")
        if finding.advice:
            say(f"      → {finding.advice}")
    if report.counts:
        say()
        rows = [(kind, status.value, str(count)) for (kind, status), count in sorted(report.counts.items())]
        grid(("KIND", "STATUS", "COUNT"), rows, kept=("STATUS", "COUNT"))
    if report.balances:
        say()
        grid(
            ("ACCOUNT", "UNIT", "SPENDABLE", "RESERVED"),
            [
                (balance.account, balance.unit, str(balance.spendable), str(balance.reserved))
                for balance in report.balances
            ],
            kept=("UNIT", "SPENDABLE", "RESERVED"),
        )
    say()
    problems = sum(not finding.is_ok for finding in report.findings)
    say(_verdict(problems, report.findings))


def _verdict(problems: int, findings: list[Finding]) -> str:
    if not problems:
        return "All is well."
    return f"{counted(problems, 'finding')} of {len(findings)} for a person to look at."


def _item(item: Record) -> str:
    if "for_s" not in item:
        return f"{item['id']}: {item['amount']} {item['unit']} of {item['account']}"
    error = item.get("error")
    cause = f": {error['type']}: {error['message']}" if error else ""
    return f"{item['kind']} {item['id']}, for {span(timedelta(seconds=item['for_s']))}{cause}"
