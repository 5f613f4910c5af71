"""The counter is allocated before it is used, and stored; the nonce of the signing session is not."""

from __future__ import annotations

from typing import Self
from uuid import uuid4

from tests.kit.cases import Twin
from tests.kit.peers import coin
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Next, Phase, Transition


class Issuing(Phase):
    counter: int


class Issue(Action[Wallet, Open | Issuing], kind="issue"):
    """Have a coin signed for a paid quote, in a session with the signer."""

    quote: str
    amount: int

    @property
    def id(self) -> str:
        return self.quote

    async def advance(self, wallet: Wallet) -> Transition[Self]:
        match self.phase:
            case Open():
                return Next(self.at(Issuing(counter=await wallet.store.allocate("secrets"))))
            case Issuing(counter=counter):
                await wallet.desk.sign(f"nonce {uuid4()}", self.quote)
                signed = await wallet.mint.sign(self.quote, counter, self.amount)
                return Done(changes=Changes(add=[coin(proof, amount) for proof, amount in signed]))


class IssueWorld(SmallWorld):
    kinds = (Issue,)


TWIN = Twin(
    of=("counter_reused", "nonce_persisted"),
    make=lambda: [Issue(quote=quote, amount=50, phase=Open()) for quote in ("q-1", "q-2")],
    world=IssueWorld,
)
