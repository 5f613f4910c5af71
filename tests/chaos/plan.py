"""What is asked for and what goes wrong, and when: all of it from the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.chaos.desk import Batch, Deposit, Express, Metered, Payment

TENANTS = ("acme", "bell", "corp", "dial", "echo")
SHARES = (60, 10, 10, 10, 10)  # one tenant has most of the work
FIRST_DEPOSITS = 4  # of each tenant
WEIGHTS = {Deposit.kind: 30, Payment.kind: 40, Express.kind: 2, Metered.kind: 2, Batch.kind: 8}
DEPOSIT, PAYMENT = (60, 400), (5, 90)
TWICE, CALLED_OFF, RESERVES = 0.06, 0.06, 0.4
CLUMP = (4, 14)  # limited kinds come in clumps, so that the limits bind
CALL_OFF_AFTER_S = (0.0, 2.0)
KILL_EVERY, STOP_EVERY, DATABASE_EVERY = 80, 110, 110  # actions
STOP_LEASES, SURE_LEASES, DEAD_STOP = (0.8, 3.0), (1.5, 2.0), 0.15
OUTAGE_S, LOCK_S, HALF_OPEN_S = (0.2, 2.5), (0.3, 3.5), (1.0, 4.0)
MOST_BYTES = 4000

FaultName = Literal["kill", "stop", "crash", "cut", "half_open", "lock"]
DATABASE: dict[str, tuple[FaultName, ...]] = {
    "sqlite": ("lock",),
    "postgres": ("crash", "half_open", "cut", "half_open", "cut"),
}


@dataclass(frozen=True, slots=True)
class Start:
    """An action is asked for, of one worker or of two at once."""

    at_s: float
    number: int
    task: dict[str, Any]
    sides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CallOff:
    """An action that was asked for is called off."""

    at_s: float
    task: dict[str, Any]
    side: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Something goes wrong.

    Attributes:
        side: with which worker.
        seconds: how long it lasts.
        dies: a worker that was stopped is killed instead of going on.
        after: how many more bytes a connection lives that is cut.
        sender: whose bytes.
    """

    at_s: float
    name: FaultName
    side: int
    seconds: float = 0.0
    dies: bool = False
    after: int = 0
    sender: Literal["client", "peer"] = "client"


@dataclass(slots=True)
class Plan:
    """All that is to happen, in the order of its time.

    Attributes:
        actions: how many will be there in the end.
    """

    events: list[Start | CallOff | Fault] = field(default_factory=list)
    actions: int = 0


def draw(seed: int, database: str, *, actions: int, seconds: float, workers: int, lease_s: float) -> Plan:
    """Draw a plan.

    Args:
        actions: how many at least; those that batches start are counted.
        seconds: over which they are spread.
    """
    chance = random.Random(f"{seed}:{database}")
    plan = Plan()
    tasks = _tasks(chance, actions, plan)
    for number, task in enumerate(tasks):
        at_s = seconds * number / len(tasks)
        first = chance.randrange(workers)
        other = (first + chance.randrange(1, workers)) % workers
        sides = (first, other) if chance.random() < TWICE else (first,)
        plan.events.append(Start(at_s, number, task, sides))
        if task["kind"] in (Payment.kind, Express.kind, Metered.kind) and chance.random() < CALLED_OFF:
            after_s = chance.uniform(*CALL_OFF_AFTER_S)
            plan.events.append(CallOff(at_s + after_s, task, chance.randrange(workers)))
    count = len(tasks)
    for _ in range(max(2, count // KILL_EVERY)):
        plan.events.append(Fault(chance.uniform(0.05, 1) * seconds, "kill", chance.randrange(workers)))
    for number in range(max(2, count // STOP_EVERY)):
        # Most outlive their lease; the first one surely, and lives.
        leases = chance.uniform(*(STOP_LEASES if number else SURE_LEASES))
        at_s, side = chance.uniform(0.05, 1) * seconds, chance.randrange(workers)
        dies = chance.random() < DEAD_STOP and number > 0
        plan.events.append(Fault(at_s, "stop", side, lease_s * leases, dies=dies))
    for number in range(max(3, count // DATABASE_EVERY)):
        names = DATABASE[database]
        plan.events.append(_database_fault(chance, names[number % len(names)], seconds, workers))
    plan.events.sort(key=lambda event: event.at_s)
    return plan


def _database_fault(chance: random.Random, name: FaultName, seconds: float, workers: int) -> Fault:
    lasts_s = chance.uniform(*{"crash": OUTAGE_S, "lock": LOCK_S, "half_open": HALF_OPEN_S}.get(name, (0, 0)))
    return Fault(
        *(chance.uniform(0.05, 1) * seconds, name, chance.randrange(workers), lasts_s),
        after=chance.choice((0, chance.randrange(MOST_BYTES))),
        sender=chance.choice(("client", "peer")),
    )


def _tasks(chance: random.Random, actions: int, plan: Plan) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = []

    def add(kind: str, owner: str) -> None:
        task: dict[str, Any] = {"kind": kind, "name": f"{kind[0]}{len(tasks):05}", "owner": owner}
        plan.actions += 1
        if kind == Batch.kind:
            task["deposits"] = [chance.randint(*DEPOSIT) for _ in range(chance.randint(0, 2))]
            task["payments"] = [chance.randint(*PAYMENT) for _ in range(chance.randint(1, 2))]
            plan.actions += len(task["deposits"]) + len(task["payments"])
        elif kind == Deposit.kind:
            task["amount"] = chance.randint(*DEPOSIT)
        else:
            task |= {"amount": chance.randint(*PAYMENT), "holds": kind == Express.kind}
            task |= {name: chance.random() < 0.5 for name in ("looks", "waits")}
            if kind == Payment.kind:
                task["reserves"] = chance.random() < RESERVES
        tasks.append(task)

    for owner in TENANTS * FIRST_DEPOSITS:
        if plan.actions < actions:
            add(Deposit.kind, owner)
    while plan.actions < actions:
        (kind,) = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
        clump = chance.randint(*CLUMP) if kind in (Express.kind, Metered.kind) else 1
        (owner,) = chance.choices(TENANTS, SHARES)
        for _ in range(clump):
            if plan.actions < actions:
                add(kind, owner)
    return tasks
