"""Nutshell's LND client as it is, in its own environment: what it makes of a node, as one JSON object.

Takes endpoint, certificate, macaroon, another macaroon that is wrong, and the invoices to pay; needs nothing of this
library.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

endpoint, certificate, macaroon, wrong, *invoices = sys.argv[1:]
os.environ |= {
    "MINT_LND_RPC_ENDPOINT": endpoint,
    "MINT_LND_RPC_CERT": certificate,
    "MINT_LND_RPC_MACAROON": macaroon,
}

import bolt11  # noqa: E402
import cashu.lightning.lnd_grpc.protos.lightning_pb2 as lnrpc  # noqa: E402
import cashu.lightning.lnd_grpc.protos.router_pb2 as routerrpc  # noqa: E402
from cashu.core.base import MeltQuote, Unit  # noqa: E402
from cashu.core.settings import settings  # noqa: E402
from cashu.lightning.lnd_grpc.lnd_grpc import LndRPCWallet  # noqa: E402


def fields(message: Any) -> dict[str, list[object]]:
    """Number, type and shape of each field."""
    return {field.name: [field.number, field.type, field.is_repeated] for field in message.DESCRIPTOR.fields}


async def main() -> None:
    wallet = LndRPCWallet(Unit.sat)
    told = []
    for invoice in invoices:
        payment_hash = bolt11.decode(invoice).payment_hash
        before = await wallet.get_payment_status(payment_hash)
        quote = MeltQuote.model_construct(request=invoice, amount=21, unit="sat")
        paid = await wallet.pay_invoice(quote, fee_limit_msat=1_000)
        again = await wallet.pay_invoice(quote, fee_limit_msat=1_000)
        after = await wallet.get_payment_status(payment_hash)
        told.append(
            {
                "before": before.result.name,
                "paid": paid.result.name,
                "fee": None if paid.fee is None else paid.fee.amount,
                "preimage": paid.preimage,
                "error": paid.error_message,
                "again": again.result.name,
                "again_error": again.error_message,
                "after": after.result.name,
                "after_preimage": after.preimage,
            }
        )
    settings.mint_lnd_rpc_macaroon = wrong
    quote = MeltQuote.model_construct(request=invoices[0], amount=21, unit="sat")
    refused = await LndRPCWallet(Unit.sat).pay_invoice(quote, fee_limit_msat=1_000)
    messages = [lnrpc.GetInfoRequest, lnrpc.GetInfoResponse, lnrpc.Chain, lnrpc.Payment]
    messages += [routerrpc.SendPaymentRequest, routerrpc.TrackPaymentRequest]
    enums = {
        "PaymentFailureReason": dict(lnrpc.PaymentFailureReason.items()),
        "PaymentStatus": dict(lnrpc.Payment.PaymentStatus.items()),
    }
    descriptors = {message.DESCRIPTOR.name: fields(message) for message in messages}
    answer = {"told": told, "refused": refused.error_message, "messages": descriptors, "enums": enums}
    print(json.dumps(answer))  # noqa: T201


asyncio.run(main())
