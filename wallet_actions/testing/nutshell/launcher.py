"""Runs the unmodified mint, and a second port on loopback through which a test changes settings and reads the books.

Executed by the interpreter of the mint's own environment, so it imports nothing of ours. Usage:

    python launcher.py PORT READY_FILE

PORT 0 lets the system choose. READY_FILE receives `{"port": …, "control": …}` once both sockets are bound. The mint
ends when standard input is closed, hence with the process that started it, however that one dies.

The control port speaks JSON lines, one answer for each request: `{"ok": …}` or `{"error": "…"}`.

    {"do": "set", "settings": {"fakewallet_brr": false}}      {"do": "get", "name": "fakewallet_brr"}
    {"do": "reset"}                                           {"do": "ledger"}
    {"do": "invoice", "amount": 100}                          {"do": "rotate", "input_fee_ppk": 100, "unit": "sat"}
    {"do": "one_fate"}
    {"do": "pay_parts"}
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Whose invoices these are does not matter; that it is not the mint itself does: those it would settle internally.
PAYEE_KEY = hashlib.sha256(b"somebody else's node").hexdigest()
GRACE_S = 3

LEDGER = """
    SELECT k.id, k.unit, k.active, k.input_fee_ppk,
      (SELECT COALESCE(SUM(amount), 0) FROM promises p WHERE p.id = k.id AND p.c_ IS NOT NULL),
      (SELECT COALESCE(SUM(amount), 0) FROM proofs_used u WHERE u.id = k.id),
      (SELECT COALESCE(SUM(amount), 0) FROM proofs_pending n WHERE n.id = k.id)
    FROM keysets k ORDER BY k.id
