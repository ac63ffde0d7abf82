"""Whatever text or bytes come, a name is read, or refused with the one right error."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.names import (
    PORT_MAX,
    Address,
    NodeReference,
    default_node_name,
    node_name,
    wire_name,
)
from barrel_p2p.errors import InvalidValue, WireError

PART = st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,20}[a-z0-9_]", fullmatch=True)
NAME = st.builds(lambda local, host: f"{local}@{host}", PART, PART)
HOST = PART | st.ip_addresses().map(str)
PORT = st.integers(1, PORT_MAX)
# Built from the pieces that mean something, so that nearly right ones are common.
PIECES = [
    "a",
    "Z",
    "@",
    "h",
    ":",
    "=",
    "[",
    "]",
    "::1",
    "9100",
    "#SHA256:",
    ".",
    "\u0130",
]
NEARLY = st.lists(st.sampled_from(PIECES), max_size=9).map("".join) | st.text()


@given(NAME, HOST, PORT)
def test_an_address_survives_its_text(name: str, host: str, port: int) -> None:
    address = Address(name, host, port)
    assert Address.parse(str(address)) == address


@given(
    NAME,
    st.none() | st.tuples(HOST, PORT),
    st.none() | st.binary(min_size=32, max_size=32),
)
def test_a_reference_survives_its_text(
    name: str, place: tuple[str, int] | None, fingerprint: bytes | None
) -> None:
    host, port = place or (None, None)
    reference = NodeReference(name, host, port, fingerprint)
    assert NodeReference.parse(str(reference)) == reference


@given(NEARLY)
def test_no_text_raises_anything_but_invalid_value(text: str) -> None:
    for parse in (node_name, Address.parse, NodeReference.parse):
        try:
            parsed = parse(text)
        except InvalidValue:
            continue
        assert str(parse(str(parsed))) == str(parsed)


@given(NEARLY.map(lambda text: text.encode(errors="replace")) | st.binary(max_size=300))
def test_no_bytes_raise_anything_but_wire_error(data: bytes) -> None:
    try:
        name = wire_name(data)
    except WireError:
        return
    assert node_name(name) == name
    assert name.encode() == data


def test_the_default_name_is_a_name() -> None:
    assert node_name(default_node_name()) == default_node_name()
