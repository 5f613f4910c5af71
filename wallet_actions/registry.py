"""Which class a kind is, and how to read what was stored by it, also by older code.

A stored state of an older schema version goes through the class's upgrade functions one by one; a newer one, or a kind
that nobody registered, raises `CheckpointDecodeError` and is kept (G9, L-U1, L-U2).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from wallet_actions.action import Action, Phase
from wallet_actions.checkpoint import Checkpoint
from wallet_actions.codec import ResultCodec, canonical_json, fault, is_same
from wallet_actions.coins import ActionKey
from wallet_actions.errors import CheckpointDecodeError, InvariantError, UsageError
from wallet_actions.evident import EvidentPhase

AnyAction = Action[Any, Any, Any]


class Kind:
    """One registered class of actions.

    Raises:
        UsageError: the class cannot be stored: no kind, a phase that is not a `Phase`, a gap in the upgrades, ….
    """

    def __init__(self, action_class: type[AnyAction]) -> None:
        name = action_class.kind
        if not name:
            raise UsageError(f"{action_class.__name__} needs a kind: class {action_class.__name__}(…, kind='…')")
        phase_type, result_type = _arguments(action_class)
        self.name = name
        self.action_class = action_class
        self.schema_version = action_class.schema_version
        self.upgrades = dict(action_class.upgrades)
        self.phases: dict[str, type[Phase]] = _phases(name, phase_type)
        self.result = ResultCodec(name, result_type)
        self._phase_adapter = TypeAdapter(phase_type) if _is_plain(action_class) else None
        self._evident = {phase: EvidentPhase.of(phase) for phase in self.phases.values()}
        if type(self.schema_version) is not int or self.schema_version < 1:
            raise UsageError(f"{name}: a schema version is an integer from 1 on")
        missing = [version for version in range(1, self.schema_version) if version not in self.upgrades]
        if missing:
            raise UsageError(f"{name}: schema version {self.schema_version} has no upgrade from {missing}")

    def encode(self, action: AnyAction) -> str:
        """Write an action's state.

        Raises:
            InvariantError: it cannot be stored, or would not read back equal.
        """
        try:
            # No warnings: they quote the value. What they would warn of does not read back.
            fields = action.model_dump(warnings=False)
            fields["phase"]["tag"] = action.phase.tag
            text = canonical_json(fields)
            restored = self.action_class.model_validate_json(text)
            lost = [] if is_same(restored, action) else _differences(restored, action)
        except Exception as error:  # noqa: BLE001 validators and serializers are other people's code
            raise InvariantError(
                f"{action.key}: its state cannot be stored ({fault(error)})", rule="a state is JSON"
            ) from None
        if lost:
            raise InvariantError(
                f"{action.key}: {', '.join(lost)} would not read back as it was", rule="a state reads back as it was"
            )
        return text

    def writer(self, action: AnyAction | None = None, state: str | None = None) -> StateWriter:
        """What writes the states of one action, step after step.

        Args:
            action, state: the action and what it was read from, where that is of this schema version.
        """
        return StateWriter(self, action, state)

    def frame_of(self, action: AnyAction, state: str) -> tuple[str, str] | None:
        """As `frame`, where the action is written as the very text that it was read from; None where it is not.

        It is not where older code of the same schema version wrote the text, or where something was changed in place.
        Where it is, the parameters need no further proof: they were read back just now.
        """
        frame, phase = self.frame(action), self.encode_phase(action)
        is_as_read = frame is not None and f"{frame[0]}{phase}{frame[1]}" == state
        return frame if is_as_read else None

    def frame(self, action: AnyAction) -> tuple[str, str] | None:
        """What stands before and behind the phase in an action's state; None where the phase cannot stand alone.

        It can where no validator or serializer of the author's looks at an action as a whole.
        """
        if self._phase_adapter is None:
            return None
        fields = action.model_dump(warnings=False, exclude={"phase"})
        before = canonical_json({name: value for name, value in fields.items() if name < "phase"})
        behind = canonical_json({name: value for name, value in fields.items() if name > "phase"})
        return f'{before[:-1]}{"," if len(before) > 2 else ""}"phase":', f"{',' if len(behind) > 2 else ''}{behind[1:]}"

    def encode_in_frame(self, action: AnyAction) -> tuple[str, tuple[str, str] | None]:
        """Write an action's state, and what stands before and behind the phase in it, as `frame`.

        Raises:
            InvariantError: as `encode`.
        """
        frame = phase = None
        with suppress(Exception):  # `encode` says what is wrong
            frame = self.frame(action)
            phase = None if frame is None else self.encode_phase(action)
            if frame is not None and phase is not None:
                text = f"{frame[0]}{phase}{frame[1]}"
                if is_same(self.action_class.model_validate_json(text), action):
                    return text, frame
        return self.encode(action), frame

    def encode_phase(self, action: AnyAction) -> str | None:
        """Write an action's phase as it stands in its state; None where it cannot, or would not read back equal."""
        if self._phase_adapter is None:
            return None
        phase = action.phase
        try:
            evident = self._evident.get(type(phase))
            if evident is not None and (text := evident.encode(phase)) is not None:
                return text
            fields = phase.model_dump(warnings=False)
            fields["tag"] = phase.tag
            text = canonical_json(fields)
            restored = self._phase_adapter.validate_json(text)
        except Exception:  # noqa: BLE001 `encode` says what is wrong
            return None
        return text if type(restored) is type(phase) and is_same(restored, phase) else None

    def decode(self, checkpoint: Checkpoint) -> AnyAction:
        """Read an action from its row, upgrading it where it is of an older schema.

        Raises:
            CheckpointDecodeError: newer than this code, broken, or it claims to be another action.
        """
        key = checkpoint.key
        if checkpoint.schema_version > self.schema_version:
            raise _undecodable(
                key, f"was written by newer code (schema {checkpoint.schema_version}, this is {self.schema_version})"
            )
        if checkpoint.state is None:
            raise _undecodable(key, "has no state any more")
        text = checkpoint.state
        try:
            if checkpoint.schema_version < self.schema_version:
                fields = json.loads(text)
                for version in range(checkpoint.schema_version, self.schema_version):
                    fields = self.upgrades[version](fields)
                text = canonical_json(fields)
            action = self.action_class.model_validate_json(text)
            is_same = action.key == key
        except ValidationError as error:
            raise _undecodable(key, f"has a state that this code cannot read ({fault(error)})") from None
        except Exception as error:  # noqa: BLE001 upgrade functions and ids are other people's code: isolate (L-D12)
            what = "upgraded" if checkpoint.schema_version < self.schema_version else "read"
            raise _undecodable(key, f"could not be {what} ({type(error).__name__})") from None
        if not is_same:
            raise _undecodable(key, f"has a state that says {action.id}")
        return action


