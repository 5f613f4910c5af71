"""An LND to test against: the state machine of its router, in memory, and as a gRPC server on loopback.

    async with SandboxServer(SandboxNode()) as lnd:
        client = LndClient(lnd.address)
        invoice = lnd.node.invoice(21_000)

Payments end at once unless told otherwise: `node.decide(hash, Fate.HOLD)`. The node keeps its payments when the server
stops; so does the real one.
"""

from wallet_actions.lightning.sandbox.direct import DirectNode
from wallet_actions.lightning.sandbox.node import Fate, NodeError, Record, SandboxNode
from wallet_actions.lightning.sandbox.server import Mishap, SandboxServer

__all__ = ["DirectNode", "Fate", "Mishap", "NodeError", "Record", "SandboxNode", "SandboxServer"]
