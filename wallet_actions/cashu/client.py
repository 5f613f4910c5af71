"""The mint's API, a method a request.

Each answer is checked against what was asked: the same quote, the same keyset, the same amounts, as many signatures
as outputs. An answer that does not fit raises `MintLiedError` and is not taken over. The signatures themselves are
verified where they are unblinded (`outputs`), since that takes the keys.

What an error proves is written at each method; beyond that, see `errors`. In short: a failed look-up proves nothing.
A failed quote costs nothing. After a failed mint, swap or melt, look up before anything is given up, whatever the
error was; `MintUnreachableError` alone says that this request did nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Self, TypeVar
from urllib.parse import quote as escape

import httpx
from pydantic import BaseModel, ValidationError

from wallet_actions.cashu.answers import (
    Keysets,
    KeySheets,
    MintInfo,
    MintQuotes,
    Restored,
    Signatures,
    SpendState,
    States,
    decoded,
)
from wallet_actions.cashu.errors import MintLiedError, WrongQuoteError
from wallet_actions.cashu.keyset_ids import keyset_version
from wallet_actions.cashu.keysets import Keyset, KeysetInfo
from wallet_actions.cashu.proofs import BlindedMessage, BlindSignature, Proof
from wallet_actions.cashu.quotes import MeltQuote, MintQuote
from wallet_actions.cashu.transport import MintTransport, normalize_mint_url
from wallet_actions.clock import Clock, SystemClock
from wallet_actions.coins import MAX_AMOUNT
from wallet_actions.errors import UsageError

DEFAULT_DEADLINE: Final = timedelta(seconds=30)

_Answer = TypeVar("_Answer", bound=BaseModel)


class MintClient:
    """Talks to one mint.

    Args:
        url: the mint's address; see `url` for how it is kept.
        deadline: for each call as a whole; every method takes another one. A melt may well take longer than this: the
            payment goes on, and the quote tells how it went.
        transport: what carries the bytes, for a proxy or a test; closed with the client.

    Raises:
        UsageError: not a mint's address.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline: timedelta = DEFAULT_DEADLINE,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._url = normalize_mint_url(url)
        self._deadline = deadline
        self._is_direct = transport is None
        self._http = MintTransport(self._url, transport=transport, clock=clock or SystemClock())

    @property
    def url(self) -> str:
        """The mint's address, in the one form that names its account."""
        return self._url

    @property
    def told_time(self) -> datetime | None:
        """What time it was at the mint when it answered last, to the second; None where it does not say."""
        return self._http.told_time

    @property
    def is_direct(self) -> bool:
        """Whether it connects by itself, not through a transport that it was given: a proxy's, for instance."""
        return self._is_direct

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def info(self, *, deadline: timedelta | None = None) -> MintInfo:
        """What the mint says of itself. Source: NUT-06."""
        return await self._get("info", "/v1/info", MintInfo, deadline)

    async def keysets(self, *, deadline: timedelta | None = None) -> tuple[KeysetInfo, ...]:
        """All keysets that the mint ever had, also inactive ones and ones that this code cannot use. Source: NUT-02.

        Raises:
            MintLiedError: one id is listed twice.
        """
        answer = await self._get("keysets", "/v1/keysets", Keysets, deadline)
        if len({keyset.id for keyset in answer.keysets}) != len(answer.keysets):
            raise MintLiedError("a keyset is listed twice")
        return answer.keysets

    async def keys(self, keyset: KeysetInfo, *, deadline: timedelta | None = None) -> Keyset:
        """The public keys of a keyset, checked against its id. Source: NUT-01, NUT-02.

        Args:
            keyset: as the mint listed it; its fee and expiry count where the answer leaves them out.

        Raises:
            MalformedError: a keyset id of a version that is not supported.
            MintLiedError: the keys do not hash to the id, or unit, fee or expiry are not as listed.
        """
        keyset_version(keyset.id)
        answer = await self._get("keys", f"/v1/keys/{keyset.id}", KeySheets, deadline)
        sheets = [sheet for sheet in answer.keysets if sheet.id == keyset.id]
        if len(sheets) != 1:
            raise MintLiedError("the keys of another keyset than the one asked for")
        sheet = sheets[0]
        is_as_listed = (
            sheet.unit == keyset.unit
            and sheet.input_fee_ppk in {None, keyset.input_fee_ppk}
            and sheet.final_expiry in {None, keyset.final_expiry}
        )
        if not is_as_listed:
            raise MintLiedError("a keyset with another unit, fee or expiry than listed")
        try:
            return Keyset(
                id=keyset.id,
                unit=keyset.unit,
                keys=sheet.keys,
                input_fee_ppk=keyset.input_fee_ppk,
                final_expiry=keyset.final_expiry,
            )
        except ValidationError:
            raise MintLiedError("keys that are not the ones of the keyset's id") from None

    async def create_mint_quote(
        self, amount: int, unit: str, *, pubkey: str | None = None, deadline: timedelta | None = None
    ) -> MintQuote:
        """Ask for an offer to issue ecash. Not idempotent: each call makes another quote. Source: NUT-04, NUT-20.

        Args:
            pubkey: locks the quote to the key's holder; compressed, 66 hex characters.

        Raises:
            WrongQuoteError: the offer is for another amount, unit or key.
        An error proves nothing, and costs nothing: a quote that nobody knows of is never paid.
        """
        if type(amount) is not int or not 0 < amount <= MAX_AMOUNT:
            raise UsageError("an amount must be an integer from 1 to 2^63 - 1")
        body: dict[str, object] = {"amount": amount, "unit": unit}
        if pubkey is not None:
            body["pubkey"] = pubkey
        quote = await self._post("mint quote", "/v1/mint/quote/bolt11", body, MintQuote, deadline)
        if quote.amount not in {None, amount} or quote.unit not in {None, unit}:
            raise WrongQuoteError("the mint offers another amount or unit than asked for")
        if pubkey is not None and (quote.pubkey or "").lower() != pubkey.lower():
            raise WrongQuoteError("the mint does not lock the quote to the key")
        return quote

    async def mint_quote(self, quote_id: str, *, deadline: timedelta | None = None) -> MintQuote:
        """Look a mint quote up. ISSUED proves that its ecash was signed; no error proves anything. Source: NUT-04."""
        quote = await self._get("mint quote", f"/v1/mint/quote/bolt11/{escape(quote_id, safe='')}", MintQuote, deadline)
        if quote.quote != quote_id:
            raise MintLiedError("another quote than the one asked for")
        return quote

    async def mint(
        self,
        quote_id: str,
        outputs: Sequence[BlindedMessage],
        *,
        signature: str | None = None,
        deadline: timedelta | None = None,
    ) -> tuple[BlindSignature, ...]:
        """Have the ecash of a paid quote signed. Source: NUT-04.

        The same outputs are never signed twice. No error but `MintUnreachableError` proves that nothing was signed:
        11003 and 20002 say that it was, now or earlier; 20001 and 11000 are also what the loser of two identical
        requests hears. Look the quote up and restore the outputs.

        Args:
            signature: for a locked quote, from `sign_mint_request`.

        Returns:
            A signature for each output, in order, of its amount and keyset; not yet verified.
        """
        body: dict[str, object] = {"quote": quote_id, "outputs": _messages(outputs)}
        if signature is not None:
            body["signature"] = signature
        answer = await self._post("mint", "/v1/mint/bolt11", body, Signatures, deadline)
        return _fitting(answer.signatures, outputs)

    async def mint_quotes(
        self, quote_ids: Sequence[str], *, deadline: timedelta | None = None
    ) -> Mapping[str, MintQuote]:
        """Look several mint quotes up at once; see `mint_quote`. Source: NUT-29.

        Returns:
            By id, without those that the mint passes over since it does not know them; some refuse all of them then.
        """
        answer = await self._post(
            "check of quotes", "/v1/mint/quote/bolt11/check", {"quotes": list(quote_ids)}, MintQuotes, deadline
        )
        found = {quote.quote: quote for quote in answer.root}
        if len(found) != len(answer.root) or not found.keys() <= set(quote_ids):
            raise MintLiedError("quotes that are doubled, or were not asked for")
        return found

    async def mint_batch(
        self,
        amounts: Mapping[str, int],
        outputs: Sequence[BlindedMessage],
        *,
        signatures: Mapping[str, str] | None = None,
        deadline: timedelta | None = None,
    ) -> tuple[BlindSignature, ...]:
        """Have the ecash of several paid quotes signed, all or nothing. Source: NUT-29.

        What an error proves, see `mint`. Ask `MintInfo.most_quotes` how many there may be.

        Args:
            amounts: quote id → its amount; all of one unit.
            outputs: for all of them together; they come to the sum of the amounts.
            signatures: quote id → signature for each quote that is locked, from `sign_mint_request` over all outputs.

        Returns:
            A signature for each output, in order, of its amount and keyset; not yet verified.
        """
        body: dict[str, object] = {
            "quotes": list(amounts),
            "quote_amounts": list(amounts.values()),
            "outputs": _messages(outputs),
        }
        if signatures:
            body["signatures"] = [signatures.get(quote_id) for quote_id in amounts]
        answer = await self._post("mint", "/v1/mint/bolt11/batch", body, Signatures, deadline)
        return _fitting(answer.signatures, outputs)

    async def swap(
        self, inputs: Sequence[Proof], outputs: Sequence[BlindedMessage], *, deadline: timedelta | None = None
    ) -> tuple[BlindSignature, ...]:
        """Spend coins for new ones. Source: NUT-03.

        No error but `MintUnreachableError` proves that the inputs are unspent: 11001 may mean that this very swap
        went through before. Check the inputs and restore the outputs. 11002 may stay for ever at a mint that died in
        the act.

        Returns:
            A signature for each output, in order, of its amount and keyset; not yet verified.
        """
        body: dict[str, object] = {"inputs": _inputs(inputs), "outputs": _messages(outputs)}
        answer = await self._post("swap", "/v1/swap", body, Signatures, deadline)
        return _fitting(answer.signatures, outputs)

    async def create_melt_quote(
        self, request: str, unit: str, *, partial_msat: int | None = None, deadline: timedelta | None = None
    ) -> MeltQuote:
        """Ask what a payment would cost. Not idempotent: each call makes another quote. Source: NUT-05, NUT-15.

        Args:
            request: a bolt11 invoice.
            partial_msat: have this mint pay only that much of it, in thousandths of a satoshi, while other mints pay
                the rest at the same time. Ask `MintInfo.offers(15, unit)` before; other mints pass it over.

        Raises:
            WrongQuoteError: the offer is for another request or unit. The amount is the caller's to compare.
        An error proves nothing, and costs nothing.
        """
        body: dict[str, object] = {"request": request, "unit": unit}
        if partial_msat is not None:
            if type(partial_msat) is not int or not 0 < partial_msat <= MAX_AMOUNT:
                raise UsageError("a part of a payment must be an integer from 1 to 2^63 - 1, in msat")
            body["options"] = {"mpp": {"amount": partial_msat}}
        quote = await self._post("melt quote", "/v1/melt/quote/bolt11", body, MeltQuote, deadline)
        if quote.unit not in {None, unit} or (quote.request or request).lower() != request.lower():
            raise WrongQuoteError("the mint offers to pay another request, or in another unit")
        return quote

    async def melt_quote(self, quote_id: str, *, deadline: timedelta | None = None) -> MeltQuote:
        """Look a payment up. Asking is also what moves a pending one on. Source: NUT-05.

        PAID proves the payment and carries the change. UNPAID proves that the melt failed only once that request was
        answered: after a lost answer it may still be on its way, so send the same request again before anything is
        given up. PENDING proves nothing, and neither does an error.
        """
        quote = await self._get("melt quote", f"/v1/melt/quote/bolt11/{escape(quote_id, safe='')}", MeltQuote, deadline)
        if quote.quote != quote_id:
            raise MintLiedError("another quote than the one asked for")
        return quote

    async def melt(
        self,
        quote_id: str,
        inputs: Sequence[Proof],
        outputs: Sequence[BlindedMessage] = (),
        *,
        deadline: timedelta | None = None,
    ) -> MeltQuote:
        """Have a payment made with coins. Source: NUT-05, NUT-08.

        No error but `MintUnreachableError` proves that no payment is made, not even 400: a look-up that settles the
        quote while this request is under way turns its answer into one. 20004 says that the payment failed; the
        quote, read again, proves it.

        Args:
            outputs: blank, for the change.

        Returns:
            How it stands: PAID, with the change (not yet verified), PENDING, or UNPAID where it failed.
        """
        body: dict[str, object] = {"quote": quote_id, "inputs": _inputs(inputs)}
        if outputs:
            body["outputs"] = _messages(outputs)
        quote = await self._post("melt", "/v1/melt/bolt11", body, MeltQuote, deadline)
        if quote.quote != quote_id:
            raise MintLiedError("another quote than the one asked for")
        change = quote.change or ()
        if len(change) > len(outputs):
            raise MintLiedError("more change than there were blank outputs")
        if any(signature.id != output.id for signature, output in zip(change, outputs, strict=False)):
            raise MintLiedError("change of another keyset than its outputs'")
        return quote

    async def check(self, ys: Sequence[str], *, deadline: timedelta | None = None) -> tuple[SpendState, ...]:
        """Where coins stand at the mint, by their `Y`, in order. No error proves anything. Source: NUT-07."""
        answer = await self._post("check", "/v1/checkstate", {"Ys": list(ys)}, States, deadline)
        if [state.Y for state in answer.states] != [y.lower() for y in ys]:
            raise MintLiedError("the states of other coins than the ones asked for")
        return tuple(state.state for state in answer.states)

    async def restore(
        self, outputs: Sequence[BlindedMessage], *, deadline: timedelta | None = None
    ) -> Mapping[str, BlindSignature]:
        """The signatures that the mint has given on some outputs. Source: NUT-09.

        Returns:
            `B_` → signature, not yet verified, without the outputs that were never signed. That an output is missing
            proves that it was not signed *yet*: a request under way may still have it signed.
        """
        answer = await self._post("restore", "/v1/restore", {"outputs": _messages(outputs)}, Restored, deadline)
        asked = {output.B_: output.id for output in outputs}
        found = {message.B_: signature for message, signature in zip(answer.outputs, answer.signatures, strict=False)}
        if not len(found) == len(answer.outputs) == len(answer.signatures):
            raise MintLiedError("restored outputs that are doubled, or not one to a signature")
        if any(asked.get(point) != signature.id for point, signature in found.items()):
            raise MintLiedError("restored outputs that were not asked for, or of another keyset")
        return found

    async def _get(self, what: str, path: str, model: type[_Answer], deadline: timedelta | None) -> _Answer:
        return decoded(
            what,
            model,
            await self._http.call("GET", path, None, deadline=self._deadline if deadline is None else deadline),
        )

    async def _post(
        self, what: str, path: str, body: Mapping[str, object], model: type[_Answer], deadline: timedelta | None
    ) -> _Answer:
        # The same request is the same bytes (L-S7).
        content = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
        return decoded(
            what,
            model,
            await self._http.call("POST", path, content, deadline=self._deadline if deadline is None else deadline),
        )


def _messages(outputs: Sequence[BlindedMessage]) -> list[dict[str, object]]:
    if not outputs:
        raise UsageError("a request to the mint needs outputs")
    return [output.model_dump() for output in outputs]


def _inputs(inputs: Sequence[Proof]) -> list[dict[str, object]]:
    if not inputs:
        raise UsageError("a request to the mint needs inputs")
    return [proof.to_input() for proof in inputs]


def _fitting(signatures: tuple[BlindSignature, ...], outputs: Sequence[BlindedMessage]) -> tuple[BlindSignature, ...]:
    if len(signatures) != len(outputs):
        raise MintLiedError("another number of signatures than of outputs")
    for signature, output in zip(signatures, outputs, strict=True):
        if (signature.amount, signature.id) != (output.amount, output.id):
            raise MintLiedError("a signature for another amount or keyset than the output's")
    return signatures
