"""A world for sweeps of `Restore`: an empty file, and a real mint where an earlier life of the seed has left coins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from tests.integration.cashu_worlds import CashuWorld, plain_http
from wallet_actions.action import Action
from wallet_actions.cashu import KINDS, CashuWallet, Issue, Melt, MintClient, Restore
from wallet_actions.checkpoint import Status
from wallet_actions.executor import Executor
from wallet_actions.outcome import Outcome
from wallet_actions.registry import Registry
from wallet_actions.store import Store
from wallet_actions.testing.nutshell import NutshellMint
from wallet_actions.transition import Start
from wallet_actions_storage import MemoryStore

ISSUED_SAT, MELTED_SAT = (20, 150), 30


class RestoreWorld(CashuWorld):
    """A new wallet file for an old seed."""

    kinds: ClassVar[Sequence[Any]] = KINDS

    async def order(self, store: Store, wallet: CashuWallet, mint: NutshellMint) -> Action[CashuWallet, Any, Any]:
        async with MemoryStore() as lost, CashuWallet(lost, self.seed, connect=_plainly, clock=self.clock) as earlier:
            executor = Executor(lost, earlier, Registry(KINDS), clock=self.clock)
            for amount in ISSUED_SAT:
                issue = await Issue.of(earlier, mint.url, amount)
                await executor.start(issue, issue.opening)
                assert (await executor.drive(issue.key)).outcome is Outcome.DONE
            melt = await Melt.of(earlier, mint.url, await mint.invoice(MELTED_SAT))
            await executor.start(melt, melt.opening)
            assert (await executor.drive(melt.key)).outcome is Outcome.DONE
        return await Restore.of(wallet, mint.url)

    async def check(self, said: Iterable[str] = ()) -> list[str]:
        """One that was given up has left coins at the mint, for another one."""
        async with self.store() as store:
            (first,) = await store.list_actions(limit=2)
            if first.status is Status.CANCELLED:
                async with CashuWallet(store, self.seed, connect=_plainly, clock=self.clock) as wallet:
                    executor = Executor(store, wallet, Registry(KINDS), clock=self.clock)
                    other = await Restore.of(wallet, self.setting("url"), run=1)
                    await executor.start(other, other.opening)
                    assert (await executor.drive(other.key)).outcome is Outcome.DONE
        return await super().check(said)

    async def ending(self) -> dict[str, object]:
        """Also the counters and the tally, which must be as without a crash."""
        end = await super().ending()
        async with self.store() as store:
            counters = await store.counters()
            end["counters"] = {name: value for name, value in counters.items() if name.startswith("cashu/")}
            end["results"] = [action.result for action in await store.list_actions()]
        return end


def restore(world: RestoreWorld) -> Start:
    action = Restore.model_validate_json(world.setting("action.json"))
    return Start(action, action.opening)


def _plainly(url: str) -> MintClient:
    return MintClient(url, transport=plain_http())
