"""Nutshell's own wallet, driven from a test: a process of its own, in the environment of the mint.

async with Nutshell.started(tmp_path) as nutshell:
    theirs = await nutshell.wallet(mint.url)
    await theirs.mint(64)
    token = await theirs.send(21)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio import to_thread

from wallet_actions.testing.nutshell.environment import ensure_environment

SCRIPT = Path(__file__).with_name("nutshell_wallet_process.py")
PATIENCE_S = 60


class NutshellError(Exception):
    """Nutshell's wallet refused, in its own words."""


class Nutshell:
    """The process, with as many wallets as are asked for; made by `started`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()
        self._made = 0
        self._shared: dict[str, NutshellWallet] = {}

    @classmethod
    @asynccontextmanager
    async def started(cls, folder: Path) -> AsyncIterator[Nutshell]:
        """Start it with an environment of its own: a wallet's settings at home must not count."""
        python = await to_thread.run_sync(ensure_environment)
        with (folder / "wallet.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                str(python),
                *("-I", "-X", "utf8", str(SCRIPT)),
                cwd=folder,
                env={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "HOME": str(folder),
                    "CASHU_DIR": str(folder),
                    "TOR": "FALSE",
                },
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
            )
        try:
            yield cls(process)
        finally:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.close()
                await process.stdin.wait_closed()
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
                await process.wait()

    async def wallet(self, mint_url: str) -> NutshellWallet:
        """A new wallet with a mnemonic of its own making."""
        return await self._open("create", mint_url)

    async def shared(self, mint_url: str) -> NutshellWallet:
        """The one wallet at a mint that those share who do not mind what is in it."""
        if mint_url not in self._shared:
            self._shared[mint_url] = await self.wallet(mint_url)
        return self._shared[mint_url]

    async def restored(self, mint_url: str, words: str) -> NutshellWallet:
        """A wallet made of a mnemonic, as `cashu restore` does it."""
        return await self._open("restore", mint_url, words=words)

    async def ask(self, **order: Any) -> Any:
        """Have something done.

        Raises:
            NutshellError: it refused.
        """
        reader, writer = self._process.stdout, self._process.stdin
        assert reader is not None
        assert writer is not None
        async with self._turn, asyncio.timeout(PATIENCE_S):
            writer.write(json.dumps(order).encode() + b"\n")
            await writer.drain()
            line = await reader.readline()
        assert line, "Nutshell's wallet has died"
        answer = json.loads(line)
        if "error" in answer:
            raise NutshellError(answer["error"])
        return answer["ok"]

    async def _open(self, how: str, mint_url: str, **options: str) -> NutshellWallet:
        self._made += 1
        name = f"wallet{self._made}"
        told = await self.ask(do=how, name=name, mint=mint_url, **options)
        return NutshellWallet(self, name, mint_url, told["words"], told["pubkey"])


@dataclass(frozen=True, slots=True)
class NutshellWallet:
    """One of its wallets.

    Attributes:
        words: its mnemonic.
        pubkey: what it has tokens locked to.
    """

    nutshell: Nutshell
    name: str
    mint_url: str
    words: str
    pubkey: str

    async def mint(self, amount: int, split: list[int] | None = None) -> int:
        """Issue ecash to it; the balance afterwards."""
        return int(await self._ask("mint", amount=amount, split=split))

    async def mint_others(self, quote: str, amount: int) -> None:
        """Try to issue the ecash of a quote that is not its own."""
        await self._ask("mint_others", quote=quote, amount=amount)

    async def melt(self, invoice: str) -> int:
        """Pay an invoice; the balance afterwards."""
        return int(await self._ask("melt", invoice=invoice))

    async def send(self, amount: int, **options: Any) -> str:
        """A token. Options are those of `cashu.wallet.helpers.send`."""
        return str(await self._ask("send", amount=amount, **options))

    async def send_hashed(self, amount: int, preimage: str, pubkeys: list[str] | None = None) -> str:
        """A token that its preimage opens, and one of the keys if there are any."""
        return str(await self._ask("send_hashed", amount=amount, preimage=preimage, pubkeys=pubkeys))

    async def receive(self, token: str, preimage: str | None = None) -> int:
        """Take a token; what it gained."""
        before = await self.available()
        return int(await self._ask("receive", token=token, preimage=preimage)) - before

    async def read(self, token: str) -> dict[str, Any]:
        """What it reads in a token, with the DLEQ proofs verified."""
        read: dict[str, Any] = await self._ask("read", token=token)
        return read

    async def available(self) -> int:
        """What it says that it can spend."""
        return int((await self.tell())["available"])

    async def tell(self) -> dict[str, Any]:
        """What it says of itself."""
        told: dict[str, Any] = await self._ask("tell")
        return told

    async def secrets(self, keyset_id: str, count: int) -> list[list[str]]:
        """Digests of the secrets and blinding factors of its first counters."""
        pairs: list[list[str]] = await self._ask("secrets", keyset_id=keyset_id, count=count)
        return pairs

    async def _ask(self, what: str, **order: Any) -> Any:
        return await self.nutshell.ask(do=what, name=self.name, **order)
