"""The nonce of a signing session is stored, and so used again in the next session."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Done, Next, Phase, Transition


class Signing(Phase):
    nonce: str


class Sign(Action[Wallet, Open | Signing, str], kind="sign"):
    """Sign a payment together with the server."""

    payment: str

    @property
    def id(self) -> str:
        return self.payment

    async def advance(self, wallet: Wallet) -> Transition[Self, str]:
        match self.phase:
            case Open():
                return Next(self.at(Signing(nonce=f"nonce for {self.payment}")))
            case Signing(nonce=nonce):
                return Done(await wallet.desk.sign(nonce, self.payment))


class SignWorld(SmallWorld):
    kinds = (Sign,)


PLANTED = Planted(
    bug="a nonce that is persisted",
    tool=Tool.CRASHES,
    step="signing",
    lesson="L-S6",
    make=lambda: Sign(payment="p-1", phase=Open()),
    world=SignWorld,
)
