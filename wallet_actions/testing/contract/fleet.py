"""The contract of a store that several workers share (`wallet_actions.fleet`)."""

from __future__ import annotations

from wallet_actions.testing.contract.claims import ClaimContract
from wallet_actions.testing.contract.leases import LeaseContract
from wallet_actions.testing.contract.turns import TurnContract


class SharedStoreContract(ClaimContract, LeaseContract, TurnContract):
    """What `SharedStore` adds to `Store`. Override `make_store`; it makes a store that is shared."""
