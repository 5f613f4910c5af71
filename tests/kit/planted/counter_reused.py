"""The counter is read, used, and raised only with the end of the action: two actions may use the same value."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.peers import coin
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Next, Phase, Transition


class Issuing(Phase):
    counter: int


class Issue(Action[Wallet, Open | Issuing], kind="issue"):
    """Have a coin signed for a paid quote."""

    quote: str
    amount: int

    @property
    def id(self) -> str:
        return self.quote

    async def advance(self, wallet: Wallet) -> Transition[Self]:
        match self.phase:
            case Open():
                counter = (await wallet.store.counters()).get("secrets", 0)
                return Next(self.at(Issuing(counter=counter)))
            case Issuing(counter=counter):
                signed = await wallet.mint.sign(self.quote, counter, self.amount)
                coins = [coin(proof, amount) for proof, amount in signed]
                return Done(changes=Changes(add=coins, counters={"secrets": counter + 1}))


class IssueWorld(SmallWorld):
    kinds = (Issue,)


PLANTED = Planted(
    bug="a counter that is used twice",
    tool=Tool.CRASHES,
    step="issuing",
    lesson="L-C12",
    make=lambda: [Issue(quote=quote, amount=50, phase=Open()) for quote in ("q-1", "q-2")],
    world=IssueWorld,
)
