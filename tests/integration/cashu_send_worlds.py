"""Worlds for sweeps of `Send`: a wallet in a file, a payee with a client of its own, and a real mint."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar

import httpx

from tests.integration.cashu_giver import Giver
from tests.integration.cashu_worlds import FUNDS_SAT, CashuWorld, plain_http
from wallet_actions.action import Action
from wallet_actions.cashu import KINDS, CashuWallet, Issue, MintClient, Send
from wallet_actions.cashu.conditions import Condition, SigFlag, pay_to_key
from wallet_actions.cashu.errors import MintError
from wallet_actions.cashu.facts import TRANSACTION
from wallet_actions.cashu.sending import TokenCreated
from wallet_actions.cashu.tokens import decode_token
from wallet_actions.checkpoint import CancelState, Checkpoint
from wallet_actions.coins import ActionKey
from wallet_actions.executor import Executor
from wallet_actions.outcome import Outcome
from wallet_actions.registry import Registry
from wallet_actions.store import Store
from wallet_actions.testing import oracles
from wallet_actions.testing.nutshell import NutshellMint
from wallet_actions.transition import Start

MOST_ROUNDS = 300
SEND_SAT = 20


class SendWorld(CashuWorld):
    """A token is made, handed out as soon as it exists, and claimed at once.

    Attributes:
        funds: of the wallet, a quote each.
    """

    funds: ClassVar[tuple[int, ...]] = (FUNDS_SAT,)

    async def order(self, store: Store, wallet: CashuWallet, mint: NutshellMint) -> Action[CashuWallet, Any, Any]:
        executor = Executor(store, wallet, Registry(KINDS), clock=self.clock)
        for amount in self.funds:
            issue = await Issue.of(wallet, mint.url, amount)
            await executor.start(issue, issue.opening)
            assert (await executor.drive(issue.key)).outcome is Outcome.DONE
        return await Send.of(wallet, mint.url, SEND_SAT, memo="a memo", condition=await self.condition(wallet))

    async def condition(self, wallet: CashuWallet) -> Condition | None:
        return None

    @property
    def key(self) -> ActionKey:
        return send(self).action.key

    async def settle(self, executor: Executor) -> None:
        for _ in range(MOST_ROUNDS):
            row = await executor.store.load(self.key)
            if row is None or row.status.is_terminal or row.status.value == "stuck":
                return
            if row.phase == TokenCreated.tag:
                await self.handed_out(executor, row)
            if row.wake_at is not None and row.wake_at > self.clock.now():
                await self.clock.sleep(row.wake_at - self.clock.now())
            await executor.drive(row.key)

    async def handed_out(self, executor: Executor, row: Checkpoint) -> None:
        """Whoever has the token once claims it; the wallet may crash at any time before it hears of that."""
        token = self.told(row)
        claimed = self.folder / "claimed"
        if claimed.exists() or row.cancel is not CancelState.NONE:
            return
        async with MintClient(self.setting("url"), transport=plain_http()) as client:
            (info,) = [info for info in await client.keysets() if info.active and info.unit == "sat"]
            payee = Giver(client, await client.keys(info))
            try:
                coins = await payee.spend(decode_token(token).proofs)
            except (MintError, httpx.HTTPError):
                (self.folder / "refused").write_text("")
            else:
                claimed.write_text(str(sum(coin.amount for coin in coins)))

    def told(self, row: Checkpoint) -> str:
        """The token, which has to be the same each time."""
        token: str = json.loads(row.state or "{}")["phase"]["token"]
        path = self.folder / "token"
        if path.exists() and path.read_text() != token:
            (self.folder / "changed").write_text("")
        path.write_text(token)
        return token

    async def owed(self) -> oracles.Sums:
        claimed = self.folder / "claimed"
        theirs = int(claimed.read_text()) if claimed.exists() else 0
        return {place: amount - theirs for place, amount in (await super().owed()).items()}

    def secrets(self) -> Iterable[str]:
        path = self.folder / "token"
        return [*super().secrets(), *([path.read_text()] if path.exists() else [])]

    async def check(self, said: Iterable[str] = ()) -> list[str]:
        found = await super().check(said)
        if (self.folder / "changed").exists():
            found.append("the token changed after it had been handed out")
        async with self.store() as store:
            row = await store.load(self.key)
        if (self.folder / "refused").exists() and row is not None and row.cancel is CancelState.NONE:
            found.append("a token that was handed out was taken back, and nobody had asked for that")
        return found

    async def ending(self) -> dict[str, object]:
        """With the row of the history, which has to be the same however it went."""
        async with self.store() as store:
            rows = [json.loads(fact.body) for _, fact in await store.facts(kind=TRANSACTION)]
        shown = [(row["operation"], row["amount"], row["fee"], row["state"], row.get("memo")) for row in rows]
        return {**await super().ending(), "rows": sorted(shown)}


class ExactWorld(SendWorld):
    """With coins that fit."""

    funds = (SEND_SAT, 8)


class RevokeWorld(SendWorld):
    """A person asks for it back, again at each start."""

    async def handed_out(self, executor: Executor, row: Checkpoint) -> None:
        self.told(row)
        await executor.store.request_cancel(row.key, self.clock.now())


class LockedWorld(RevokeWorld):
    """The same with a token for a key of ours, which is signed for as a whole."""

    async def condition(self, wallet: CashuWallet) -> Condition | None:
        return pay_to_key(await wallet.receiving_key(), sigflag=SigFlag.SIG_ALL)


def send(world: CashuWorld) -> Start:
    action = Send.model_validate_json(world.setting("action.json"))
    return Start(action, action.opening)
