"""One mint, as the actions see it: its client, and what it has told of its keysets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from wallet_actions.cashu.answers import MintInfo
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.errors import MintLiedError
from wallet_actions.cashu.keysets import Keyset, KeysetInfo, choose_keyset
from wallet_actions.clock import Clock
from wallet_actions.errors import RejectedError, TransientError

KEYSETS_GOOD_FOR_S: Final = 3600.0
UNLISTED_GOOD_FOR_S: Final = 60.0


class Mint:
    """A mint with what is known of it.

    Keys never change. Which keysets are in use, and on old mints their fees, do. The mint is asked anew when it
    refuses what follows from them; when a keyset is named that it did not list, though for one that it never lists not
    more than once a minute (L-C13); and after an hour, where what was known serves on if it does not answer.

    Args:
        client: closed by whoever made it.
    """

    def __init__(self, client: MintClient, clock: Clock) -> None:
        self.client = client
        self._clock = clock
        self._details: MintInfo | None = None
        self._infos: dict[str, KeysetInfo] = {}
        self._unlisted: frozenset[str] = frozenset()
        self._asked_s = 0.0
        self._keysets: dict[str, Keyset] = {}

    @property
    def url(self) -> str:
        """The mint's address: the account of its coins."""
        return self.client.url

    async def details(self) -> MintInfo:
        """What the mint says of itself; asked once.

        Raises:
            TransientError: see `MintClient`.
        """
        if self._details is None:
            self._details = await self.client.info()
        return self._details

    async def require(self, *nuts: int) -> None:
        """Check, before money moves, that the mint has the parts of the protocol that a safe end depends on.

        Raises:
            RejectedError: it lacks one of them.
            TransientError: see `MintClient`.
        """
        details = await self.details()
        missing = [f"NUT-{nut:02}" for nut in nuts if not details.supports(nut)]
        if missing:
            raise RejectedError(f"the mint does not offer {', '.join(missing)}, without which coins could be lost")

    async def refresh(self) -> None:
        """Ask which keysets there are now."""
        self._infos = {info.id: info for info in await self.client.keysets()}
        self._unlisted = frozenset()
        self._asked_s = self._clock.monotonic()

    async def active_keyset(self, unit: str, *, is_fresh: bool = False) -> Keyset:
        """The keyset to take new coins of.

        Args:
            is_fresh: ask the mint, since what was known has been refused.
        Raises:
            RejectedError: the mint has none for this unit.
            TransientError: see `MintClient`.
        """
        await self._renew()
        now = self._clock.now()
        if is_fresh or not any(info.unit == unit and info.is_usable(now) for info in self._infos.values()):
            await self.refresh()
        return await self.keyset(choose_keyset(self._infos.values(), unit, now=now).id)

    async def is_in_use(self, keyset_id: str) -> bool:
        """Whether the mint would still sign with a keyset; asks it.

        Raises:
            TransientError: see `MintClient`.
        """
        await self.refresh()
        info = self._infos.get(keyset_id)
        return info is not None and info.is_usable(self._clock.now())

    async def keyset(self, keyset_id: str) -> Keyset:
        """The keys of a keyset, in use or not.

        Raises:
            TransientError: see `MintClient`; also where the mint does not know the keyset (any more).
        """
        if keyset_id not in self._keysets:
            info = await self._info(keyset_id)
            try:
                self._keysets[keyset_id] = await self.client.keys(info)
            except MintLiedError:
                # A fee that has changed since it was listed looks like a lie.
                await self.refresh()
                if self._infos.get(keyset_id) in {None, info}:
                    raise
                self._keysets[keyset_id] = await self.client.keys(self._infos[keyset_id])
        return self._keysets[keyset_id]

    async def known(self, keyset_ids: Collection[str]) -> Mapping[str, KeysetInfo]:
        """What the mint says of some keysets; asks it only where one is new.

        Returns:
            By keyset id; without those that the mint does not list (any more).
        Raises:
            TransientError: see `MintClient`.
        """
        await self._renew()
        new = set(keyset_ids) - self._infos.keys()
        if new - self._unlisted or (new and self._age_s > UNLISTED_GOOD_FOR_S):
            await self.refresh()
            self._unlisted = frozenset(new - self._infos.keys())
        return {keyset_id: self._infos[keyset_id] for keyset_id in keyset_ids if keyset_id in self._infos}

    async def listed(self, written_ids: Collection[str] | None = None) -> Collection[KeysetInfo]:
        """All keysets of the mint, asked for anew; given names, only where one of these is new.

        Args:
            written_ids: as tokens write them: in full, or the beginning.
        Raises:
            TransientError: see `MintClient`.
        """
        known = self._infos if written_ids is not None else ()
        if not all(any(full.startswith(written) for full in known) for written in written_ids or ("",)):
            await self.refresh()
        return self._infos.values()

    async def fees_ppk(self, keyset_ids: Collection[str]) -> Mapping[str, int]:
        """What spending one coin of each keyset costs, in thousandths of the unit. Otherwise as `known`."""
        return {keyset_id: info.input_fee_ppk for keyset_id, info in (await self.known(keyset_ids)).items()}

    @property
    def _age_s(self) -> float:
        return self._clock.monotonic() - self._asked_s

    async def _renew(self) -> None:
        if not self._infos or self._age_s <= KEYSETS_GOOD_FOR_S:
            return
        try:
            await self.refresh()
        except (RejectedError, TransientError):
            self._asked_s = self._clock.monotonic()  # not at every call of a wallet that is offline

    async def _info(self, keyset_id: str) -> KeysetInfo:
        if keyset_id not in self._infos:
            await self.refresh()
        try:
            return self._infos[keyset_id]
        except KeyError:
            raise TransientError("the mint does not list a keyset that this wallet has used") from None