"""


class _Control:
    """Answers the requests of the control port."""

    def __init__(self) -> None:
        from cashu.core.settings import settings

        self.settings: Any = settings
        self.initial = dict(settings)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                try:
                    answer = {"ok": await self.do(json.loads(line))}
                except Exception as error:  # noqa: BLE001 - every fault is the caller's to read
                    answer = {"error": f"{type(error).__name__}: {error}"}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def do(self, request: dict[str, Any]) -> Any:
        match request:
            case {"do": "set", "settings": dict() as wanted}:
                for name in wanted:
                    self.require(name)
                for name, value in wanted.items():
                    setattr(self.settings, name, value)
                return None
            case {"do": "get", "name": str() as name}:
                self.require(name)
                return getattr(self.settings, name)
            case {"do": "reset"}:
                for name, value in self.initial.items():
                    setattr(self.settings, name, value)
                return None
            case {"do": "ledger"}:
                return await asyncio.to_thread(self.ledger)
            case {"do": "invoice", "amount": int() as amount}:
                return _invoice(amount)
            case {"do": "one_fate"}:
                return _give_payments_one_fate()
            case {"do": "pay_parts"}:
                return _pay_parts()
            case {"do": "rotate", "input_fee_ppk": int() as fee, "unit": str() as unit}:
                from cashu.core.base import Unit
                from cashu.mint.startup import ledger

                return (await ledger.rotate_next_keyset(Unit[unit], input_fee_ppk=fee)).id
        raise ValueError("no such request")

    def require(self, name: str) -> None:
        if name not in self.initial:
            raise ValueError(f"the mint has no setting {name}")

    def ledger(self) -> list[list[Any]]:
        connection = sqlite3.connect(Path(self.settings.mint_database) / "mint.sqlite3", timeout=10)
        try:
            return [list(row) for row in connection.execute(LEDGER)]
        finally:
            connection.close()


def _invoice(amount_sat: int) -> str:
    from bolt11 import Bolt11, Feature, Features, FeatureState, MilliSatoshi, TagChar, Tags, encode

    tags = Tags()
    tags.add(TagChar.payment_hash, os.urandom(32).hex())
    tags.add(TagChar.payment_secret, os.urandom(32).hex())
    tags.add(TagChar.description, "test")
    tags.add(TagChar.expire_time, 86_400)
    tags.add(TagChar.features, Features.from_feature_list({Feature.payment_secret: FeatureState.supported}))
    made = Bolt11(
        currency="bc", amount_msat=MilliSatoshi(amount_sat * 1000), date=int(datetime.now(UTC).timestamp()), tags=tags
    )
    return str(encode(made, PAYEE_KEY))


def _give_payments_one_fate() -> None:
    """From now on the backend that pays stays with what it has said of an attempt, whatever the settings say later.

    Of an attempt that has not come back it says that it is pending, and where none is known that it knows nothing: a
    look-up that comes just before an attempt must not hear that it has failed. So a failure is told once.
    """
    from cashu.lightning.base import PaymentResult, PaymentStatus
    from cashu.lightning.fake import FakeWallet

    pay, look = FakeWallet.pay_invoice, FakeWallet.get_payment_status
    fates: dict[str, Any] = {}  # of attempts that have not failed
    under_way: Counter[str] = Counter()

    async def pay_invoice(wallet: Any, quote: Any, fee_limit: int) -> Any:
        under_way[quote.checking_id] += 1
        try:
            response = await pay(wallet, quote, fee_limit)
        finally:
            under_way[quote.checking_id] -= 1
        fates.pop(quote.checking_id, None)
        if response.result is not PaymentResult.FAILED:
            fates[quote.checking_id] = response.result
        return response

    async def get_payment_status(wallet: Any, checking_id: str) -> Any:
        if under_way[checking_id]:
            return PaymentStatus(result=PaymentResult.PENDING)
        if checking_id not in fates:
            return PaymentStatus(result=PaymentResult.UNKNOWN)
        if fates[checking_id] is not PaymentResult.SETTLED:
            fates[checking_id] = (await look(wallet, checking_id)).result
            if fates[checking_id] is PaymentResult.FAILED:
                return PaymentStatus(result=fates.pop(checking_id))
        return PaymentStatus(result=fates[checking_id])

    FakeWallet.pay_invoice, FakeWallet.get_payment_status = pay_invoice, get_payment_status


def _pay_parts() -> None:
    """From now on the backend pays parts of invoices; the mint itself knows how (NUT-15), and asks its backend."""
    from cashu.core.base import Amount, Unit
    from cashu.core.helpers import fee_reserve
    from cashu.lightning.base import PaymentQuoteResponse
    from cashu.lightning.fake import FakeWallet

    quote_whole = FakeWallet.get_payment_quote

    async def get_payment_quote(wallet: Any, melt_quote: Any) -> Any:
        whole = await quote_whole(wallet, melt_quote)
        if not melt_quote.is_mpp:
            return whole
        msat = melt_quote.mpp_amount
        part, fee = (Amount(unit=Unit.msat, amount=n) for n in (msat, fee_reserve(msat)))
        return PaymentQuoteResponse(
            checking_id=whole.checking_id,
            amount=part.to(wallet.unit, round="up"),
            fee=fee.to(wallet.unit, round="up"),
        )

    FakeWallet.supports_mpp, FakeWallet.get_payment_quote = True, get_payment_quote


def _listen(port: int) -> socket.socket:
    # The protocol is named, since asyncio sends without delay only over sockets that name it.
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    return made


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(2 * GRACE_S)
    os._exit(1)


async def _main(port: int, ready: Path) -> None:
    listener = _listen(port)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["MINT_LISTEN_PORT"] = str(listener.getsockname()[1])
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config("cashu.mint.app:app", log_level="warning", timeout_graceful_shutdown=GRACE_S, loop="asyncio")
    )
    control = await asyncio.start_server(_Control().serve, "127.0.0.1", 0)
    ports = {"port": listener.getsockname()[1], "control": control.sockets[0].getsockname()[1]}
    partial = ready.with_suffix(".partial")
    partial.write_text(json.dumps(ports))
    partial.rename(ready)
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), Path(sys.argv[2])))
