"""Whether what several workers saw of a store can have been one story: each action's versions, each coin's holders.

A worker notes each write when it begins and when it is answered (`recorder` does so); a worker that was killed leaves
writes that were never answered, which may have been committed or not. From the notes of all workers and from how the
store stands at the end, `violations` tells what cannot have happened in any order of single moments, each between the
beginning and the answer of its write:

* two writes made the same version, a version that nobody made, or one behind the end;
* a version that was there before the one before it could have been made;
* a write that was refused though nobody else had made its version;
* a reading that is older than what had been answered when it began, or newer than what had begun when it was answered;
* a coin that two actions held at the same moment, that was spent twice or held after it was spent, or that stands
  otherwise than its last holder left it.

Where several writes that nobody heard of may have made a version, and do not do the same to a coin, nothing is said of
that coin.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any, Self

from wallet_actions.coins import ActionKey, Coin, CoinState


class Answer(StrEnum):
    """What a worker was told."""

    OK = "ok"
    CONFLICT = "conflict"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a worker did to an action.

    Attributes:
        worker: who, and its incarnation.
        name: `create`, `claim`, `save`, `finish` or `load`; or `claims` for a claim as a whole, of no action: what one
            that was not answered took is not known.
        version: the version that it makes; of a `load` the one that it saw, of a `create` 0.
        begun_s, ended_s: by one clock for all; inf where it was never answered.
        answer: REFUSED for whatever certainly wrote nothing, other than a conflict.
        reserve, release, spend: coins, by id; a `finish` releases what is left.
    """

    worker: str
    name: str
    key: ActionKey
    version: int
    begun_s: float
    ended_s: float = math.inf
    answer: Answer = Answer.UNKNOWN
    reserve: tuple[str, ...] = ()
    release: tuple[str, ...] = ()
    spend: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Write it, on one line."""
        return json.dumps(asdict(self) | {"ended_s": None if self.ended_s == math.inf else self.ended_s})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read it.

        Raises:
            ValueError: it is none.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            fields["key"] = ActionKey(*fields["key"])
            fields["answer"] = Answer(fields["answer"])
            fields["ended_s"] = math.inf if fields["ended_s"] is None else fields["ended_s"]
            fields |= {name: tuple(fields[name]) for name in ("reserve", "release", "spend")}
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an operation ({error})") from None

    def __str__(self) -> str:
        return f"{self.worker}: {self.name} {self.key} v{self.version}"


@dataclass(slots=True)
class _Story:
    """What is known of one action: who made which version, in order; and the versions that an unheard claim made.

    Attributes:
        unheard_s: when the first claim began of which nobody heard; inf where there was none.
        unsure: coins of which it is not known what was done to them.
    """

    key: ActionKey
    unheard_s: float
    made: dict[int, Operation] = field(default_factory=dict)
    unknown: frozenset[int] = frozenset()
    unsure: set[str] = field(default_factory=set)
    found: list[str] = field(default_factory=list)


def violations(
    operations: Iterable[Operation], finals: Mapping[ActionKey, int], coins: Iterable[Coin] = ()
) -> list[str]:
    """What cannot have happened; nothing where all is well.

    Args:
        operations: of all workers, in any order. All writes have to be there.
        finals: the version at which each action stands at the end.
        coins: as they stand at the end; those that are left out are not compared.
    """
    by_key: dict[ActionKey, list[Operation]] = {key: [] for key in finals}
    unheard: list[float] = []
    for operation in operations:
        if operation.name == "claims":
            unheard += [operation.begun_s] if operation.answer is Answer.UNKNOWN else []
        else:
            by_key.setdefault(operation.key, []).append(operation)
    found: list[str] = []
    stories = []
    for key, noted in by_key.items():
        story = _story(key, noted, finals.get(key), unheard)
        _check_order(story)
        _check_answers(story, noted)
        stories.append(story)
        found += story.found
    return found + list(_coins_astray(stories, coins))


def _story(key: ActionKey, noted: list[Operation], final: int | None, unheard: list[float]) -> _Story:
    story = _Story(key, min(unheard, default=math.inf))
    candidates: dict[int, list[Operation]] = {}
    for operation in noted:
        if operation.name != "load" and operation.answer in (Answer.OK, Answer.UNKNOWN):
            candidates.setdefault(operation.version, []).append(operation)
    last = -1 if final is None else final
    for version, makers in sorted(candidates.items()):
        sure = [maker for maker in makers if maker.answer is Answer.OK]
        if len(sure) > 1:
            story.found.append(f"{key}: version {version} was made {len(sure)} times: {', '.join(map(str, sure))}")
        if sure and version > last:
            story.found.append(f"{key}: version {version} was made, and at the end it stands at {last}")
        if sure or version <= last:
            # Of those that heard nothing any may have made it; the first to begin leaves the others most room.
            story.made[version] = min(sure or makers, key=lambda maker: maker.begun_s)
            done = Counter(effect for maker in sure or makers for effect in _done_to_coins(maker))
            story.unsure |= {coin for (coin, _), count in done.items() if count < len(sure or makers)}
    missing = [version for version in range(last + 1) if version not in story.made]
    if missing and (len(missing) > len(unheard) or missing[0] == 0):
        story.found.append(f"{key}: nobody made version {missing[0]}")
    story.unknown = frozenset(missing)
    return story


def _done_to_coins(operation: Operation) -> set[tuple[str, str]]:
    return {(coin, name) for name in ("reserve", "release", "spend") for coin in getattr(operation, name)}


def _check_order(story: _Story) -> None:
    latest: Operation | None = None
    ended: Operation | None = None
    for _, maker in sorted(story.made.items()):
        if ended is not None:
            story.found.append(f"{maker} came after the end, {ended}")
        if latest is not None and latest.begun_s > maker.ended_s:
            story.found.append(f"{maker} was answered before {latest} had begun")
        if latest is None or maker.begun_s > latest.begun_s:
            latest = maker
        if maker.name == "finish":
            ended = maker


def _check_answers(story: _Story, noted: list[Operation]) -> None:
    for operation in noted:
        if operation.answer is Answer.CONFLICT:
            other = story.made.get(operation.version)
            is_known = operation.version not in story.unknown
            if is_known and (other is None or other.begun_s > operation.ended_s):
                story.found.append(f"{operation} conflicted with nobody")
        if operation.name == "load" and operation.answer is Answer.OK:
            least = max((v for v, maker in story.made.items() if maker.ended_s < operation.begun_s), default=-1)
            most = max((v for v, maker in story.made.items() if maker.begun_s <= operation.ended_s), default=-1)
            while story.unheard_s <= operation.ended_s and most + 1 in story.unknown:
                most += 1
            if not least <= operation.version <= most:
                story.found.append(f"{operation} was read when it stood between {least} and {most}")


@dataclass(frozen=True, slots=True)
class _Tenure:
    """A coin in the hands of an action, from one write to another."""

    coin: str
    key: ActionKey
    taken: Operation
    left: Operation | None
    is_spent: bool

    @property
    def left_begun_s(self) -> float:
        return math.inf if self.left is None or self.is_spent else self.left.begun_s


def _coins_astray(stories: Iterable[_Story], coins: Iterable[Coin]) -> Iterator[str]:
    tenures: dict[str, list[_Tenure]] = {}
    unsure: set[str] = set()
    for story in stories:
        unsure |= story.unsure
        for tenure in _tenures(story):
            tenures.setdefault(tenure.coin, []).append(tenure)
    for coin_id in unsure:
        tenures.pop(coin_id, None)
    for coin_id, held in tenures.items():
        held.sort(key=lambda tenure: (tenure.left_begun_s, tenure.taken.begun_s))
        for one, two in pairwise(held):
            if one.is_spent and two.is_spent:
                yield f"coin {coin_id} was spent by {one.key} and by {two.key}"
            elif one.left_begun_s > two.taken.ended_s or one.left_begun_s == math.inf:
                yield f"coin {coin_id} was held by {one.key} and by {two.key} at the same moment"
    for coin in coins:
        if coin.id in unsure:
            continue
        last = tenures.get(coin.id, [None])[-1]
        state, holder = CoinState.SPENDABLE, None
        if last is not None and last.is_spent:
            state, holder = CoinState.SPENT, last.key
        elif last is not None and last.left is None:
            state, holder = CoinState.RESERVED, last.key
        if (coin.state, coin.holder) != (state, holder):
            told = f"{coin.state.value} by {coin.holder}" if coin.holder else coin.state.value
            yield f"coin {coin.id} is {told}, and its last holder left it {state.value}"


def _tenures(story: _Story) -> Iterator[_Tenure]:
    held: dict[str, Operation] = {}
    for _, maker in sorted(story.made.items()):
        for coin in maker.release:
            if coin in held:
                yield _Tenure(coin, story.key, held.pop(coin), maker, is_spent=False)
        for coin in maker.reserve:
            held.setdefault(coin, maker)
        for coin in maker.spend:
            if coin in held:
                yield _Tenure(coin, story.key, held.pop(coin), maker, is_spent=True)
        if maker.name == "finish":
            for coin, taken in held.items():
                yield _Tenure(coin, story.key, taken, maker, is_spent=False)
            held = {}
    for coin, taken in held.items():
        yield _Tenure(coin, story.key, taken, None, is_spent=False)
