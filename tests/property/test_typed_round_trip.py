"""Typed messages survive the wire in any container, and hostile ones are refused."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.terms import Atom, Pid
from barrel_p2p.errors import InvalidValue
from barrel_p2p.runtime.typed import MESSAGE_TAG, UnknownMessage, lift, lower, message
from barrel_p2p.wire.terms import decode, encode


@message(name="property.leaf")
class Leaf:
    label: str
    count: int = 0
    data: bytes = b""


@message(name="property.node")
class Node:
    left: Leaf | Node | None
    right: tuple[Leaf, ...] = ()
    extra: Any = None
    pid: Pid | None = None


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.just(Atom("x"))
)
leaves = st.builds(Leaf, st.text(max_size=5), st.integers(-9, 9), st.binary(max_size=3))
unknown = st.builds(
    UnknownMessage,
    st.text(min_size=1, max_size=5).map("property.unknown.".__add__),
    st.dictionaries(st.text(max_size=3), scalars, max_size=3),
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | leaves, inner, max_size=3)
        | st.frozensets(leaves | st.integers(2, 9), max_size=3)
        | st.builds(
            Node,
            st.none() | leaves,
            st.lists(leaves, max_size=2).map(tuple),
            inner,
        )
    )


values = st.recursive(scalars | leaves | unknown, containers, max_leaves=12)


@given(values)
def test_what_is_sent_is_what_arrives(value: Any) -> None:
    arrived = lift(decode(encode(lower(value))), "b@h")
    assert arrived == value
    assert repr(arrived) == repr(value) or "frozenset" in repr(value)


names = st.sampled_from(
    ["property.leaf", "property.node", "label", "left", "right", "extra", "__class__"]
)
pieces = st.recursive(
    scalars | names | st.just(MESSAGE_TAG),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=6).map(tuple)
        | st.builds(lambda n, rest: (MESSAGE_TAG, n, *rest), names, st.lists(inner))
        | st.dictionaries(names, inner, max_size=3)
    ),
    max_leaves=20,
)


@given(pieces)
def test_any_term_becomes_checked_values_or_is_refused(term: Any) -> None:
    try:
        value = lift(term, "b@h")
    except InvalidValue:
        return
    check(value)


def check(value: Any) -> None:
    match value:
        case Leaf(label, count, data):
            assert type(label) is str
            assert type(count) is int
            assert type(data) is bytes
        case Node(left, right, extra, pid):
            assert left is None or type(left) in (Leaf, Node)
            assert type(right) is tuple
            assert all(type(one) is Leaf for one in right)
            assert pid is None or type(pid) is Pid
            for one in (left, *right, extra):
                check(one)
        case UnknownMessage(name, fields):
            assert name not in ("property.leaf", "property.node")
            for one in fields.values():
                check(one)
        case list() | tuple():
            assert not (type(value) is tuple and value and value[0] == MESSAGE_TAG)
            for one in value:
                check(one)
        case dict():
            for one in value.values():
                check(one)
