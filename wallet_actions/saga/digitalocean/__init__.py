"""A saga's step at a real cloud: the snapshot of a DigitalOcean droplet. Wants the extra `saga`.

DigitalOcean takes no idempotency key, and the action that takes a snapshot does not say which one it made: the name is
all there is to know it by. `DropletSnapshot` shows how to be safe all the same; see `docs/recipes/your-own-saga.md`.
"""

from wallet_actions.saga.digitalocean.api import DigitalOcean, DropletAction, Snapshot
from wallet_actions.saga.digitalocean.snapshot import DropletSnapshot, SnapshotInput, SnapshotWallet, Taken, name_of

__all__ = [
    "DigitalOcean",
    "DropletAction",
    "DropletSnapshot",
    "Snapshot",
    "SnapshotInput",
    "SnapshotWallet",
    "Taken",
    "name_of",
]
