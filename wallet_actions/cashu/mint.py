"""One mint, as the actions see it: its client, and what it has told of its keysets."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from wallet_actions.cashu.answers import MintInfo
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.keysets import Keyset, KeysetInfo, choose_keyset
from wallet_actions.clock import Clock
from wallet_actions.errors import RejectedError, TransientError


class Mint:
    """A mint with what is known of it.

    Keys never change. Which keyset is in use does, and is asked anew when it matters.

    Args:
        client: closed by whoever made it.
    """

    def __init__(self, client: MintClient, clock: Clock) -> None:
        self.client = client
        self._clock = clock
        self._details: MintInfo | None = None
        self._infos: dict[str, KeysetInfo] = {}
        self._keysets: dict[str, Keyset] = {}

    @property
    def url(self) -> str:
        """The mint's address: the account of its coins."""
        return self.client.url

    async def require(self, *nuts: int) -> None:
        """Check, before money moves, that the mint has the parts of the protocol that a safe end depends on.

        Raises:
            RejectedError: it lacks one of them.
            TransientError: see `MintClient`.
        """
        if self._details is None:
            self._details = await self.client.info()
        missing = [f"NUT-{nut:02}" for nut in nuts if not self._details.supports(nut)]
        if missing:
            raise RejectedError(f"the mint does not offer {', '.join(missing)}, without which coins could be lost")

    async def refresh(self) -> None:
        """Ask which keysets there are now."""
        self._infos = {info.id: info for info in await self.client.keysets()}

    async def active_keyset(self, unit: str, *, is_fresh: bool = False) -> Keyset:
        """The keyset to take new coins of.

        Args:
            is_fresh: ask the mint, since what was known has been refused.
        Raises:
            RejectedError: the mint has none for this unit.
            TransientError: see `MintClient`.
        """
        if is_fresh or not any(info.unit == unit and info.active for info in self._infos.values()):
            await self.refresh()
        return await self.keyset(choose_keyset(self._infos.values(), unit, now=self._clock.now()).id)

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
            self._keysets[keyset_id] = await self.client.keys(await self._info(keyset_id))
        return self._keysets[keyset_id]

    async def fees_ppk(self, keyset_ids: Collection[str]) -> Mapping[str, int]:
        """What spending one coin of each keyset costs, in thousandths of the unit.

        Returns:
            By keyset id; without those that the mint does not list (any more).
        Raises:
            TransientError: see `MintClient`.
        """
        if not self._infos.keys() >= set(keyset_ids):
            await self.refresh()
        known = (self._infos[keyset_id] for keyset_id in keyset_ids if keyset_id in self._infos)
        return {info.id: info.input_fee_ppk for info in known}

    async def _info(self, keyset_id: str) -> KeysetInfo:
        if keyset_id not in self._infos:
            await self.refresh()
        try:
            return self._infos[keyset_id]
        except KeyError:
            raise TransientError("the mint does not list a keyset that this wallet has used") from None
