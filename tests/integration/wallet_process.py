"""A wallet process for tests: it recovers, then issues and pays a few times, and says each step on a line.

Reads one line of JSON: `{"store": URL, "mint": URL, "words": …, "amount": sat, "lease_s": …, "invoices": […]}`; for
each invoice it issues `amount` first. Run it with `python -m tests.integration.wallet_process`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta

from wallet_actions.cashu import Cashu, Seed


def say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


async def main() -> None:
    order = json.loads(sys.stdin.readline())
    seed = Seed.from_mnemonic(order["words"])
    lease = timedelta(seconds=order["lease_s"])
    async with Cashu(order["store"], seed, poll=timedelta(milliseconds=200), lease=lease) as cashu:
        say("open")
        await cashu.engine.recovered()
        say("recovered")
        for invoice in order["invoices"]:
            issue = await cashu.issue(order["mint"], order["amount"])
            say("started", issue.kind, issue.id)
            await cashu.issued(issue.id)
            melt = await cashu.melt(order["mint"], invoice)
            say("started", melt.kind, melt.id)
            await cashu.paid(melt.id)
            say("paid", melt.kind, melt.id)
    say("closed")


if __name__ == "__main__":
    asyncio.run(main())
