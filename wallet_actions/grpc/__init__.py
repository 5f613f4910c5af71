"""Calls over grpc.aio from a step of an action: a channel with the right options, and errors that the engine knows.

    channel = open_channel("bank.example:443", credentials=grpc.ssl_channel_credentials())
    bank = BankStub(channel)
    …
    with translated(wallet.clock):
        receipt = await bank.Pay(PayRequest(key=self.id))

What is in a channel from here: no call is repeated beneath the engine (L-P3), every call has a deadline (L-P4), every
call carries the trace context and is measured. What leaves `translated` is an error of the tree: see its table.
"""

from wallet_actions.grpc.channel import CALL_DEADLINE, channel_options, open_channel
from wallet_actions.grpc.deadlines import deadline_interceptors
from wallet_actions.grpc.telemetry import telemetry_interceptors
from wallet_actions.grpc.translation import closing_told, translated

__all__ = [
    "CALL_DEADLINE",
    "channel_options",
    "closing_told",
    "deadline_interceptors",
    "open_channel",
    "telemetry_interceptors",
    "translated",
]
