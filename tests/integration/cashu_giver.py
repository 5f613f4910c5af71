"""Whoever gives tokens away, by hand: coins of a seed of its own, at a real mint, in no wallet's books."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from tests.integration.cashu_kit import plain
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.coin_selection import input_fee
from wallet_actions.cashu.conditions import Condition
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.keysets import Keyset, choose_keyset
from wallet_actions.cashu.outputs import Output, locked_outputs_for, outputs_for, unblind_all
from wallet_actions.cashu.proofs import Proof
from wallet_actions.cashu.tokens import Token, TokenVersion, encode_token
from wallet_actions.testing.nutshell import NutshellMint


class Giver:
    """Coins at a mint, made and spent by hand.

    Attributes:
        mint_url: what its tokens name as their mint; a proxy, say.
    """

    def __init__(self, client: MintClient, keyset: Keyset) -> None:
        self.client = client
        self.keyset = keyset
        self.mint_url = client.url
        self._seed = Seed(secrets.token_bytes(32))
        self._counter = 0

    @classmethod
    @asynccontextmanager
    async def at(cls, mint: NutshellMint) -> AsyncIterator[Giver]:
        async with MintClient(mint.url, transport=plain()) as client:
            info = choose_keyset(await client.keysets(), "sat", now=datetime.now(UTC))
            yield cls(client, await client.keys(info))

    async def coins(self, amounts: Sequence[int]) -> tuple[Proof, ...]:
        quote = await self.client.create_mint_quote(sum(amounts), "sat")
        await self.client.mint_quote(quote.quote)
        outputs = self._outputs(amounts)
        return self._unblind(outputs, await self.client.mint(quote.quote, [output.to_message() for output in outputs]))

    async def locked(self, condition: Condition, amounts: Sequence[int]) -> tuple[Proof, ...]:
        """Coins under a condition; as many again are paid in for the fees."""
        outputs = locked_outputs_for(self._seed, self.keyset.id, secrets.token_hex(16), amounts, condition)
        paid = await self.coins([*amounts, *self._fee(amounts)])
        return self._unblind(outputs, await self.client.swap(paid, [output.to_message() for output in outputs]))

    async def spend(self, coins: Sequence[Proof]) -> tuple[Proof, ...]:
        """Swap coins as somebody else would who has them too."""
        outputs = self._outputs(_split(sum(coin.amount for coin in coins) - self.fee(len(coins))))
        return self._unblind(outputs, await self.client.swap(coins, [output.to_message() for output in outputs]))

    def token(self, coins: Sequence[Proof], version: TokenVersion = TokenVersion.V4, **fields: Any) -> str:
        token = {"mint": self.mint_url, "unit": "sat", "memo": None, "proofs": tuple(coins), **fields}
        return encode_token(Token(**token), version)

    def fee(self, coins: int) -> int:
        return input_fee([self.keyset.input_fee_ppk] * coins)

    def _fee(self, amounts: Sequence[int]) -> list[int]:
        count = len(amounts)
        while self.fee(count) > count - len(amounts):
            count += 1
        assert self.fee(count) == count - len(amounts)
        return [1] * (count - len(amounts))

    def _outputs(self, amounts: Sequence[int]) -> tuple[Output, ...]:
        self._counter += len(amounts)
        return outputs_for(self._seed, self.keyset.id, self._counter - len(amounts), amounts)

    def _unblind(self, outputs: Sequence[Output], signatures: Sequence[Any]) -> tuple[Proof, ...]:
        return unblind_all(outputs, signatures, self.keyset)


def _split(amount: int) -> list[int]:
    return [1 << place for place in range(amount.bit_length()) if amount >> place & 1]
