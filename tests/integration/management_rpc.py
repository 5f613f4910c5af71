"""Nutshell's management RPC, as it serves it, in its own environment and without a mint behind it.

Takes a port and a file: while that exists, its answers take long, and it says `asked`. It says
`ready` once it listens.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

port, slow = sys.argv[1:]
os.environ |= {
    "MINT_RPC_SERVER_PORT": port,
    "MINT_RPC_SERVER_ADDR": "127.0.0.1",
    "MINT_RPC_SERVER_MUTUAL_TLS": "FALSE",
    "MINT_PRIVATE_KEY": "00",
}

from cashu.mint.management_rpc import management_rpc  # noqa: E402


class Info:
    def dict(self) -> dict[str, Any]:
        if os.path.exists(slow):  # noqa: PTH110 nothing but what the mint's environment has
            print("asked", flush=True)  # noqa: T201
        while os.path.exists(slow):  # noqa: PTH110
            time.sleep(0.01)
        return {"name": "a foreign server", "nuts": {}, "description_long": "", "contact": []}


class Ledger:
    mint_info = Info()


async def main() -> None:
    server = await management_rpc.serve(Ledger())
    print("ready", flush=True)  # noqa: T201
    await server.wait_for_termination()


asyncio.run(main())
