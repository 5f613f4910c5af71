"""Reads CBOR (RFC 8949) as far as a token needs it, from strangers, in bounded time and memory.

A general decoder makes regular expressions, big decimals, dates and shared references out of tagged items, and builds
what a header merely announces. A token holds maps, arrays, text, bytes and integers, so that is what is read here;
a tag is passed over, and its content taken as it is.
"""

from __future__ import annotations

import struct
from typing import Final

from wallet_actions.cashu.errors import MalformedError

MAX_DEPTH: Final = 16
"""How deep items may lie in one another; a token's lie six deep."""

MAX_ITEMS: Final = 200_000
"""How many items there may be in all; ten thousand coins with their DLEQ proofs take less."""

_BREAK: Final = object()
_INDEFINITE: Final = 31
_FLOATS: Final = {25: ">e", 26: ">f", 27: ">d"}
_SIMPLE: Final = {20: False, 21: True, 22: None, 23: None}


def read_cbor(data: bytes) -> object:
    """Read one item that takes up all of the data.

    Returns:
        A dict, list, str, bytes, int, float, bool or None.

    Raises:
        MalformedError: truncated, followed by something, too deep, too many items, a key twice in a map, text that is
            not UTF-8, or not well-formed. The message has nothing of the data in it.
    """
    reader = _Reader(data)
    item = reader.item(0)
    if item is _BREAK or reader.place != len(data):
        raise MalformedError("CBOR that does not end where its data ends")
    return item


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0
        self.items = 0

    def item(self, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise MalformedError("CBOR that is nested too deep")
        self.items += 1
        if self.items > MAX_ITEMS:
            raise MalformedError("CBOR of too many items")
        first = self._take(1)[0]
        major, info = first >> 5, first & 0x1F
        if major == 7:
            return self._simple(info)
        if info == _INDEFINITE:
            return self._indefinite(major, depth)
        number = self._number(info)
        match major:
            case 0:
                return number
            case 1:
                return -1 - number
            case 2:
                return self._take(number)
            case 3:
                return _text(self._take(number))
            case 4:
                self._afford(number)
                return [self._inner(depth) for _ in range(number)]
            case 5:
                self._afford(2 * number)
                pairs: dict[object, object] = {}
                for _ in range(number):
                    self._pair(pairs, self._inner(depth), depth)
                return pairs
            case _:
                return self._inner(depth)

    def _take(self, length: int) -> bytes:
        self._afford(length)
        self.place += length
        return self.data[self.place - length : self.place]

    def _afford(self, length: int) -> None:
        if length > len(self.data) - self.place:
            raise MalformedError("CBOR that ends too early")

    def _number(self, info: int) -> int:
        if info < 24:
            return info
        if info > 27:
            raise MalformedError("CBOR with a length of no known form")
        return int.from_bytes(self._take(1 << (info - 24)), "big")

    def _simple(self, info: int) -> object:
        if info == _INDEFINITE:
            return _BREAK
        if info in _FLOATS:
            (value,) = struct.unpack(_FLOATS[info], self._take(1 << (info - 24)))
            return value
        self._number(info)
        return _SIMPLE.get(info)

    def _inner(self, depth: int) -> object:
        item = self.item(depth + 1)
        if item is _BREAK:
            raise MalformedError("CBOR with a break where an item belongs")
        return item

    def _pair(self, pairs: dict[object, object], key: object, depth: int) -> None:
        # A list or a map as a key is well-formed, and no field of any token: not worth a form that could be a key here.
        if not isinstance(key, (str, bytes, int)):
            raise MalformedError("CBOR with a key that is neither text, bytes nor an integer")
        if key in pairs:
            raise MalformedError("CBOR with a key twice in a map")
        pairs[key] = self._inner(depth)

    def _indefinite(self, major: int, depth: int) -> object:
        match major:
            case 2 | 3:
                return self._chunks(major)
            case 4:
                items: list[object] = []
                while (item := self.item(depth + 1)) is not _BREAK:
                    items.append(item)
                return items
            case 5:
                pairs: dict[object, object] = {}
                while (key := self.item(depth + 1)) is not _BREAK:
                    self._pair(pairs, key, depth)
                return pairs
            case _:
                raise MalformedError("CBOR with a length of no known form")

    def _chunks(self, major: int) -> str | bytes:
        chunks: list[bytes] = []
        while (first := self._take(1)[0]) != 0xFF:
            if first >> 5 != major or first & 0x1F == _INDEFINITE:
                raise MalformedError("CBOR with a string made of something else than its parts")
            chunks.append(self._take(self._number(first & 0x1F)))
        return b"".join(chunks) if major == 2 else "".join(map(_text, chunks))


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MalformedError("text that is not UTF-8") from None
