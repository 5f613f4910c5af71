"""Bugs that are planted in a worker, to see that the judge finds them.

`careless` heeds neither leases nor versions; `keyless` asks the bank with another key each time. A plant is one of
these, or both with a comma between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.errors import VersionConflictError
from wallet_actions.fleet import Claim, SharedStore
from wallet_actions.store import Saved, Store, Write

SOME = 20


def spoil(plant: str, store: Store) -> None:
    """Have this worker break the rules of a store, where it is careless."""
    if "careless" in plant.split(","):
        assert isinstance(store, SharedStore)
        _forget_leases(store)
        _forget_versions(store)


def is_keyless(plant: str) -> bool:
    """Whether this worker's requests have keys of their own."""
    return "keyless" in plant.split(",")


def _forget_leases(store: SharedStore) -> None:
    claim_rightly = store.claim

    async def claim(claim: Claim) -> Sequence[Checkpoint]:
        if claim.keys is not None:
            return await claim_rightly(claim)
        found = await store.list_actions(statuses=[Status.RUNNING], kinds=list(claim.schemas), limit=SOME)
        mine = [replace(row, owner=claim.owner, lease_until=claim.at + claim.lease) for row in found]
        return [*mine, *await claim_rightly(claim)]

    setattr(store, "claim", claim)  # noqa: B010 a method is put in the place of another


def _forget_versions(store: Store) -> None:
    for name in ("save", "finish"):
        setattr(store, name, _insisting(store, getattr(store, name)))


def _insisting(store: Store, write_rightly: Any) -> Any:
    async def write(write: Write) -> Saved:
        while True:
            try:
                saved: Saved = await write_rightly(write)
                return saved
            except VersionConflictError:
                row = await store.load(write.checkpoint.key)
                if row is None or row.status.is_terminal:
                    raise
                checkpoint = replace(write.checkpoint, version=row.version + 1)
                write = replace(write, expected_version=row.version, checkpoint=checkpoint)

    return write