class StateWriter:
    """Writes the states of one action, step after step.

    An action's parameters never change, so they are written, and proven to read back, once; then only the phase is.
    """

    def __init__(self, kind: Kind, action: AnyAction | None = None, state: str | None = None) -> None:
        self._kind = kind
        self._read, self._state = action, state
        self._frame: tuple[str, str] | None = None

    def encode(self, action: AnyAction) -> str:
        """As `Kind.encode`, in a fraction of the time from the second call on.

        Args:
            action: with the same parameters each time; the executor has checked that.
        """
        if self._read is not None and self._state is not None:
            with suppress(Exception):  # `encode` says what is wrong
                self._frame = self._kind.frame_of(self._read, self._state)
            self._read = self._state = None
        if self._frame is not None and (phase := self._kind.encode_phase(action)) is not None:
            return f"{self._frame[0]}{phase}{self._frame[1]}"
        text, self._frame = self._kind.encode_in_frame(action)
        return text


class Registry:
    """The kinds that an executor can drive.

    Raises:
        UsageError: two classes of one kind, or one that cannot be stored.
    """

    def __init__(self, kinds: Iterable[type[AnyAction]]) -> None:
        self._kinds: dict[str, Kind] = {}
        for action_class in kinds:
            kind = Kind(action_class)
            if kind.name in self._kinds:
                raise UsageError(f"two classes are registered as {kind.name!r}")
            self._kinds[kind.name] = kind

    def __contains__(self, kind: str) -> bool:
        return kind in self._kinds

    def of(self, action: AnyAction) -> Kind:
        """The kind of an action.

        Raises:
            UsageError: its class is not registered.
        """
        kind = self._kinds.get(action.kind) if isinstance(action, Action) else None
        if kind is None or type(action) is not kind.action_class:
            raise UsageError(f"{type(action).__name__} is not registered; give it to the engine's kinds")
        return kind

    def named(self, key: ActionKey) -> Kind:
        """The kind of a stored action.

        Raises:
            CheckpointDecodeError: nobody registered it.
        """
        kind = self._kinds.get(key.kind)
        if kind is None:
            raise _undecodable(key, "is of a kind that is not registered here")
        return kind

    def schema_versions(self) -> dict[str, int]:
        """The kinds, each with the newest schema version that its class can read."""
        return {name: kind.schema_version for name, kind in self._kinds.items()}

    def decode(self, checkpoint: Checkpoint) -> AnyAction:
        """Read an action from its row.

        Raises:
            CheckpointDecodeError: see `Kind.decode`.
        """
        return self.named(checkpoint.key).decode(checkpoint)


