"""Nutshell's own wallets in one process, told what to do over standard input.

Executed by the interpreter of the mint's environment, so it imports nothing of ours. It does what the commands of
Nutshell's CLI do, with the same functions. A line of JSON names the wallet and what it shall do; a line answers it:
`{"ok": …}` or `{"error": "…"}`. It ends when standard input is closed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any


class Wallets:
    """All the wallets of the process, each in its own folder, by name."""

    def __init__(self) -> None:
        self.open: dict[str, Any] = {}

    async def do(self, order: dict[str, Any]) -> Any:
        wanted, name = order.pop("do"), order.pop("name")
        if wanted in {"create", "restore"}:
            self.open[name] = await getattr(self, wanted)(name, **order)
            wanted, order = "tell", {}
        wallet = self.open[name]
        await wallet.load_proofs(reload=True)
        return await getattr(self, wanted)(wallet, **order)

    async def create(self, name: str, mint: str) -> Any:
        from cashu.wallet.wallet import Wallet

        wallet = await Wallet.with_db(mint, _folder(name), name)
        await wallet.load_mint()
        return wallet

    async def restore(self, name: str, mint: str, words: str) -> Any:
        """As `cashu restore`."""
        from cashu.wallet.wallet import Wallet

        wallet = await Wallet.with_db(mint, _folder(name), name, skip_db_read=True)
        wallet.keysets = {}  # else it is the class's own, which all wallets of the process would share
        await wallet.restore_wallet_from_mnemonic(words)
        await wallet.load_proofs()
        return wallet

    async def tell(self, wallet: Any) -> dict[str, Any]:
        return {
            "words": wallet.mnemonic,
            "pubkey": await wallet.create_p2pk_pubkey(),
            "available": wallet.available_balance.amount,
            "amounts": sorted(proof.amount for proof in wallet.proofs if not proof.reserved),
            "keysets": sorted({proof.id for proof in wallet.proofs}),
        }

    async def mint(self, wallet: Any, amount: int, split: list[int] | None = None) -> int:
        """As `cashu invoice`, with the quote locked to a new key."""
        await wallet.load_mint()
        quote = await wallet.request_mint(amount)
        await wallet.get_mint_quote(quote.quote)
        await wallet.mint(amount, quote.quote, split=split)
        return wallet.available_balance.amount  # type: ignore[no-any-return]

    async def mint_others(self, wallet: Any, quote: str, amount: int) -> None:
        """Try to take the ecash of somebody else's quote."""
        await wallet.get_mint_quote(quote)
        await wallet.mint(amount, quote)

    async def melt(self, wallet: Any, invoice: str) -> int:
        """As `cashu pay`."""
        quote = await wallet.melt_quote(invoice)
        proofs, _ = await wallet.select_to_send(
            wallet.proofs, quote.amount + quote.fee_reserve, set_reserved=False, include_fees=True
        )
        await wallet.melt(proofs, invoice, quote.fee_reserve, quote.quote)
        return wallet.available_balance.amount  # type: ignore[no-any-return]

    async def send(self, wallet: Any, **options: Any) -> str:
        """As `cashu send`."""
        from cashu.wallet.helpers import send

        _, token = await send(wallet, **{"lock": "", "legacy": False, **options})
        return str(token)

    async def send_hashed(self, wallet: Any, amount: int, preimage: str, pubkeys: list[str] | None = None) -> str:
        """A token that its preimage opens, and one of the keys if there are any; the CLI has no command for it."""
        lock = await wallet.create_htlc_lock(preimage=preimage, hashlock_pubkeys=pubkeys)
        _, proofs = await wallet.swap_to_send(wallet.proofs, amount, secret_lock=lock, set_reserved=True)
        return str(await wallet.serialize_proofs(proofs, include_dleq=True))

    async def receive(self, wallet: Any, token: str, preimage: str | None = None) -> int:
        """As `cashu receive`; with a preimage as its tests do, since the CLI has no command for it."""
        from cashu.wallet.helpers import deserialize_token_from_string, receive

        read = deserialize_token_from_string(token)
        if preimage is None:
            await receive(wallet, read)
        else:
            proofs = await wallet.add_htlc_preimage_to_proofs(read.proofs, preimage)
            await wallet._expand_short_keyset_ids(proofs)
            await wallet.redeem(proofs)
        await wallet.load_proofs(reload=True)
        return wallet.available_balance.amount  # type: ignore[no-any-return]

    async def read(self, wallet: Any, token: str) -> dict[str, Any]:
        """What it reads in a token: the memo, and which coins it has verified."""
        from cashu.wallet.helpers import deserialize_token_from_string

        read = deserialize_token_from_string(token)
        proofs = read.proofs
        await wallet._expand_short_keyset_ids(proofs)
        wallet.verify_proofs_dleq(proofs)
        return {
            "mint": read.mint,
            "unit": read.unit,
            "memo": read.memo,
            "amount": read.amount,
            "verified": sum(proof.dleq is not None for proof in proofs),
            "coins": len(proofs),
        }

    async def secrets(self, wallet: Any, keyset_id: str, count: int) -> list[list[str]]:
        """What NUT-13 gives it for the first counters, as digests: secrets and blinding factors."""
        pairs = [await wallet.generate_determinstic_secret(counter, keyset_id) for counter in range(count)]
        return [[_digest(secret), _digest(factor)] for secret, factor, _ in pairs]


def _digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def _folder(name: str) -> str:
    return str(Path(os.environ["CASHU_DIR"]) / name)


async def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the wallet prints as it likes
    import loguru  # type: ignore[import-not-found, unused-ignore]

    loguru.logger.remove()
    wallets = Wallets()
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            answer = {"ok": await wallets.do(json.loads(line))}
        except Exception as error:  # noqa: BLE001 - every fault is the test's to read
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    asyncio.run(main())
