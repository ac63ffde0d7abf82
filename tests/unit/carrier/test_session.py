"""SESSION is taken apart field by field, and BYE fits its layout or is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.carrier.session import (
    BYE_TEXT_BYTES_MAX,
    Bye,
    Session,
    decode_bye,
    decode_session,
    encode_bye,
    encode_session,
)
from barrel_p2p.errors import WireError
from barrel_p2p.wire import terms
from tests.channel_nodes import session

FIELDS: dict[str, object] = {
    "package": "1",
    "python": "3",
    "creation": 7,
    "address": ("h", 9100),
    "ring_size": 64,
    "features": 0,
    "member_heartbeat_ms": 1,
    "member_ttl_ms": 2,
    "data_streams": 8,
}


def test_a_session_survives_the_wire() -> None:
    for address in (None, ("192.0.2.7", 9100), ("::1", 65_535)):
        made = session(address=address)
        assert decode_session(encode_session(made)) == made


def test_fields_that_nobody_knows_are_ignored() -> None:
    body = terms.encode(FIELDS | {"of the future": [1, 2, 3], "": None})
    assert decode_session(body).creation == 7


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_field_that_is_missing_is_refused_by_name(name: str) -> None:
    body = terms.encode({key: FIELDS[key] for key in FIELDS if key != name})
    with pytest.raises(WireError, match=f"SESSION from b@h has .*{name}"):
        decode_session(body, peer="b@h")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("creation", 0),
        ("creation", 1 << 32),
        ("creation", True),
        ("creation", 7.0),
        ("creation", "7"),
        ("ring_size", 0),
        ("ring_size", (1 << 20) + 1),
        ("features", -1),
        ("data_streams", 65),
        ("member_ttl_ms", 0),
        ("address", ("h", 0)),
        ("address", ("h", 65_536)),
        ("address", ("h", True)),
        ("address", ("", 1)),
        ("address", ("h" * 254, 1)),
        ("address", ("é", 1)),
        ("address", ("h\n", 1)),
        ("address", ["h", 1]),
        ("address", ("h", 1, 2)),
        ("address", "h:1"),
        ("package", b"1"),
        ("package", "1" * 65),
        ("package", "1\x1b[2J"),
        ("python", None),
    ],
)
def test_a_field_that_is_wrong_is_refused(name: str, value: object) -> None:
    with pytest.raises(WireError, match="SESSION"):
        decode_session(terms.encode({**FIELDS, name: value}))


@pytest.mark.parametrize("value", [None, [], "session", 7, (1, 2)])
def test_what_is_no_map_is_refused(value: object) -> None:
    with pytest.raises(WireError):
        decode_session(terms.encode(value))


def test_a_session_above_its_limit_is_refused_unread() -> None:
    with pytest.raises(WireError, match="SESSION_BYTES_MAX=4096"):
        decode_session(bytes(4_097))


@given(st.binary(max_size=300))
def test_no_bytes_make_session_or_bye_fail_otherwise(body: bytes) -> None:
    for decode in (decode_session, decode_bye):
        try:
            decode(body)
        except WireError:
            continue


@given(st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True), st.text(max_size=600))
def test_a_bye_survives_the_wire_but_for_what_is_cut(reason: str, text: str) -> None:
    got = decode_bye(encode_bye(Bye(reason, text)))
    assert got.reason == reason
    sent = text.encode(errors="replace")
    assert sent.startswith(got.text.encode())
    if len(sent) <= BYE_TEXT_BYTES_MAX:
        assert got.text.encode() == sent


def test_a_session_has_the_fields_that_these_tests_know() -> None:
    assert set(Session.__slots__) == set(FIELDS)
