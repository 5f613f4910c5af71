"""A peer with one fault, for a test that is no sweep."""

from __future__ import annotations

from typing import TypeVar

from wallet_actions.testing.life import FaultKind, Life, Plan

PeerT = TypeVar("PeerT")


class FaultPeer:
    """Wraps peers so that one call to each goes wrong.

    Attributes:
        lives: what the wrapped peers have come to, one each, in order: `lives[0].boundaries` are its calls.
    """

    def __init__(self) -> None:
        self.lives: list[Life] = []

    def __call__(self, peer: PeerT, fault: FaultKind, *, at: int = 1, name: str = "") -> PeerT:
        """A peer as it is, but for one call.

        Args:
            peer: an object with async methods, or an async callable.
            at: which call to it, from 1.
            name: what the boundaries call it.
        """
        life = Life(Plan(fault_at=at, fault=fault))
        self.lives.append(life)
        return life.peer(peer, name)

    async def settle(self) -> None:
        """Let what is still on its way reach the peers: late duplicates, delayed requests."""
        for life in self.lives:
            await life.end()
