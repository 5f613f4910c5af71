"""One file of a corpus: a checkpoint as it was, and all that it takes to drive it on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, JsonValue

from wallet_actions.action import Action
from wallet_actions.checkpoint import CancelState, Checkpoint, Status
from wallet_actions.codec import canonical_json
from wallet_actions.coins import Coin, CoinState, Fact
from wallet_actions.store import Delta

_STRICT = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class KeptCoin(BaseModel):
    """A coin that stood in the store, spendable or held by the action."""

    model_config = _STRICT

    id: str
    account: str
    unit: str
    amount: int
    payload: str
    is_held: bool

    @classmethod
    def of(cls, coin: Coin) -> Self:
        """Keep a coin."""
        return cls(
            id=coin.id,
            account=coin.account,
            unit=coin.unit,
            amount=coin.amount,
            payload=coin.payload,
            is_held=coin.state is CoinState.RESERVED,
        )


class Entry(BaseModel):
    """One checkpoint of the corpus, as it is in its file.

    Attributes:
        at: the world's clock.
        cancel: whether it had been asked to cancel, and agreed.
        state: as the store had it; `result` too, of one that is done.
        decoded: SHA-256 of the `repr` of the fields that it was read as.
        facts: those that were there, by kind and key.
        peers: see `RemembersPeers`.
        ends: status, result, balances and facts at the end.
        may_lose: fields that a later schema has dropped on purpose, as `phase.field`: added by hand.
    """

    model_config = _STRICT

    format: Literal[1] = 1
    kind: str
    id: str
    schema_version: int
    phase: str
    status: Status
    cancel: CancelState = CancelState.NONE
    at: datetime
    state: JsonValue
    decoded: str
    result: JsonValue = None
    coins: tuple[KeptCoin, ...] = ()
    counters: dict[str, int] = {}
    facts: tuple[tuple[str, str, str], ...] = ()
    peers: JsonValue = None
    ends: dict[str, JsonValue] = {}
    may_lose: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of its file, without the suffix."""
        end = f"-{self.status.value}" if self.status.is_terminal else ""
        return f"{self.kind}-v{self.schema_version}-{self.phase}{end}"

    def checkpoint(self) -> Checkpoint:
        """The row to begin with again."""
        return Checkpoint(
            kind=self.kind,
            id=self.id,
            version=0,
            schema_version=self.schema_version,
            state=canonical_json(self.state),
            phase=self.phase,
            status=Status.RUNNING,
            cancel=self.cancel,
            created_at=self.at,
            updated_at=self.at,
        )

    def delta(self) -> Delta:
        """What stood beside it in the store."""
        return Delta(
            add=tuple(
                Coin(id=kept.id, account=kept.account, unit=kept.unit, amount=kept.amount, payload=kept.payload)
                for kept in self.coins
            ),
            reserve=tuple(kept.id for kept in self.coins if kept.is_held),
            counters=tuple(self.counters.items()),
            facts=tuple(Fact(kind, key, body) for kind, key, body in self.facts),
        )

    def write(self, folder: Path) -> Path | None:
        """Write the file, unless it is there: then None."""
        path = folder / f"{self.name}.json"
        if path.exists():
            return None
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        return path


def leaves(value: JsonValue, path: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Every plain value in it, with its place: `phase.plan.amounts.0`."""
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from leaves(part, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for number, part in enumerate(value):
            yield from leaves(part, f"{path}.{number}" if path else str(number))
    else:
        yield path, value


def hash_of(action: Action[Any, Any, Any]) -> str:
    """What an action was read as, so that it can be compared and not be seen."""
    # Without the name of its class, which may change: the kind is what names it.
    fields = {name: getattr(action, name) for name in type(action).model_fields}
    text = repr(fields)
    for found in _sets(fields):  # whose texts stand in another order in each process
        text = text.replace(repr(found), _sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()


def _sets(value: object) -> Iterator[AbstractSet[Any]]:
    """All sets in a value, but for those in another one."""
    match value:
        case AbstractSet():
            yield value
        case BaseModel():
            for name in type(value).model_fields:
                yield from _sets(getattr(value, name))
        case dict():
            for item in value.values():
                yield from _sets(item)
        case list() | tuple():
            for item in value:
                yield from _sets(item)


def _sorted(found: AbstractSet[Any]) -> str:
    if not found:
        return repr(found)
    items = ", ".join(sorted(_sorted(item) if isinstance(item, AbstractSet) else repr(item) for item in found))
    return f"{{{items}}}" if type(found) is set else f"{type(found).__name__}({{{items}}})"
