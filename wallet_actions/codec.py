"""Actions and results as canonical JSON, and back.

Equal values give equal text (L-S8): keys are sorted, sets too. Sensitive values are written in full, since they are
needed again; that is why the text itself is sensitive. Whatever is written is read back and compared first, so a value
that cannot survive the disk is found at once and not after a crash.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

from pydantic import BaseModel, ConfigDict, PydanticUserError, SecretBytes, SecretStr, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from wallet_actions.action import field_names
from wallet_actions.coins import ActionKey
from wallet_actions.errors import InvariantError


def canonical_json(value: Any) -> str:
    """Write plain values, models, secrets and sets as canonical JSON.

    Raises:
        TypeError, ValueError: something in it has no JSON form.
    """
    return _encode(value)


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, SecretBytes):
        return _plain(value.get_secret_value())
    if isinstance(value, AbstractSet):
        return sorted((_keyed(item) for item in value), key=canonical_json)
    if isinstance(value, BaseModel):
        return value.model_dump()
    return to_jsonable_python(value, bytes_mode="base64", inf_nan_mode="strings")


def _keyed(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None | tuple) else _plain(value)


def _encoder() -> Callable[[Any], str]:
    encoder = json.JSONEncoder(
        default=_plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    # What `encode` makes anew for each text, made once. It does not look for circles; those exceed the recursion limit.
    write = make(None, _plain, json.encoder.encode_basestring, None, ":", ",", True, False, False)

    def encode(value: Any) -> str:
        try:
            return "".join(write(value, 0))
        except RecursionError:
            raise ValueError("it contains itself, or is too deep") from None

    return encode


_encode = _encoder()


def is_same(one: BaseModel, other: BaseModel) -> bool:
    """As `one == other`; for two models that hold their fields and nothing else, in half the time."""
    model = type(one)
    if type(other) is not model or model.__eq__ is not BaseModel.__eq__:
        return one == other
    old, new = one.__dict__, other.__dict__
    if not len(old) == len(new) == len(field_names(model)):
        return one == other  # a cached property lives there too
    return (
        old == new
        and one.__pydantic_private__ == other.__pydantic_private__
        and one.__pydantic_extra__ == other.__pydantic_extra__
    )


class ResultCodec:
    """Writes and reads the result of a kind.

    Args:
        kind: for messages.
        result_type: what `Done` carries; None where it carries nothing.
    """

    def __init__(self, kind: str, result_type: Any) -> None:
        self._kind = kind
        self._is_none = result_type is None or result_type is type(None)
        self._adapter = _adapter(type(None) if result_type is None else result_type)

    def encode(self, result: Any, key: ActionKey | None = None) -> str:
        """Write a result.

        Args:
            key: whose it is, for messages.
        Raises:
            InvariantError: it is not of the kind's result type, or cannot be stored.
        """
        if result is None and self._is_none:
            return "null"
        whose = self._kind if key is None else str(key)
        try:
            # Validated first: `Done` may carry anything, and what is stored has to be readable for ever.
            checked = self._adapter.validate_python(result)
            text = canonical_json(self._adapter.dump_python(checked, warnings=False))
            restored = self._adapter.validate_json(text)
            is_kept = restored == checked
        except Exception as error:  # noqa: BLE001 validators and serializers are other people's code
            raise InvariantError(
                f"{whose}: the result is not what the action declares ({fault(error)})",
                rule="Done carries the declared result",
            ) from None
        if not is_kept:
            raise InvariantError(
                f"{whose}: the result does not survive being stored", rule="a result reads back as it was"
            )
        return text

    def decode(self, text: str | None) -> Any:
        """Read a result.

        Raises:
            ValueError: the text is not a result of this kind.
        """
        return self._adapter.validate_json("null" if text is None else text)


def _adapter(result_type: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(result_type, config=ConfigDict(val_json_bytes="base64", hide_input_in_errors=True))
    except PydanticUserError:  # a model has a configuration of its own
        return TypeAdapter(result_type)


def fault(error: Exception) -> str:
    """What is wrong with a value, without the value: where, and which rule."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "value"
        return f"{place}: {first['type']}"
    return type(error).__name__
