"""Somebody else at the mint, with nothing of ours but the protocol: redeems tokens, and makes some."""

from __future__ import annotations

import secrets
from types import TracebackType
from typing import Self

from wallet_actions.cashu.amounts import split
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.errors import MintError
from wallet_actions.cashu.keysets import Keyset, choose_keyset, input_fee
from wallet_actions.cashu.outputs import Output, outputs_for, unblind_all
from wallet_actions.cashu.proofs import Proof
from wallet_actions.cashu.tokens import Token, decode_token, encode_token
from wallet_actions.clock import SystemClock

PAGE = 200


class Payee:
    """Talks to the mint itself, past all faults.

    Attributes:
        owned: what was taken in and not handed out, in sat.
    """

    def __init__(self, mint_url: str) -> None:
        self._client = MintClient(mint_url)
        self._seed = Seed(secrets.token_bytes(32))
        self._counter = 0
        self.owned = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def unspent(self, ys: list[str]) -> list[bool]:
        """Which coins the mint would take, by their `Y`s."""
        pages = [ys[first : first + PAGE] for first in range(0, len(ys), PAGE)]
        return [state.value == "UNSPENT" for page in pages for state in await self._client.check(page)]

    async def proofs(self, token: str) -> tuple[Proof, ...]:
        """What is in a token."""
        return decode_token(token, await self._client.keysets()).proofs

    async def redeem(self, token: str) -> int | None:
        """Swap a token's coins for others.

        Returns:
            What the token was worth, in sat, before the fee; None where the mint refuses.
        """
        proofs = await self.proofs(token)
        keysets = {info.id: info for info in await self._client.keysets()}
        worth = sum(proof.amount for proof in proofs)
        keyset = await self._keyset()
        outputs = self._outputs(keyset, worth - input_fee([proof.id for proof in proofs], keysets))
        try:
            await self._client.swap(proofs, [output.to_message() for output in outputs])
        except MintError:
            return None
        self.owned += sum(output.amount for output in outputs)
        return worth

    async def make(self, amount: int, mint_url: str) -> str:
        """A token of new coins.

        Args:
            mint_url: the address that it names.
        """
        quote = await self._client.create_mint_quote(amount, "sat")
        await self._client.mint_quote(quote.quote)  # the first look finds it paid
        keyset = await self._keyset()
        outputs = self._outputs(keyset, amount)
        signatures = await self._client.mint(quote.quote, [output.to_message() for output in outputs])
        proofs = unblind_all(outputs, signatures, keyset)
        return encode_token(Token(mint=mint_url, unit="sat", memo=None, proofs=proofs))

    async def _keyset(self) -> Keyset:
        info = choose_keyset(await self._client.keysets(), "sat", now=SystemClock().now())
        return await self._client.keys(info)

    def _outputs(self, keyset: Keyset, amount: int) -> tuple[Output, ...]:
        amounts = split(amount, keyset.denominations)
        first, self._counter = self._counter, self._counter + len(amounts)
        return outputs_for(self._seed, keyset.id, first, amounts)
