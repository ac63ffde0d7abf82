"""Random values of the closed subset, with the edges of every tag made likely."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from hypothesis import strategies as st

from barrel_p2p.core.terms import Atom, Pid, Ref

__all__ = [
    "ATOM",
    "KEY_TERM",
    "NODE",
    "PID",
    "REF",
    "VALUE",
    "is_same",
]

_EDGES = (7, 8, 15, 16, 29, 30, 31, 32, 60, 62, 63, 64, 128, 2_039, 2_040, 2_048)
_NEAR = st.builds(
    lambda bits, step, sign: sign * (2**bits + step),
    st.sampled_from(_EDGES),
    st.integers(-1, 1),
    st.sampled_from([1, -1]),
)
_U32 = st.sampled_from([0, 1, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
_TEXT = st.text(max_size=12) | st.sampled_from(
    ["", "a", "é", "€" * 84, "€" * 85 + "x", "x" * 32, "x" * 33, "x" * 255, "x" * 256]
)
_BYTES = st.binary(max_size=40) | st.sampled_from([b"", b"\0", b"x" * 300])
INTEGER = st.integers(-300, 300) | _NEAR | st.integers(-(2**200), 2**200)
_FLOAT = st.floats(allow_nan=False)
_PART = st.from_regex(r"[a-z0-9_]([a-z0-9_.-]{0,20}[a-z0-9_-])?", fullmatch=True)

NODE = st.builds("{}@{}".format, _PART, _PART)
_NAME = st.text(max_size=20) | st.sampled_from(["nil", "é" * 255, "x" * 255, "ok"])
ATOM = _NAME.filter(lambda name: name not in ("undefined", "true", "false")).map(Atom)
_ID = st.sampled_from([0, 2**31, 2**32, 2**64 - 1]) | st.integers(0, 2**64 - 1)
PID = st.builds(Pid, NODE, _ID, _U32)
REF = st.builds(Ref, NODE, _U32, st.lists(_U32, min_size=1, max_size=5).map(tuple))

KEY_TERM: st.SearchStrategy[Hashable] = st.recursive(
    _TEXT | _BYTES | INTEGER | ATOM | PID,
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=8,
)


def _containers(
    inner: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=6)
        | st.lists(inner, max_size=6).map(tuple)
        | st.dictionaries(keys, inner, max_size=6)
        | st.sampled_from([[], (), {}, tuple(range(256)), list(range(300))])
    )


def _with_sets(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return _containers(inner, _HASHABLE) | st.sets(_HASHABLE, max_size=6)


_COMMON = st.none() | st.booleans() | INTEGER | _FLOAT | _BYTES | ATOM | PID | REF
_HASHABLE: st.SearchStrategy[Any] = st.recursive(
    _COMMON | _TEXT,
    lambda inner: (
        st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4)
    ),
    max_leaves=6,
)
VALUE: st.SearchStrategy[Any] = st.recursive(
    _HASHABLE | _FLOAT | st.just(float("inf")), _with_sets, max_leaves=20
)


def is_same(a: object, b: object) -> bool:
    """Equal in value, type and, for dicts, order; NaN counts as equal to NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        assert isinstance(b, dict)
        return is_same(list(a.items()), list(b.items()))
    if isinstance(a, list | tuple):
        assert isinstance(b, list | tuple)
        return len(a) == len(b) and all(map(is_same, a, b))
    if isinstance(a, float):
        assert isinstance(b, float)
        return a.hex() == b.hex()
    if isinstance(a, set | frozenset):
        assert isinstance(b, set | frozenset)
        return a == b and sorted(map(repr, map(type, a))) == sorted(
            map(repr, map(type, b))
        )
    return a == b
