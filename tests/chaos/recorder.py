"""Writes down what a worker asks of its store and what it hears, so that nothing is lost when it is killed.

Each call is two lines of JSON in a file of the life's own, one before it and one after it, with the monotonic clock,
which all processes of a machine share. A call without a second line, or one whose outcome is unknown, may have been
done or not.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from wallet_actions.checkpoint import Checkpoint
from wallet_actions.errors import ReservationError, StoreUnavailableError, VersionConflictError
from wallet_actions.fleet import Claim, Worker
from wallet_actions.store import Delta, NewAction, Store, Write

RECORDED = ("create", "save", "finish", "load", "claim", "renew", "let_go")


class Recorder:
    """The file of one life."""

    def __init__(self, path: Path, life: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._life = life
        self._calls = 0

    def attach(self, store: Store) -> None:
        """Write down what this store is asked from now on."""
        for name in RECORDED:
            setattr(store, name, self._recorded(name, getattr(store, name)))

    def _recorded(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def recorded(*args: Any, **kwargs: Any) -> Any:
            number = self._calls = self._calls + 1
            self._write(n=number, op=name, **_asked(name, args, kwargs))
            try:
                answer = await call(*args, **kwargs)
            except VersionConflictError:
                self._write(n=number, is_="conflict")
                raise
            except ReservationError as error:
                self._write(n=number, is_="taken", coins=list(error.coin_ids))
                raise
            except StoreUnavailableError:
                self._write(n=number, is_="unknown")
                raise
            except Exception as error:
                self._write(n=number, is_="refused", error=str(error))
                raise
            except BaseException:
                self._write(n=number, is_="unknown")
                raise
            self._write(n=number, is_="done", **_heard(name, answer))
            return answer

        return recorded

    def _write(self, **fields: Any) -> None:
        line = json.dumps({"t": time.monotonic(), "life": self._life, **fields})
        os.write(self._file, line.encode() + b"\n")


def _asked(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    match name, args:
        case "create", (NewAction(checkpoint=checkpoint, delta=delta), *_):
            return {"key": list(checkpoint.key), "delta": _delta(delta)}
        case (("save" | "finish"), (Write() as write, *_)):
            return {
                "key": list(write.checkpoint.key),
                "from": write.expected_version,
                "status": write.checkpoint.status.value,
                "delta": _delta(write.delta),
            }
        case "load", (key, *_):
            return {"key": list(key)}
        case "claim", (Claim() as claim, *_):
            return {"owner": claim.owner, "at": claim.at.timestamp(), "lease": claim.lease.total_seconds()}
        case "renew", (Worker() as worker, *_):
            until = kwargs["at"] + kwargs["lease"]
            return {"owner": worker.owner, "at": kwargs["at"].timestamp(), "until": until.timestamp()}
        case "let_go", (owner, *rest):
            keys = rest[0] if rest else kwargs.get("keys")
            return {"owner": owner, "keys": None if keys is None else [list(key) for key in keys]}
    raise AssertionError(f"{name} was called in a way that is not recorded")


def _heard(name: str, answer: Any) -> dict[str, Any]:
    match name:
        case "create":
            return {"new": answer.is_new, "owner": answer.checkpoint.owner}
        case "load":
            return {"version": -1 if answer is None else answer.version}
        case "claim":
            return {"rows": [_row(row) for row in answer]}
        case "renew":
            return {"keys": [list(key) for key in answer]}
    return {}


def _row(row: Checkpoint) -> list[Any]:
    until = row.lease_until
    return [row.kind, row.id, row.version, 0.0 if until is None else until.timestamp()]


def _delta(delta: Delta) -> dict[str, Any]:
    told: dict[str, Any] = {
        name: list(getattr(delta, name)) for name in ("release", "reserve", "spend") if getattr(delta, name)
    }
    if delta.add:
        told["add"] = [coin.id for coin in delta.add]
    if delta.start:
        told["start"] = [list(new.checkpoint.key) for new in delta.start]
    return told
