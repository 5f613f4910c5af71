"""One point being run: a wallet is made, meets with its fault, recovers, and is judged."""

from __future__ import annotations

import asyncio
import secrets
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from tests.crash_matrix.judge import Finding, Harm, MintBooks, Row, WalletBooks, compare, judge, last_quotes, quotes
from tests.crash_matrix.lives import Life, LifeError, Line, phases_of
from tests.crash_matrix.payee import Payee
from tests.crash_matrix.points import Course, Fault, Point
from tests.crash_matrix.scenarios import SCENARIOS, Payment, Scenario
from wallet_actions.testing.proxy import Fault as Treatment
from wallet_actions.testing.proxy import Kill, LoseAnswer, Record, ResetBefore, Rule, StatusAfter

if TYPE_CHECKING:
    from tests.crash_matrix.lane import Lane

WALLET = "tests.crash_matrix.wallet"
LOOKS_WHILE_PENDING = 2
KINDS = {"issue": "cashu_issue", "melt": "cashu_melt", "send": "cashu_send", "receive": "cashu_receive"}
KINDS |= {"swap": "cashu_swap", "revoke": "cashu_send", "issue_many": "cashu_issue_batch", "restore": "cashu_restore"}


@dataclass(slots=True)
class Result:
    """What came of a point.

    Attributes:
        findings: what is not as it should be.
        was_reached: whether everything went wrong that was to go wrong; otherwise it proves nothing, unless it failed.
        operation, recovery: what the first process did, and the one after it.
        row: the operation's, in the wallet's history.
        phases: what was written, in order.
        kills: how many processes were killed.
    """

    point: Point
    findings: list[Finding] = field(default_factory=list)
    was_reached: bool = True
    operation: Course = field(default_factory=Course)
    recovery: Course = field(default_factory=Course)
    row: Row | None = None
    phases: list[str] = field(default_factory=list)
    kills: int = 0
    seconds: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether it says anything."""
        return self.was_reached or bool(self.findings)

    def has(self, harm: Harm) -> bool:
        """Whether there is a finding of a sort."""
        return any(finding.harm is harm for finding in self.findings)


class Trial:
    """One point being run.

    Attributes:
        handed: the tokens that the payee was given, by the send's id.
        redeemed: what was redeemed of them, in sat.
    """

    def __init__(self, lane: Lane, point: Point, path: Path, payee: Payee) -> None:
        self.lane = lane
        self.point = point
        self.scenario: Scenario = SCENARIOS[point.scenario]
        self.payee = payee
        self.handed: dict[str, str] = {}
        self.redeemed: dict[str, int] = {}
        self.result = Result(point)
        self._order: dict[str, Any] = {
            "store": _store(path),
            "mint": lane.proxy.url,
            "seed": secrets.token_hex(32),
            "scenario": point.scenario,
        }
        self._before = MintBooks(0)
        self._last_quotes = (0, 0)
        self._path = path
        self._lost = 0

    async def run(self, calm: Row | None) -> Result:
        """Run it; see `Lane.run`."""
        lane = self.lane
        lane.proxy.use()
        self._before = MintBooks(await lane.mint.outstanding())
        self._last_quotes = last_quotes(lane.mint)
        await self._prepare()
        payment = self.scenario.payment
        async with anyio.create_task_group() as tasks:
            if payment is not None:
                await lane.mint.set(**payment.settings)
                tasks.start_soon(self._end_payment, payment, len(lane.proxy.records))
            first = await self._operate()
            last = await self._recover()
            tasks.cancel_scope.cancel()
        await lane.mint.reset()
        await self._judge(first, last, calm)
        return self.result

    async def _prepare(self) -> None:
        scenario, payee, pubkey = self.scenario, self.payee, ""
        if scenario.fund or scenario.lock == "p2pk":
            life = await self.lane.zygote.live(f"{WALLET}:prepare", self._order, on_line=self._hand)
            if life.last("prepared") is None:
                raise LifeError(f"the wallet could not be prepared: {life.last('crashed') or life.lines[-1:]}")
            pubkey = str((life.last("key") or {}).get("pubkey", ""))
        if scenario.is_lost:
            self._order["store"] = _store(self._path.with_suffix(".db2"))
            self._lost = await self.lane.mint.outstanding() - self._before.outstanding
        self._order["plant"] = self.lane.plant
        if scenario.operation == "receive":
            token = next(iter(self.handed.values()), "")
            if not token:
                url = self.lane.proxy.url
                token = self.handed[""] = await payee.make(scenario.amount, url, lock=scenario.lock, pubkey=pubkey)
            self._order["token"] = token
            self._order["preimage"] = payee.preimage if scenario.lock == "htlc" else ""
        if scenario.operation == "send" and scenario.lock is not None:
            self._order |= {"pubkey": payee.pubkey} if scenario.lock == "p2pk" else {"digest": payee.digest}
        if self.scenario.operation == "melt":
            self._order["request"] = await self.lane.mint.invoice(self.scenario.amount)
        if self.scenario.operation == "revoke":
            self._order["action_id"] = next(iter(self.handed))

    async def _operate(self) -> Life:
        fault = self.point.fault
        lingers = fault is not None and fault.moment == "delivered"
        life, records = await self._live("operate", fault, on_line=self._hand, lingers=lingers)
        self.result.operation = _course(life, records)
        return life

    async def _recover(self) -> Life:
        if self.point.second is not None:
            await self._live("recover", self.point.second, on_line=self._rest_early)
        marks: list[int] = []

        async def at_rest(life: Life, line: Line) -> None:
            if line["what"] == "resting":
                marks.extend((len(life.of("write")), len(self.lane.proxy.records)))
                await self.lane.zygote.tell({"revoke": await self._close(line["sends"])})

        begun = len(self.lane.proxy.records)
        life, _ = await self._live("recover", None, on_line=at_rest)
        writes, records = marks or (len(life.of("write")), len(self.lane.proxy.records))
        until_rest = Life(lines=life.of("write")[:writes])
        self.result.recovery = _course(until_rest, self.lane.proxy.records[begun:records])
        return life

    async def _live(
        self, what: str, fault: Fault | None, *, on_line: Callable[[Life, Line], Awaitable[None]], lingers: bool = False
    ) -> tuple[Life, Sequence[Record]]:
        lane, life = self.lane, Life()
        lane.proxy.use(*([] if fault is None or fault.write else [Rule(_treatment(fault, life), nth=fault.request)]))
        begun = len(lane.proxy.records)
        at_write = str(fault) if fault is not None and fault.write else ""
        order = {**self._order, "fault": at_write, "lingers": lingers}
        await lane.zygote.live(f"{WALLET}:{what}", order, life=life, on_line=on_line)
        lane.proxy.use()
        records = lane.proxy.records[begun:]
        self.result.phases += [f"-- {what}", *phases_of([life])]
        self.result.kills += life.was_killed and not life.has_hung
        if fault is not None:
            was_met = any(one.fault is not None for one in records)
            self.result.was_reached &= life.was_killed and not life.has_hung if fault.what == "kill" else was_met
        if life.has_hung:
            last = ", ".join(phases_of([life])[-3:])
            self._find(Harm.STUCK, f"the process that was to {what} hung; the last it wrote: {last or 'nothing'}")
        elif (crashed := life.last("crashed")) is not None:
            self._find(Harm.STUCK, f"the process that was to {what} failed: {' | '.join(crashed['lines'])}")
        elif life.was_killed and (fault is None or fault.what != "kill"):
            raise LifeError("a process was killed by somebody else")
        return life, records

    async def _hand(self, life: Life, line: Line) -> None:
        """The payee is given a token."""
        if line["what"] == "token":
            self.handed[line["id"]] = line["token"]
            if self.scenario.is_claimed:
                await self._redeem(line["id"], line["token"])
                await self.lane.zygote.tell({})

    async def _rest_early(self, life: Life, line: Line) -> None:
        if line["what"] == "resting":
            life.kill()  # it was to be killed before it came to rest, and there was nothing there
            self.result.was_reached = False

    async def _close(self, resting: dict[str, str]) -> list[str]:
        """The wallet has come to rest: see what the tokens are worth that are out.

        Returns:
            The sends that it shall revoke now.
        """
        if self.scenario.operation in ("receive", "revoke"):
            for send, token in self.handed.items():
                # Either the wallet has taken it in, or it is good still: the books must tell the same story.
                self.redeemed[send] = await self.payee.redeem(token) or 0
            return []
        for send, token in self.handed.items():
            if send not in self.redeemed:
                await self._redeem(send, token)
            if resting.get(send, token) != token:
                self._find(Harm.DOUBLED, "the wallet has made another token than the one that was handed out")
        untold = {send: token for send, token in resting.items() if send not in self.handed}
        # What is locked to somebody else, the wallet cannot take back.
        if self.scenario.lock is None and not zlib.crc32(str(self.point).encode()) % 2:
            return list(untold)
        for send, token in untold.items():
            await self._redeem(send, token)
        return []

    async def _redeem(self, send: str, token: str) -> None:
        worth = await self.payee.redeem(token)
        self.redeemed[send] = worth or 0
        if worth is None:
            self._find(Harm.LOST, "a token that is out was taken back, or is worth nothing")
        elif worth != self.scenario.amount:
            self._find(Harm.LOST, f"a token is worth {worth} sat, not {self.scenario.amount}")

    async def _end_payment(self, payment: Payment, first: int) -> None:
        """A payment that stays pending ends once somebody has looked at it twice."""
        if not payment.is_pending:
            return

        def has_been_looked_at(records: Sequence[Record]) -> bool:
            asked = next((one.index for one in records[first:] if one.path.endswith("/melt/bolt11")), None)
            looks = [] if asked is None else [one for one in records[asked:] if "/melt/quote/bolt11/" in one.path]
            return sum(one.peer_status is not None for one in looks) >= LOOKS_WHILE_PENDING

        await self.lane.proxy.wait_until(has_been_looked_at)
        await self.lane.mint.set(fakewallet_payment_state=payment.ending)

    async def _judge(self, first: Life, last: Life, calm: Row | None) -> None:
        told = last.last("recovered")
        for line in last.of("stuck"):
            self._find(Harm.STUCK, line["reason"])
        if told is None:
            if not self.result.findings:
                self._find(Harm.STUCK, "the wallet does not recover")
            return
        wallet = WalletBooks.of(told)
        issued, paid = await asyncio.to_thread(quotes, self.lane.mint, after=self._last_quotes)
        mint = MintBooks(await self.lane.mint.outstanding() - self._before.outstanding, issued, paid)
        ids = wallet.unspent_ids
        is_good = await self.payee.unspent(ids)
        spent = [coin for coin, good in zip(ids, is_good, strict=True) if not good]
        # A restore that had not been begun leaves the coins to be found by another one.
        lost = 0 if wallet.rows else self._lost
        self.result.findings += judge(wallet, mint, elsewhere=self.payee.owned + lost, spent=spent)
        for send, token in self.handed.items():
            if self.redeemed.get(send) and await self.payee.redeem(token) is not None:
                self._find(Harm.DOUBLED, "a token was redeemed twice")
        kind = KINDS[self.scenario.operation]
        before = len(self.scenario.fund) + (self.scenario.sends_first and kind != "cashu_send")
        before = 0 if self.scenario.is_lost else before
        rows = [row for row in wallet.rows[before:] if row["operation"] == kind]
        if len(rows) > 1 or len(wallet.rows) > before + 1:
            self._find(Harm.DOUBLED, f"{len(wallet.rows)} rows in the history, {before + 1} at most were asked for")
        self.result.row = rows[0] if rows else None
        self._compare(first, calm)

    def _compare(self, first: Life, calm: Row | None) -> None:
        operation = self.scenario.operation
        if self.point.fault is None and (self.result.row is None or first.of("refused")):
            reason = next((line["reason"] for line in first.of("refused")), "nobody knows why")
            self._find(Harm.LOST, f"the operation was not begun, though nothing went wrong: {reason}")
        was_started = bool(first.of("started")) or operation == "revoke"
        is_open = operation == "revoke" or (operation == "send" and not self.handed)
        if is_open and self.result.row is not None and calm is not None:
            # Whether it is revoked or redeemed in the end is decided by when it was killed.
            ends = {"amount", "state", "fee"} if self.result.row["state"] != calm["state"] else set()
            calm = {**calm, **{name: self.result.row[name] for name in ends}}
        was_asked_back = any(
            line["name"] == "request_cancel" and line["moment"] == "after" for line in first.of("write")
        )
        if was_asked_back and self.result.row is not None and self.result.row["state"] != "revoked":
            self._find(Harm.LOST, "the token was asked back, durably, and is not back")
        # A payment that a look-up settles costs a sat less at this mint; one that failed may cost the fee of a swap,
        # since a copy of the request may still be on its way.
        slack = 1 if operation == "melt" else 0
        self.result.findings += compare(self.result.row, calm, was_started=was_started, slack=slack)

    def _find(self, harm: Harm, text: str) -> None:
        self.result.findings.append(Finding(harm, text))


def _store(path: Path) -> str:
    # Nothing here is for ever: without flushes, the disk of the machine is not what is measured.
    return f"sqlite:///{path}?durability=normal"


def _treatment(fault: Fault, life: Life) -> Treatment:
    match fault:
        case Fault(what="502"):
            return StatusAfter()
        case Fault(what="lose", moment="before"):
            return ResetBefore()
        case Fault(what="lose"):
            return LoseAnswer()
        case Fault(moment="delivered", delay_ms=delay_ms):
            return Kill(life.kill, "delivered", after_s=delay_ms / 1000)
        case Fault(moment="before"):
            return Kill(life.kill, "before")
        case _:
            return Kill(life.kill, "answered")


def _course(life: Life, records: Sequence[Record]) -> Course:
    writes = [
        f"{line['name']} {line['phase'] or ''}".strip() for line in life.of("write") if line["moment"] == "before"
    ]
    # A quote's id is nobody's business.
    paths = ["/".join(part for part in record.path.split("/") if len(part) < 30) for record in records]
    requests = [f"{record.method} {path}" for record, path in zip(records, paths, strict=True)]
    return Course(writes, requests)
