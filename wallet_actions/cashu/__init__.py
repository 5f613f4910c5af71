"""Cashu: ecash from a mint, carried by actions that survive a crash anywhere (extra `cashu`)."""

from wallet_actions.cashu.app import KINDS, Cashu
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.issue import Issue, Issued
from wallet_actions.cashu.melt import Melt, Paid
from wallet_actions.cashu.selection import InsufficientFundsError
from wallet_actions.cashu.wallet import CashuWallet

__all__ = [
    "KINDS",
    "Cashu",
    "CashuWallet",
    "InsufficientFundsError",
    "Issue",
    "Issued",
    "Melt",
    "MintClient",
    "Paid",
    "Seed",
]
