"""Cashu: ecash from a mint, carried by actions that survive a crash anywhere (extra `cashu`)."""

from wallet_actions.cashu.app import KINDS, Cashu
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.errors import (
    InsufficientFundsError,
    MalformedError,
    TokenLockedError,
    TokenReceivedError,
    TokenRefusedError,
)
from wallet_actions.cashu.facts import Transaction, TransactionState
from wallet_actions.cashu.issue import Issue, Issued
from wallet_actions.cashu.issue_batch import IssueBatch
from wallet_actions.cashu.issue_batch_phases import IssuedBatch
from wallet_actions.cashu.melt import Melt
from wallet_actions.cashu.melt_phases import Paid
from wallet_actions.cashu.receive import Receive
from wallet_actions.cashu.receiving import Received
from wallet_actions.cashu.restore import Restore, Restored, RestoreProgress
from wallet_actions.cashu.send import Send
from wallet_actions.cashu.sending import Sent
from wallet_actions.cashu.swap import Exchanged, Swap
from wallet_actions.cashu.wallet import CashuWallet

__all__ = [
    "KINDS",
    "Cashu",
    "CashuWallet",
    "Exchanged",
    "InsufficientFundsError",
    "Issue",
    "IssueBatch",
    "Issued",
    "IssuedBatch",
    "MalformedError",
    "Melt",
    "MintClient",
    "Paid",
    "Receive",
    "Received",
    "Restore",
    "RestoreProgress",
    "Restored",
    "Seed",
    "Send",
    "Sent",
    "Swap",
    "TokenLockedError",
    "TokenReceivedError",
    "TokenRefusedError",
    "Transaction",
    "TransactionState",
]
