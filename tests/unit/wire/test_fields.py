"""Bodies are read field by field, to the byte, and by one reader in every room."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.auth import messages as handshake
from barrel_p2p.errors import WireError
from barrel_p2p.membership import messages as membership
from barrel_p2p.replica import messages as replica
from barrel_p2p.services import member_messages as members
from barrel_p2p.services import router_messages as routes
from barrel_p2p.wire.fields import SHORT_BYTES_MAX, Reader, misfit, short
from barrel_p2p.wire.kinds import Kind

_LAYOUT = struct.Struct(">HI")
_PAIR = st.tuples(st.integers(0, 65_535), st.integers(0, (1 << 32) - 1))
_FIELDS = st.lists(
    st.one_of(
        st.text(max_size=60),
        st.integers(0, 255),
        st.binary(max_size=300),
        _PAIR,
    ),
    max_size=8,
)


def _written(fields: list[object]) -> bytes:
    parts = []
    for field in fields:
        match field:
            case str():
                parts.append(short(field))
            case int():
                parts.append(bytes((field,)))
            case bytes():
                parts.append(field)
            case tuple():
                parts.append(_LAYOUT.pack(*field))
    return b"".join(parts)


def _read(reader: Reader, fields: list[object]) -> list[object]:
    """Fields of the types and sizes of ``fields``, from the reader."""
    found: list[object] = []
    for field in fields:
        match field:
            case str():
                found.append(reader.short().decode())
            case int():
                found.append(reader.byte())
            case bytes():
                found.append(reader.take(len(field)))
            case tuple():
                found.append(reader.unpack(_LAYOUT))
    return found


@given(_FIELDS)
def test_fields_are_read_as_they_were_written(fields: list[object]) -> None:
    reader = Reader(_written(fields), "THING")
    assert _read(reader, fields) == fields
    reader.end()
    assert reader.rest() == b""


@given(_FIELDS, st.data())
def test_a_body_that_ends_early_is_refused(
    fields: list[object], data: st.DataObject
) -> None:
    body = _written([*fields, 0])
    size = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(WireError, match=f"^THING of {size} bytes does not fit"):
        _read(Reader(body[:size], "THING"), [*fields, 0])


@given(_FIELDS, st.binary(min_size=1, max_size=5))
def test_what_is_left_at_the_end_is_refused(fields: list[object], rest: bytes) -> None:
    reader = Reader(_written(fields) + rest, "THING")
    _read(reader, fields)
    with pytest.raises(WireError, match="does not fit its layout"):
        reader.end()
    assert reader.rest() == rest
    reader.end()


def test_a_byte_above_its_bound_is_named() -> None:
    with pytest.raises(WireError, match="THING holds 3 where 2 is the greatest value"):
        Reader(b"\x03", "THING").byte(at_most=2)


@pytest.mark.parametrize("name", [b"", b"A@h", b"a", b"a@h\xff", b"a" * 250 + b"@h"])
def test_a_node_has_to_have_a_name(name: bytes) -> None:
    with pytest.raises(WireError, match="node name"):
        Reader(bytes((len(name),)) + name, "THING").node()


def test_short_fields_have_at_most_255_bytes() -> None:
    assert short("é" * 127) == b"\xfe" + "é".encode() * 127
    with pytest.raises(AssertionError):
        short("x" * (SHORT_BYTES_MAX + 1))


def test_a_misfit_names_the_message_its_size_and_its_sender() -> None:
    error = misfit("THING", b"123", peer="a@h")
    assert str(error) == "THING of 3 bytes does not fit its layout"
    assert error.peer == "a@h"


_CUT: dict[str, Callable[[bytes], object]] = {
    "HELLO": lambda body: handshake.decode(handshake.AuthKind.HELLO, body),
    "JOIN": lambda body: membership.decode(Kind.JOIN, body),
    "LEASES": lambda body: members.decode(Kind.LEASES, body),
    "ALIVE": lambda body: members.decode(Kind.ALIVE, body),
    "ROUTE_REQUEST": lambda body: routes.decode(Kind.ROUTE_REQUEST, body),
    "ROUTE_REPLY": lambda body: routes.decode(Kind.ROUTE_REPLY, body),
    "sync": lambda body: replica.decode(Kind.SYNC_CHUNK, body),
    "gossip": lambda body: replica.decode_gossip(body),
}

_WHOLE = {
    "HELLO": handshake.encode(
        handshake.Hello(1, 1, handshake.Mode.COOKIE, "node@host", b"")
    )[1],
    "JOIN": membership.encode(membership.Join(1, soft=True, place=("host", 1)))[1],
    "LEASES": members.encode(members.Leases(1, (("node@host", 1, 2, 3),)))[1],
    "ALIVE": members.encode(members.Alive("node@host", 1, 2))[1],
    "ROUTE_REQUEST": routes.encode(
        routes.RouteRequest("node@host", 1, 2, 3, routes.NodeTarget("x@y"), ("v@w",))
    )[1][:-3],
    "ROUTE_REPLY": routes.encode(
        routes.RouteReply("node@host", 1, 2, routes.Status.NOT_FOUND)
    )[1],
    "sync": replica.encode(replica.SyncChunk("services", 1, b""))[1],
    "gossip": replica.encode_gossip(
        replica.DeltaMessage(replica.Origin("node@host", 1, 2), b"")
    ),
}


@pytest.mark.parametrize("name", _WHOLE)
def test_every_room_refuses_a_message_cut_anywhere_in_the_same_words(name: str) -> None:
    body = _WHOLE[name]
    for size in range(len(body)):
        with pytest.raises(WireError) as told:
            _CUT[name](body[:size])
        assert str(told.value) == f"{name} of {size} bytes does not fit its layout"
