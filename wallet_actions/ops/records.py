"""What `--json` prints: plain records with stable keys and without secrets.

A coin has no payload here, and an action neither its state nor its result: without the app's code nobody knows which
of their values are secrets, so only their names are told. `masked` is for values that the app's code has decoded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from wallet_actions.action import Action
from wallet_actions.checkpoint import Checkpoint, ErrorRecord, HistoryEntry
from wallet_actions.coins import Balance, Coin

MASK = "**********"

Record = dict[str, Any]
"""A JSON object."""


def time_record(moment: datetime | None) -> str | None:
    """A time in UTC, ISO 8601."""
    return None if moment is None else moment.astimezone(UTC).isoformat()


def error_record(error: ErrorRecord | None) -> Record | None:
    """An error as it was recorded."""
    return None if error is None else {"type": error.type, "message": error.message}


def action_record(checkpoint: Checkpoint) -> Record:
    """An action's row without its state and its result."""
    return {
        "kind": checkpoint.kind,
        "id": checkpoint.id,
        "status": checkpoint.status.value,
        "phase": checkpoint.phase,
        "version": checkpoint.version,
        "schema_version": checkpoint.schema_version,
        "attempts": checkpoint.attempts,
        "faults": checkpoint.faults,
        "wake_at": time_record(checkpoint.wake_at),
        "error": error_record(checkpoint.error),
        "cancel": checkpoint.cancel.value,
        "owner": checkpoint.owner,
        "lease_until": time_record(checkpoint.lease_until),
        "traceparent": checkpoint.traceparent,
        "created_at": time_record(checkpoint.created_at),
        "updated_at": time_record(checkpoint.updated_at),
        "row": checkpoint.row,
    }


def history_record(entry: HistoryEntry) -> Record:
    """One entry of an action's past."""
    return {
        "version": entry.version,
        "at": time_record(entry.at),
        "event": entry.event,
        "status": entry.status.value,
        "phase": entry.phase,
        "attempts": entry.attempts,
        "error": error_record(entry.error),
        "notes": list(entry.notes),
    }


def coin_record(coin: Coin) -> Record:
    """A coin without its payload."""
    return {
        "id": coin.id,
        "account": coin.account,
        "unit": coin.unit,
        "amount": coin.amount,
        "state": coin.state.value,
        "holder": None if coin.holder is None else {"kind": coin.holder.kind, "id": coin.holder.id},
    }


def balance_record(balance: Balance) -> Record:
    """What an account holds in one unit, smallest units."""
    return {
        "account": balance.account,
        "unit": balance.unit,
        "spendable": balance.spendable,
        "reserved": balance.reserved,
    }


def field_names(text: str | None) -> list[str] | None:
    """The names of the fields of a stored JSON object; None where there is none, or it is no object."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return sorted(value) if isinstance(value, dict) else None


def phase_field_names(text: str | None) -> list[str]:
    """The names of the fields of the phase in a stored state."""
    try:
        phase = json.loads(text or "{}")["phase"]
        return sorted(name for name in phase if name != "tag")
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def masked_action(action: Action[Any, Any, Any]) -> Record:
    """A decoded action's values, secrets masked; the phase with its tag."""
    values: Record = masked(action)
    values["phase"] = {"tag": action.phase.tag, **masked(action.phase)}
    return values


def masked(value: Any) -> Any:
    """A decoded value as plain JSON. Secrets, and fields that are left out of a repr, are masked."""
    if hasattr(value, "get_secret_value"):
        return MASK
    if isinstance(value, BaseModel):
        model_fields = type(value).model_fields
        return {name: masked(getattr(value, name)) if field.repr else MASK for name, field in model_fields.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: masked(getattr(value, field.name)) if field.repr else MASK for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(masked(key)): masked(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return masked(value._asdict())
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    if isinstance(value, AbstractSet):
        return sorted((masked(item) for item in value), key=json.dumps)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return time_record(value)
    return to_jsonable_python(value, bytes_mode="base64", inf_nan_mode="strings", fallback=lambda _: MASK)
