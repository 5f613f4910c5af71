"""Two processes drive one wallet in one file, and one or the other of them is killed again and again.

What is asked for, of which process, and when one dies, the seed decides; what comes of it is the machine's affair. In
the end a process of its own finishes what is left, the tokens that are still out are redeemed or called back, and the
wallet is held against the mint's books.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio

from tests.crash_matrix.judge import Finding, Harm, MintBooks, WalletBooks, judge, left_at_mint, quotes, uneven_change
from tests.crash_matrix.lives import Life, Line, Zygote
from tests.crash_matrix.payee import Payee
from wallet_actions.testing.nutshell import MintConfig, NutshellMint

WALLET = "tests.soak.wallet"
AT_ONCE = 4  # operations of each process
WEIGHTS = {"issue": 20, "send": 30, "receive": 28, "swap": 10, "melt": 12}
OWN_TOKENS, CLAIMED_BY_OTHERS = 0.8, 0.3
RICH_SAT = 3000
LEAST_SAT, MOST_SAT = 4, {"issue": 250, "send": 60, "receive": 60, "swap": 100, "melt": 30}
WEATHER_S = 0.5
PATIENCE = timedelta(minutes=3)
SLOWEST = timedelta(minutes=60)
LONGEST_WAIT_FOR_DEATH_S = 0.2
FATES: tuple[dict[str, Any], ...] = (
    {"fakewallet_pay_invoice_state": "SETTLED", "fakewallet_payment_state": "SETTLED"},
    {"fakewallet_pay_invoice_state": "FAILED", "fakewallet_payment_state": "FAILED"},
    {"fakewallet_pay_invoice_state": "PENDING", "fakewallet_payment_state": "SETTLED"},
    {"fakewallet_pay_invoice_state": "PENDING", "fakewallet_payment_state": "FAILED"},
    {"fakewallet_pay_invoice_state": "PENDING", "fakewallet_payment_state": "PENDING"},
)


@dataclass(slots=True)
class Report:
    """What came of it.

    Attributes:
        operations: how many the wallet's history knows, by kind and state.
        kills: how many processes died.
        findings: what is not as it should be.
        owned, elsewhere, outstanding: what the wallet has in the end, what others have, and what the mint owes to all,
            in sat.
        left: change that the mint notes beyond what it gave, where it settled a payment twice at once, in sat; part of
            `outstanding`. See `UnevenChange`.
        refusals: operations that the wallet would not begin, by reason.
    """

    seed: int
    operations: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    findings: list[Finding] = field(default_factory=list)
    owned: int = 0
    elsewhere: int = 0
    outstanding: int = 0
    left: int = 0
    refusals: Counter[str] = field(default_factory=Counter)

    def count(self, harm: Harm) -> int:
        """How many findings there are of a sort."""
        return sum(finding.harm is harm for finding in self.findings)

    def __str__(self) -> str:
        harms = ", ".join(f"{self.count(harm)} {harm}" for harm in Harm)
        return f"soak: {self.operations.total()} operations, {self.kills} kills: {harms}"


@dataclass(slots=True)
class _Side:
    """One of the two processes, through all its lives.

    Attributes:
        life: the one that is under way.
        asked: what it has been told to do and has not said that it is over, by number.
    """

    zygote: Zygote
    life: Life = field(default_factory=Life)
    asked: dict[int, dict[str, Any]] = field(default_factory=dict)


class Soak:
    """One soak.

    Args:
        count: how many operations.
        kills: how many processes to kill on the way.
        on_progress: told how many operations have begun, and how many processes died.
    """

    def __init__(
        self,
        *,
        seed: int,
        count: int,
        kills: int,
        config: MintConfig | None = None,
        on_progress: Callable[[int, int], None] = lambda begun, kills: None,
    ) -> None:
        self.report = Report(seed)
        self._chance = random.Random(seed)
        self._count, self._kills = count, kills
        self._config = config or MintConfig(input_fee_ppk=100)
        self._on_progress = on_progress
        self._begun = 0
        self._number = 0
        self._tokens: list[str] = []  # that are out
        self._doubtful: set[str] = set()  # those of them that a process had in hand when it died
        self._told: set[str] = set()  # sends whose token somebody has
        self._is_poor = True
        self._deaths = sorted(self._chance.sample(range(1, max(count, kills + 1)), kills))

    async def run(self) -> Report:
        """Run it all.

        Raises:
            LifeError, MintError: it could not be run.
        """
        with TemporaryDirectory(prefix="soak-") as folder:
            async with (
                NutshellMint(self._config) as self._mint,
                Payee(self._mint.url) as self._payee,
                Zygote(WALLET) as one,
                Zygote(WALLET) as other,
            ):
                self._order = {
                    "store": f"sqlite:///{Path(folder) / 'wallet.db'}",
                    "mint": self._mint.url,
                    "seed": secrets.token_hex(32),
                }
                await self._mint.give_payments_one_fate()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._weather)
                    for side in (_Side(one), _Side(other)):
                        tasks.start_soon(self._drive, side)
                await self._finish(one)
        return self.report

    async def _drive(self, side: _Side) -> None:
        while self._begun < self._count:
            side.life, side.asked = Life(), {}
            await side.zygote.live(
                f"{WALLET}:work",
                self._order,
                life=side.life,
                on_line=lambda life, line: self._heed(side, line),
                deadline=SLOWEST,
            )
            self.report.kills += side.life.was_killed
            if (crashed := side.life.last("crashed")) is not None:
                self._find(Harm.STUCK, f"a process failed: {' | '.join(crashed['lines'])}")
                return
            self._take_back(side)

    async def _heed(self, side: _Side, line: Line) -> None:
        match line:
            case {"what": "open"}:
                for _ in range(AT_ONCE):
                    await self._ask(side)
            case {"what": "started"}:
                self._begun += 1
                self._on_progress(self._begun, self.report.kills)
                side.asked.get(line["number"], {}).pop("token", None)  # it is the wallet's now
                if self._deaths and self._begun >= self._deaths[0]:
                    self._deaths.pop(0)
                    delay_s = self._chance.random() * LONGEST_WAIT_FOR_DEATH_S
                    asyncio.get_running_loop().call_later(delay_s, side.life.kill)
            case {"what": "token", "id": send, "token": token}:
                self._told.add(send)
                self._tokens.append(token)
            case {"what": "over" | "refused", "number": number}:
                task = side.asked.pop(number, {})
                if line["what"] == "refused":
                    self._heed_refusal(line["type"], task)
                await self._ask(side)

    def _take_back(self, side: _Side) -> None:
        """A process is gone: what it had been given and had not begun can be given to another."""
        for task in side.asked.values():
            self._return(task)
        side.asked = {}

    def _heed_refusal(self, error: str, task: dict[str, Any]) -> None:
        self.report.refusals[f"{task.get('name')}: {error}"] += 1
        self._is_poor |= error in ("InsufficientFundsError", "ReservationError")
        if error != "TokenReceivedError":
            self._return(task)

    def _return(self, task: dict[str, Any]) -> None:
        if token := task.get("token"):
            self._tokens.append(token)
            self._doubtful.add(token)

    async def _ask(self, side: _Side) -> None:
        if self._begun >= self._count:
            if not side.asked:
                await side.zygote.tell({})
            return
        self._number += 1
        task = await self._draw()
        side.asked[self._number] = task
        await side.zygote.tell({"number": self._number, **task})

    async def _draw(self) -> dict[str, Any]:
        is_poor, self._is_poor = self._is_poor, False
        name = "issue" if is_poor else self._chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        amount = self._chance.randint(LEAST_SAT, MOST_SAT[name])
        if name == "send" and self._chance.random() < CLAIMED_BY_OTHERS:
            await self._claim()
        if name == "melt":
            return {"name": name, "request": await self._mint.invoice(amount)}
        if name == "receive" and self._tokens and self._chance.random() < OWN_TOKENS:
            return {"name": name, "token": self._pop_token()}
        if name == "receive":
            return {"name": name, "token": await self._payee.make(amount, self._mint.url)}
        return {"name": name, "amount": RICH_SAT if is_poor else amount}

    async def _claim(self) -> None:
        """Somebody else claims a token that is out."""
        if self._tokens:
            token = self._pop_token()
            if await self._payee.redeem(token) is None and token not in self._doubtful:
                self._find(Harm.LOST, "a token that is out was taken back, or is worth nothing")

    def _pop_token(self) -> str:
        return self._tokens.pop(self._chance.randrange(len(self._tokens)))

    async def _weather(self) -> None:
        """How the mint's payments go changes all the time; in the end those that are pending are paid."""
        while self._begun < self._count:
            await self._mint.set(**self._chance.choice(FATES))
            await anyio.sleep(WEATHER_S)
        await self._mint.reset()

    async def _finish(self, zygote: Zygote) -> None:
        async def at_rest(life: Life, line: Line) -> None:
            if line["what"] == "resting":
                while self._tokens:
                    await self._claim()
                untold = [send for send in line["sends"] if send not in self._told]
                await zygote.tell({"revoke": untold})

        life = await zygote.live(f"{WALLET}:finish", self._order, on_line=at_rest, deadline=PATIENCE)
        for line in life.of("stuck"):
            self._find(Harm.STUCK, line["reason"])
        told = life.last("finished")
        if told is None:
            why = "it hangs" if life.has_hung else life.last("crashed") or "it died"
            self._find(Harm.STUCK, f"the wallet does not come to its end: {why}")
            return
        wallet = WalletBooks.of(told)
        issued, paid = await asyncio.to_thread(quotes, self._mint)
        uneven = await asyncio.to_thread(uneven_change, self._mint)
        mint = MintBooks(await self._mint.outstanding(), issued, paid, uneven)
        ids = wallet.unspent_ids
        spent = [coin for coin, good in zip(ids, await self._payee.unspent(ids), strict=True) if not good]
        report = self.report
        report.findings += judge(wallet, mint, elsewhere=self._payee.owned, spent=spent)
        report.owned, report.elsewhere, report.outstanding = wallet.owned, self._payee.owned, mint.outstanding
        report.left = left_at_mint(wallet, mint)
        report.operations = Counter(f"{row['operation'].removeprefix('cashu_')} {row['state']}" for row in wallet.rows)

    def _find(self, harm: Harm, text: str) -> None:
        self.report.findings.append(Finding(harm, text))
