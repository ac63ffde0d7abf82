"""What a process answered, as something that JSON can say.

JSON has fewer types than a message. What it lacks is spelt so that a reader still sees
what it was; there is no way back.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping

from barrel_p2p.core.terms import Atom, Pid, Ref

__all__ = ["plain", "term"]

_INTEGER_BITS_MAX = 63


def plain(value: object) -> object:
    """``value`` made of what JSON has.

    Args:
        value: A decoded message, so of bounded depth.

    Returns:
        Lists for tuples and sets; ``{"base64": ...}`` for bytes; hexadecimal text for
        integers of more than 63 bits; the text of atoms, pids and references; a list of
        pairs for a dict with a key that is no text; an object for a typed message.
    """
    match value:
        case None | bool() | float():
            return value
        case Atom():
            return str(value)
        case str():
            return value
        case int():
            return value if value.bit_length() <= _INTEGER_BITS_MAX else hex(value)
        case bytes() | bytearray() | memoryview():
            return {"base64": base64.b64encode(value).decode("ascii")}
        case list() | tuple():
            return [plain(each) for each in value]
        case set() | frozenset():
            return sorted((plain(each) for each in value), key=repr)
        case Mapping():
            return _mapping(value)
        case Pid() | Ref():
            return repr(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            one.name: plain(getattr(value, one.name))
            for one in dataclasses.fields(value)
        }
        return {"type": type(value).__name__, **fields}
    return repr(value)


def _mapping(value: Mapping[object, object]) -> object:
    if all(type(key) is str for key in value):
        return {str(key): plain(each) for key, each in value.items()}
    return [[plain(key), plain(each)] for key, each in value.items()]


def term(value: object) -> object:
    """A name as JSON spells it: a list stands for a tuple."""
    return tuple(map(term, value)) if isinstance(value, list) else value
