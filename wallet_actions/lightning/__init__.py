"""Lightning: invoices paid by an LND node, carried by actions that survive a crash anywhere (extra `lightning`)."""

from wallet_actions.lightning.allot import Allot
from wallet_actions.lightning.app import pay
from wallet_actions.lightning.client import LndAddress, LndClient
from wallet_actions.lightning.errors import InsufficientFundsError, InvoiceError, InvoiceFault
from wallet_actions.lightning.invoices import Invoice, payment_hash_of, read_invoice
from wallet_actions.lightning.node import LightningNode, NodeIdentity, Payment, PaymentStatus
from wallet_actions.lightning.phases import Sent
from wallet_actions.lightning.send import LightningSend
from wallet_actions.lightning.wallet import LightningWallet

KINDS = (LightningSend, Allot)
"""The actions of this wing, for the engine."""

__all__ = [
    "KINDS",
    "Allot",
    "InsufficientFundsError",
    "Invoice",
    "InvoiceError",
    "InvoiceFault",
    "LightningNode",
    "LightningSend",
    "LightningWallet",
    "LndAddress",
    "LndClient",
    "NodeIdentity",
    "Payment",
    "PaymentStatus",
    "Sent",
    "pay",
    "payment_hash_of",
    "read_invoice",
]
