"""How actions, coins and histories look on a terminal."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime

from wallet_actions.checkpoint import CancelState, Checkpoint, HistoryEntry
from wallet_actions.coins import Coin
from wallet_actions.ops.records import Record, field_names, phase_field_names
from wallet_actions.ops.target import totals
from wallet_actions.ops.terminal import grid, say, width
from wallet_actions.ops.text import counted, error_text, local, span, wake_text

WIDE = 110
"""From this many characters on there is room for errors beside the other columns."""

COINS_SHOWN = 20


def print_actions(
    page: Sequence[Checkpoint], now: datetime, paused_kinds: frozenset[str], *, next_after: int | None
) -> None:
    """Print a page of actions; on a narrow terminal their errors follow below."""
    if not page:
        say("no actions")
        return
    columns = ["KIND", "ID", "STATUS", "PHASE", "VER", "TRIES", "WAKE"]
    rows = [
        [
            checkpoint.kind,
            checkpoint.id,
            checkpoint.status.value,
            checkpoint.phase,
            str(checkpoint.version),
            str(checkpoint.attempts),
            wake_text(checkpoint, now, paused_kinds),
        ]
        for checkpoint in page
    ]
    is_wide = width() >= WIDE
    if is_wide:
        columns.append("ERROR")
        for row, checkpoint in zip(rows, page, strict=True):
            row.append(error_text(checkpoint.error))
    grid(columns, rows, kept=("STATUS", "VER", "TRIES"))
    failed = [checkpoint for checkpoint in page if checkpoint.error is not None]
    if failed and not is_wide:
        say()
        for checkpoint in failed:
            say(f"{checkpoint.key}: {error_text(checkpoint.error)}")
    if next_after is not None:
        say()
        say(f"There are more: --after {next_after}")


def print_action(
    checkpoint: Checkpoint,
    coins: Sequence[Coin],
    tail: Sequence[HistoryEntry],
    now: datetime,
    paused_kinds: frozenset[str],
    *,
    values: Record | None,
) -> None:
    """Print all that may be shown of an action.

    Args:
        values: what the app's code decoded, masked; None without it.
    """
    grid(("FACT", "VALUE"), _facts(checkpoint, now, paused_kinds), kept=("FACT",), has_header=False)
    _print_content(checkpoint, values)
    say()
    if coins:
        say(f"Holds {counted(len(coins), 'coin')}:")
        print_coins(coins)
    else:
        say("Holds no coins.")
    if tail:
        say()
        say("The end of its history:")
        print_history(tail)


def _facts(checkpoint: Checkpoint, now: datetime, paused_kinds: frozenset[str]) -> list[tuple[str, str]]:
    status = checkpoint.status.value
    wake = wake_text(checkpoint, now, paused_kinds)
    if checkpoint.wake_at is not None:
        wake = f"{wake} ({local(checkpoint.wake_at)})" if wake else local(checkpoint.wake_at)
    faults = f", {checkpoint.faults} for reasons that nobody foresaw" if checkpoint.faults else ""
    facts = [
        ("kind", checkpoint.kind),
        ("id", checkpoint.id),
        ("status", f"{status}, its kind is paused" if checkpoint.kind in paused_kinds else status),
        ("phase", checkpoint.phase),
        ("version", f"{checkpoint.version} (schema {checkpoint.schema_version})"),
        ("attempts", f"{checkpoint.attempts} failed{faults}"),
        ("wakes", wake),
        ("error", error_text(checkpoint.error)),
        ("cancel", "" if checkpoint.cancel is CancelState.NONE else checkpoint.cancel.value),
        ("driver", checkpoint.owner or ""),
        ("lease until", "" if checkpoint.lease_until is None else local(checkpoint.lease_until)),
        ("created", f"{local(checkpoint.created_at)}, {_ago(checkpoint.created_at, now)}"),
        ("last write", f"{local(checkpoint.updated_at)}, {_ago(checkpoint.updated_at, now)}"),
        ("trace", checkpoint.traceparent or ""),
    ]
    return [fact for fact in facts if fact[1]]


def _ago(moment: datetime, now: datetime) -> str:
    return f"{span(now - moment)} ago" if moment <= now else f"{span(moment - now)} in the future"


def _print_content(checkpoint: Checkpoint, values: Record | None) -> None:
    say()
    if values is not None:
        for part in ("state", "result"):
            if values[part] is not None:
                say(f"{part}:")
                for line in json.dumps(values[part], indent=2, ensure_ascii=False).splitlines():
                    say(f"  {line}")
        if values["undecoded"]:
            say(values["undecoded"])
        return
    if checkpoint.state is None:
        say("Its state is not kept any more.")
    else:
        names = field_names(checkpoint.state)
        say(f"State (values hidden; see --app): {_names(names)}")
        say(f"Phase {checkpoint.phase} (values hidden): {_names(phase_field_names(checkpoint.state))}")
    if checkpoint.result is not None:
        say(f"Result (hidden): {_names(field_names(checkpoint.result))}")


def _names(names: Sequence[str] | None) -> str:
    if names is None:
        return "no fields, or none that can be read"
    return ", ".join(names) or "no fields"


def print_coins(coins: Collection[Coin]) -> None:
    """Print coins, at most `COINS_SHOWN` of them, and what they amount to. Never their payloads."""
    shown = list(coins)[:COINS_SHOWN]
    grid(
        ("COIN", "ACCOUNT", "AMOUNT", "UNIT"),
        [(coin.id, coin.account, str(coin.amount), coin.unit) for coin in shown],
        kept=("AMOUNT", "UNIT"),
    )
    if len(coins) > len(shown):
        say(f"… and {len(coins) - len(shown)} more")
    for account, unit, total in totals(coins):
        say(f"in all {total} {unit} of {account}")


def print_history(entries: Sequence[HistoryEntry]) -> None:
    """Print an action's past; errors and notes on lines of their own below each entry's row."""
    if not entries:
        say("no history is kept any more")
        return
    grid(
        ("VER", "WHEN", "EVENT", "STATUS", "PHASE", "TRIES", "TOLD"),
        [
            (
                str(entry.version),
                local(entry.at, has_zone=False),
                entry.event,
                entry.status.value,
                entry.phase,
                str(entry.attempts) if entry.attempts else "",
                "; ".join(part for part in (error_text(entry.error), *entry.notes) if part),
            )
            for entry in entries
        ],
        kept=("VER", "WHEN", "STATUS", "TRIES"),
    )
