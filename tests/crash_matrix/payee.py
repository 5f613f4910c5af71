"""Somebody else at the mint, with nothing of ours but the protocol: redeems tokens, and makes some."""

from __future__ import annotations

import hashlib
import secrets
from types import TracebackType
from typing import Self

from coincurve import PrivateKey

from tests.crash_matrix.scenarios import Lock
from wallet_actions.cashu.amounts import split
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.conditions import hash_lock, pay_to_key
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.errors import MintError
from wallet_actions.cashu.keysets import Keyset, choose_keyset, input_fee
from wallet_actions.cashu.outputs import Output, locked_outputs_for, outputs_for, unblind_all
from wallet_actions.cashu.proofs import Proof
from wallet_actions.cashu.tokens import Token, decode_token, encode_token
from wallet_actions.cashu.witnesses import Keyring, Locked, unlock
from wallet_actions.clock import SystemClock

PAGE = 200


class Payee:
    """Talks to the mint itself, past all faults.

    Attributes:
        owned: what was taken in and not handed out, in sat.
        pubkey, digest: what tokens for it may be locked to.
        preimage: of `digest`; sensitive.
    """

    def __init__(self, mint_url: str) -> None:
        self._client = MintClient(mint_url)
        self._seed = Seed(secrets.token_bytes(32))
        self._counter = 0
        self.owned = 0
        key = PrivateKey()
        self._keys = Keyring([key.secret])
        self.pubkey = key.public_key.format().hex()
        self.preimage = secrets.token_hex(32)
        self.digest = hashlib.sha256(bytes.fromhex(self.preimage)).hexdigest()

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
            What the token was worth, in sat, before the fee; None where the mint refuses, or it is locked.
        """
        proofs = unlock(await self.proofs(token), self._keys, now=SystemClock().now(), preimages=[self.preimage])
        if isinstance(proofs, Locked):
            return None
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

    async def make(self, amount: int, mint_url: str, *, lock: Lock | None = None, pubkey: str = "") -> str:
        """A token of new coins, which the payee can redeem too.

        Args:
            mint_url: the address that it names.
            lock: what it takes to redeem it: a key, `pubkey` or the payee's; or the payee's preimage.
        """
        quote = await self._client.create_mint_quote(amount, "sat")
        await self._client.mint_quote(quote.quote)  # the first look finds it paid
        keyset = await self._keyset()
        outputs = self._outputs(keyset, amount)
        if lock is not None:
            one_of_two = pay_to_key(pubkey or self.pubkey, pubkeys=(self.pubkey,) if pubkey else ())
            condition = one_of_two if lock == "p2pk" else hash_lock(self.digest)
            salt, amounts = secrets.token_hex(16), split(amount, keyset.denominations)
            outputs = locked_outputs_for(self._seed, keyset.id, salt, amounts, condition)
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
