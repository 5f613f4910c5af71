"""What has to hold, whatever happened (T4). Each can be asked alone; each answers with what it found wrong.

An answer is a list of sentences, empty where all is well. They name ids, never secrets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from wallet_actions.checkpoint import Checkpoint, HistoryEntry, Status
from wallet_actions.coins import ActionKey, Coin, CoinState
from wallet_actions.store import Store

PAGE = 500

Sums = Mapping[tuple[str, str], int]
"""Amounts by account and unit."""


async def all_actions(store: Store) -> list[Checkpoint]:
    """Every action, oldest first."""
    actions: list[Checkpoint] = []
    while page := await store.list_actions(after=actions[-1].row if actions else 0, limit=PAGE):
        actions.extend(page)
    return actions


async def all_coins(store: Store) -> list[Coin]:
    """Every coin, by id."""
    coins: list[Coin] = []
    while page := await store.coins(after=coins[-1].id if coins else "", limit=PAGE):
        coins.extend(page)
    return coins


async def conserved(store: Store, owed: Sums) -> list[str]:
    """The wallet owns what its peers say is outstanding, in each account and unit (G4).

    Args:
        owed: by the peers' own books.
    """
    owned = {(one.account, one.unit): (one.spendable + one.reserved, one.reserved) for one in await store.balances()}
    found = []
    for place in sorted(owned.keys() | owed.keys()):
        (mine, reserved), theirs = owned.get(place, (0, 0)), owed.get(place, 0)
        if mine != theirs:
            account, unit = place
            held = f" ({reserved} of them reserved)" if reserved else ""
            found.append(f"{account}: the wallet owns {mine} {unit}{held}, its peer says {theirs}")
    return found


async def held_rightly(store: Store) -> list[str]:
    """A coin is held by one action that is under way, or by nobody (G5, L-C1, L-C10)."""
    status = {action.key: action.status for action in await all_actions(store)}
    found = []
    for coin in await all_coins(store):
        if (coin.state is CoinState.SPENDABLE) is not (coin.holder is None):
            found.append(f"coin {coin.id} is {coin.state.value}, and its holder is {coin.holder or 'nobody'}")
        elif coin.state is CoinState.RESERVED and (holder := coin.holder) is not None:
            if holder not in status:
                found.append(f"coin {coin.id} is reserved by {holder}, which does not exist")
            elif status[holder].is_terminal:
                found.append(f"coin {coin.id} is reserved by {holder}, which is {status[holder].value}")
    return found


def once(effects: Mapping[str, int]) -> list[str]:
    """No key had more than one effect at a peer."""
    return [f"{key} had {count} effects at the peer" for key, count in sorted(effects.items()) if count > 1]


async def truthful(store: Store, outcomes: Mapping[ActionKey, bool]) -> list[str]:
    """An action says done where its peers have done it, and failed or cancelled where they have not (L-S9, L-C5).

    Args:
        outcomes: by the peers' own books; actions that are not named are not judged.
    """
    found = []
    for action in await all_actions(store):
        is_done = outcomes.get(action.key)
        if is_done is False and action.status is Status.DONE:
            found.append(f"{action.key} is done, and its peer has not done it")
        elif is_done and action.status in (Status.FAILED, Status.CANCELLED):
            found.append(f"{action.key} is {action.status.value}, and its peer has done it")
    return found


async def history_complete(store: Store) -> list[str]:
    """Each action's history tells every version once, in order, and ends as the action stands.

    A version that a claim made (see `fleet`) is told by nobody.
    """
    has_claims = getattr(store, "is_shared", False)
    found = []
    for action in await all_actions(store):
        entries = await history_of(store, action.key)
        if action.state is None and not entries:
            continue  # pruned
        told = [entry.version for entry in entries]
        if has_claims:
            is_whole = told[:1] == [0] and told == sorted(set(told)) and told[-1] <= action.version
        else:
            is_whole = told == list(range(action.version + 1))
        if not is_whole:
            found.append(
                f"{action.key}: the history tells of {len(entries)} versions, the action has {action.version + 1}"
            )
        elif entries[-1].status is not action.status:
            found.append(f"{action.key} is {action.status.value}, its history ends with {entries[-1].status.value}")
    return found


async def terminal_is_final(store: Store) -> list[str]:
    """Nothing was written after an action had ended (L-S9)."""
    found = []
    for action in await all_actions(store):
        entries = await history_of(store, action.key)
        ends = [entry.version for entry in entries if entry.status.is_terminal]
        if len(ends) > 1 or (ends and ends[0] != entries[-1].version):
            found.append(f"{action.key} was written again after it had ended at version {ends[0]}")
    return found


async def all_ended(store: Store) -> list[str]:
    """Every action has ended: what liveness means once the faults have stopped."""
    return [
        f"{action.key} is {action.status.value} in {action.phase}"
        + (f": {action.error.message}" if action.error is not None else "")
        for action in await all_actions(store)
        if not action.status.is_terminal
    ]


def unspoken(texts: Iterable[str], secrets: Iterable[str]) -> list[str]:
    """No secret appears in logs, errors, reprs or histories.

    Args:
        texts: whatever was said.
        secrets: what must not be in it; the answer counts them, and does not repeat them.
    """
    known = {secret for secret in secrets if secret}
    found = []
    for text in texts:
        leaked = sum(secret in text for secret in known)
        if leaked:
            found.append(f"{leaked} secret{'s' * (leaked > 1)} in: {masked(text, known)[:200]}")
    return found


def masked(text: str, secrets: Iterable[str]) -> str:
    """A text with *** in place of each secret."""
    for secret in sorted((secret for secret in secrets if secret), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


async def history_of(store: Store, key: ActionKey) -> list[HistoryEntry]:
    """All of an action's history."""
    entries: list[HistoryEntry] = []
    after = -1
    while page := await store.history(key, after=after):
        entries.extend(page)
        if page[-1].version <= after:
            break  # a store that lost its order would be read for ever
        after = page[-1].version
    return entries


