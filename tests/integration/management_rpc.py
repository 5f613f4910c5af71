"""Nutshell's management RPC, as it serves it, in its own environment and without a mint behind it.

Takes a port and a file: while that exists, its answers take long, and it says `asked`. It says `ready` once it listens.
On SIGTERM it stops, and cuts off who waits. Callers who show the token `wrong` meet a doorkeeper.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from functools import partial
from typing import Any

import grpc
import grpc.aio

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


class Doorkeeper(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """What operators put before a server that asks for no credentials itself."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        async def refuse(request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

        if ("token", "wrong") in tuple(details.invocation_metadata):
            return grpc.unary_unary_rpc_method_handler(refuse)
        return await continuation(details)


async def main() -> None:
    management_rpc.grpc.aio.server = partial(grpc.aio.server, interceptors=[Doorkeeper()])
    server = await management_rpc.serve(Ledger())
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    print("ready", flush=True)  # noqa: T201
    await stopped.wait()
    await server.stop(0)
    print("stopped", flush=True)  # noqa: T201


asyncio.run(main())
