"""The term codec as its specification states it: slower, shorter, plainly right.

Recursive, so only for values that fit Python's own stack. It knows every rule of
docs/reference/wire.md but the two that bound memory and hash collisions.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable

from barrel_p2p.core.terms import Atom, Pid, Ref

__all__ = ["Refused", "decode", "encode", "is_key_term"]

INT_BITS_MAX = 8_192
DEPTH_MAX = 256
ATOM_CHARS_MAX = 255
NODE_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]*@[a-z0-9_][a-z0-9_.-]*")
WORDS = {"undefined": None, "true": True, "false": False}
SCALARS = (str, bytes, Atom, Pid)


class Refused(Exception):
    """The value or the bytes are outside the closed subset."""


def encode(value: object) -> bytes:
    return b"\x83" + _encode(value, depth=0, in_key=False)


def _encode(value: object, *, depth: int, in_key: bool) -> bytes:
    match value:
        case None:
            return _encode_name("undefined")
        case bool():
            return _encode_name("true" if value else "false")
        case int():
            return _encode_int(value)
        case float():
            if in_key and math.isnan(value):
                raise Refused("nan in a key")
            return b"F" + struct.pack(">d", value)
        case bytes():
            return b"m" + struct.pack(">I", len(value)) + value
        case str():
            text = value.encode()
            head = struct.pack("BB", 224, len(text)) if len(text) < 256 else b""
            return (head or struct.pack(">BI", 225, len(text))) + text
        case Atom():
            return _encode_name(value.name)
        case Pid():
            low, high = value.id & 0xFFFFFFFF, value.id >> 32
            numbers = struct.pack(">III", low, high, value.creation)
            return b"X" + _encode_name(value.node) + numbers
        case Ref():
            words = struct.pack(f">{len(value.words)}I", *value.words)
            head = b"Z" + struct.pack(">H", len(value.words))
            return (
                head
                + _encode_name(value.node)
                + struct.pack(">I", value.creation)
                + words
            )
    return _encode_container(value, depth=depth, in_key=in_key)


def _encode_container(value: object, *, depth: int, in_key: bool) -> bytes:
    if depth == DEPTH_MAX:
        raise Refused("too deep")

    def part(element: object, key: bool = in_key) -> bytes:
        return _encode(element, depth=depth + 1, in_key=key)

    match value:
        case tuple():
            n = len(value)
            head = b"h" + bytes([n]) if n < 256 else b"i" + struct.pack(">I", n)
            return head + b"".join(map(part, value))
        case []:
            return b"j"
        case list():
            body = b"".join(map(part, value))
            return b"l" + struct.pack(">I", len(value)) + body + b"j"
        case dict():
            pairs = (part(k, True) + part(v, False) for k, v in value.items())
            return b"t" + struct.pack(">I", len(value)) + b"".join(pairs)
        case set() | frozenset():
            tag = 226 if isinstance(value, set) else 227
            members = b"".join(part(m, True) for m in value)
            return struct.pack(">BI", tag, len(value)) + members
    raise Refused(type(value).__name__)


def _encode_name(name: str) -> bytes:
    text = name.encode()
    if len(text) < 256:
        return b"w" + bytes([len(text)]) + text
    return b"v" + struct.pack(">H", len(text)) + text


def _encode_int(value: int) -> bytes:
    if 0 <= value < 256:
        return b"a" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"b" + struct.pack(">i", value)
    if value.bit_length() > INT_BITS_MAX:
        raise Refused("too many bits")
    size = (value.bit_length() + 7) // 8
    head = b"n" + bytes([size]) if size < 256 else b"o" + struct.pack(">I", size)
    return head + bytes([value < 0]) + abs(value).to_bytes(size, "little")


def decode(data: bytes) -> object:
    reader = _Reader(data)
    if reader.take(1) != b"\x83":
        raise Refused("version")
    value = reader.value(depth=0, in_key=False)
    if reader.at != len(data):
        raise Refused("trailing bytes")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, n: int) -> bytes:
        if n > len(self.data) - self.at:
            raise Refused("short")
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def value(self, *, depth: int, in_key: bool) -> object:
        tag = self.take(1)[0]
        scalar = _SCALARS.get(tag)
        if scalar is not None:
            value = scalar(self)
            if in_key and isinstance(value, float) and math.isnan(value):
                raise Refused("nan in a key")
            return value
        if tag not in _CONTAINERS:
            raise Refused(f"tag {tag}")
        if in_key and tag not in (104, 105, 227):
            raise Refused("unhashable key")
        if depth == DEPTH_MAX:
            raise Refused("too deep")
        return _CONTAINERS[tag](self, depth + 1, in_key)

    def values(self, n: int, depth: int, in_key: bool) -> list[object]:
        if n > len(self.data) - self.at:
            raise Refused("count")
        return [self.value(depth=depth, in_key=in_key) for _ in range(n)]

    def text(self, n: int, encoding: str = "utf-8") -> str:
        try:
            return self.take(n).decode(encoding)
        except UnicodeDecodeError as error:
            raise Refused("text") from error

    def big(self, size: int) -> int:
        if size > INT_BITS_MAX // 8:
            raise Refused("too many bits")
        sign = self.number(1)
        if sign > 1:
            raise Refused("sign")
        magnitude = int.from_bytes(self.take(size), "little")
        return -magnitude if sign else magnitude

    def atom(self, n: int, encoding: str = "utf-8") -> object:
        name = self.text(n, encoding)
        if len(name) > ATOM_CHARS_MAX:
            raise Refused("long atom")
        return WORDS[name] if name in WORDS else Atom(name)

    def node(self) -> str:
        tag = self.take(1)[0]
        if tag not in (100, 115, 118, 119):
            raise Refused("node")
        size = self.number(2 if tag in (100, 118) else 1)
        name = self.text(size, "latin-1")
        clean = not name.endswith(".") and ".@" not in name
        if len(name) > 200 or not clean or not NODE_NAME.fullmatch(name):
            raise Refused("node")
        return name

    def pid(self) -> Pid:
        node, low, high = self.node(), self.number(4), self.number(4)
        return Pid(node, high << 32 | low, self.number(4))

    def ref(self) -> Ref:
        count = self.number(2)
        if not 1 <= count <= 5:
            raise Refused("words")
        node, creation = self.node(), self.number(4)
        return Ref(node, creation, tuple(self.number(4) for _ in range(count)))

    def improper(self, depth: int, in_key: bool) -> list[object]:
        items = self.values(self.number(4), depth, in_key)
        if self.take(1) != b"j":
            raise Refused("tail")
        return items

    def map(self, depth: int, in_key: bool) -> dict[object, object]:
        count = self.number(4)
        if 2 * count > len(self.data) - self.at:
            raise Refused("count")
        made: dict[object, object] = {}
        for _ in range(count):
            key = self.value(depth=depth, in_key=True)
            made[key] = self.value(depth=depth, in_key=in_key)
        if len(made) != count:
            raise Refused("duplicate")
        return made

    def members(self, depth: int, in_key: bool) -> frozenset[object]:
        count = self.number(4)
        made = frozenset(self.values(count, depth, True))
        if len(made) != count:
            raise Refused("duplicate")
        return made


_SCALARS: dict[int, Callable[[_Reader], object]] = {
    70: lambda r: struct.unpack(">d", r.take(8))[0],
    88: _Reader.pid,
    90: _Reader.ref,
    97: lambda r: r.number(1),
    98: lambda r: int.from_bytes(r.take(4), signed=True),
    100: lambda r: r.atom(r.number(2), "latin-1"),
    109: lambda r: r.take(r.number(4)),
    110: lambda r: r.big(r.number(1)),
    111: lambda r: r.big(r.number(4)),
    115: lambda r: r.atom(r.number(1), "latin-1"),
    118: lambda r: r.atom(r.number(2)),
    119: lambda r: r.atom(r.number(1)),
    224: lambda r: r.text(r.number(1)),
    225: lambda r: r.text(r.number(4)),
}
_CONTAINERS: dict[int, Callable[[_Reader, int, bool], object]] = {
    104: lambda r, depth, key: tuple(r.values(r.number(1), depth, key)),
    105: lambda r, depth, key: tuple(r.values(r.number(4), depth, key)),
    106: lambda r, depth, key: [],
    107: lambda r, depth, key: list(r.take(r.number(2))),
    108: _Reader.improper,
    116: _Reader.map,
    226: lambda r, depth, key: set(r.members(depth, key)),
    227: _Reader.members,
}


def is_key_term(value: object, *, depth: int = 0) -> bool:
    """Whether ``value`` may name a service or key a map."""
    if type(value) is tuple:
        return depth < 8 and all(is_key_term(v, depth=depth + 1) for v in value)
    return type(value) is int or type(value) in SCALARS