async def spoken_by(store: Store) -> list[str]:
    """All texts of a store that people get to see: errors, notes, ids."""
    texts = []
    for action in await all_actions(store):
        texts += [f"{action.key}", repr(action)]
        texts += [repr(entry) for entry in await history_of(store, action.key)]
    return texts + [repr(coin) for coin in await all_coins(store)] + [repr(fact) for fact in await store.facts()]


async def standing(store: Store) -> list[str]:
    """How all actions and balances stand, for people: a line each."""
    lines = [
        f"{action.key}: {action.status.value} in {action.phase}, version {action.version}"
        + (f", {action.attempts} attempts" if action.attempts else "")
        + (f", {action.error.message}" if action.error else "")
        for action in await all_actions(store)
    ]
    lines += [
        f"{one.account}: {one.spendable} {one.unit} spendable, {one.reserved} reserved"
        for one in await store.balances()
    ]
    return lines or ["nothing"]


def differences(clean: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """How a run ended other than the run without faults."""
    return [
        f"{name}: {other.get(name)!r}, without a fault {clean.get(name)!r}"
        for name in sorted(clean.keys() | other.keys())
        if clean.get(name) != other.get(name)
    ]


async def ending(store: Store, statuses: Sequence[Status] = tuple(Status)) -> dict[str, object]:
    """How a run ended, in what must not depend on when it crashed: statuses, balances, facts."""
    end: dict[str, object] = {
        f"action {action.key}": action.status.value for action in await all_actions(store) if action.status in statuses
    }
    for one in await store.balances():
        end[f"balance {one.account} {one.unit}"] = (one.spendable, one.reserved)
    for _, fact in await store.facts():
        end[f"fact {fact.kind} {fact.key}"] = "there"
    return end