def _arguments(action_class: type[AnyAction]) -> tuple[Any, Any]:
    for base in action_class.__mro__:
        metadata = base.__dict__.get("__pydantic_generic_metadata__")
        if metadata and metadata["origin"] is Action:
            _, phase_type, result_type = metadata["args"]
            return phase_type, result_type
    raise UsageError(f"{action_class.__name__} needs its types: Action[Wallet, PhaseA | PhaseB, Result]")


def _is_plain(action_class: type[AnyAction]) -> bool:
    """Whether no code of the author's looks at an action as a whole, or at its phase from outside."""
    authors = action_class.__pydantic_decorators__
    of_all = (authors.model_validators, authors.root_validators, authors.model_serializers, authors.computed_fields)
    of_fields = (authors.validators, authors.field_validators, authors.field_serializers)
    names = {name for group in of_fields for decorator in group.values() for name in decorator.info.fields}
    field = action_class.model_fields["phase"]
    is_aliased = any(one.alias is not None for one in action_class.model_fields.values())
    return not any(of_all) and not names & {"phase", "*"} and not field.metadata and not is_aliased


def _differences(restored: AnyAction, action: AnyAction) -> list[str]:
    lost = [
        f"{part}{name}"
        for part, new, old in (("", restored, action), ("phase.", restored.phase, action.phase))
        for name in type(old).model_fields
        if name != "phase" and getattr(new, name, None) != getattr(old, name)
    ]
    return lost or ["its state"]


def _phases(kind: str, phase_type: Any) -> dict[str, type[Phase]]:
    members = get_args(phase_type) if get_origin(phase_type) in (Union, UnionType) else (phase_type,)
    phases: dict[str, type[Phase]] = {}
    for member in members:
        if not (isinstance(member, type) and issubclass(member, Phase)):
            raise UsageError(f"{kind}: {getattr(member, '__name__', member)} is not a Phase")
        if "tag" in member.model_fields:
            raise UsageError(f"{kind}: the phase {member.__name__} has a field `tag`; that name is taken")
        if member.tag in phases:
            raise UsageError(f"{kind}: two phases are called {member.tag}")
        phases[member.tag] = member
    return phases


def _undecodable(key: ActionKey, what: str) -> CheckpointDecodeError:
    return CheckpointDecodeError(f"{key} {what}; it is kept as it is", kind=key.kind, id=key.id)
