"""The messages of the handshake have one encoding each, and no two transcripts meet."""

from __future__ import annotations

import dataclasses
import string
import sys

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from barrel_p2p.auth.messages import (
    BODY_BYTES_MAX,
    AuthKind,
    Challenge,
    Fail,
    Hello,
    Message,
    Mode,
    Ok,
    Response,
    cut,
    decode,
    encode,
)
from barrel_p2p.auth.transcript import Exchange, Role, transcript
from barrel_p2p.errors import WireError

KEYS = st.binary(min_size=32, max_size=32)
U16 = st.integers(1, 2**16 - 1)
U64 = st.integers(0, 2**64 - 1)
PART = st.from_regex(r"\A[a-z0-9_]([a-z0-9_.-]{0,20}[a-z0-9_-])?\Z")
NAMES = st.builds("{}@{}".format, PART, PART)
RANGES = st.tuples(U16, U16).map(sorted)


@st.composite
def hellos(draw: st.DrawFn) -> Hello:
    lowest, highest = draw(RANGES)
    mode = draw(st.sampled_from(Mode))
    key = draw(KEYS) if mode is Mode.IDENTITY else b""
    return Hello(lowest, highest, mode, draw(NAMES), key)


CHALLENGES = st.builds(Challenge, KEYS, U64)
RESPONSES = st.builds(
    Response, st.just(b"") | st.binary(min_size=64, max_size=64), KEYS
)
FAILS = st.builds(
    Fail, st.from_regex(r"\A[a-z][a-z0-9_]{0,31}\Z"), st.text(max_size=300).map(cut)
)
EXCHANGES = st.builds(
    Exchange,
    protocol=U16,
    dialler=hellos(),
    acceptor=hellos(),
    dialler_challenge=CHALLENGES,
    acceptor_challenge=CHALLENGES,
    certificate_hash=KEYS,
    exporter=KEYS,
)


def round_trip(message: Message) -> None:
    kind, body = encode(message)
    assert len(body) <= BODY_BYTES_MAX
    assert decode(kind, body) == message
    for spoilt in (body + b"\0", body[:-1] if body else b"\0"):
        with pytest.raises(WireError):
            decode(kind, spoilt)


@given(hellos())
def test_a_hello_round_trips(hello: Hello) -> None:
    """AUW-01, AUT-13: name, as text, and key come back."""
    round_trip(hello)
    returned = decode(*encode(hello))
    assert isinstance(returned, Hello)
    assert type(returned.name) is str


@given(CHALLENGES)
@example(Challenge(bytes(32), 0))
@example(Challenge(b"\xff" * 32, 2**64 - 1))
def test_a_challenge_round_trips(challenge: Challenge) -> None:
    """AUW-02, AUT-14: any nonce of 32 bytes and any u64."""
    round_trip(challenge)


@given(RESPONSES)
def test_a_response_round_trips(response: Response) -> None:
    """AUW-03, AUT-15."""
    kind, body = encode(response)
    assert decode(kind, body) == response


def test_an_ok_round_trips() -> None:
    """AUW-05."""
    round_trip(Ok())


@given(FAILS)
def test_a_fail_round_trips(fail: Fail) -> None:
    """AUT-16: OK and FAIL with its reason round-trip."""
    round_trip(fail)


@given(st.binary(min_size=1, max_size=210))
@example(b"a@h\n")
@example(b"A@h")
@example(b"a@h.")
@example(b"../a@h")
@example(b"a" * 199 + b"@h")
def test_a_name_outside_the_charset_is_refused(name: bytes) -> None:
    """AUW-08: every byte counts, not only the ones that a sample happens to hold."""
    good = string.ascii_lowercase + string.digits + "_.-@"
    text = name.decode("latin-1")
    assume(len(name) > 200 or set(text) - set(good) or text.count("@") != 1)
    head = bytes([0, 1, 0, 1, Mode.IDENTITY, len(name)])
    with pytest.raises(WireError):
        decode(AuthKind.HELLO, head + name + bytes(32))


@pytest.mark.parametrize("byte", range(256))
def test_each_byte_is_in_a_name_or_refused(byte: int) -> None:
    """AUW-08, one by one."""
    name = b"a" + bytes([byte]) + b"a@h"
    body = bytes([0, 1, 0, 1, Mode.COOKIE, len(name)]) + name
    if chr(byte) in string.ascii_lowercase + string.digits + "_.-":
        assert decode(AuthKind.HELLO, body) == Hello(
            1, 1, Mode.COOKIE, name.decode(), b""
        )
    else:
        with pytest.raises(WireError):
            decode(AuthKind.HELLO, body)


def test_decoding_keeps_no_name() -> None:
    """AUT-18: a name from the wire is a string like any other, and never interned."""
    body = bytes([0, 1, 0, 1, Mode.COOKIE, 12]) + b"never@seen.x"
    first, second = decode(AuthKind.HELLO, body), decode(AuthKind.HELLO, body)
    assert isinstance(first, Hello)
    assert isinstance(second, Hello)
    assert first.name is not second.name
    # An interned string would be handed out again for an equal one.
    assert sys.intern("".join(["never", "@seen.x"])) is not first.name


@given(st.integers(0, 255), st.binary(max_size=600))
def test_random_bytes_are_a_message_or_a_wire_error(kind: int, body: bytes) -> None:
    try:
        message = decode(kind, body)
    except WireError:
        return
    assert encode(message) == (kind, body)


@given(st.data(), st.one_of(hellos(), CHALLENGES, RESPONSES, FAILS))
def test_a_spoilt_message_is_another_message_or_a_wire_error(
    data: st.DataObject, message: Message
) -> None:
    kind, body = encode(message)
    at = data.draw(st.integers(0, len(body) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != body[at]))
    spoilt = body[:at] + bytes([byte]) + body[at + 1 :]
    try:
        other = decode(kind, spoilt)
    except WireError:
        return
    assert other != message
    assert encode(other) == (kind, spoilt)


@given(EXCHANGES, EXCHANGES, st.sampled_from(Role), st.sampled_from(Role))
def test_different_exchanges_have_different_transcripts(
    one: Exchange, other: Exchange, role: Role, other_role: Role
) -> None:
    same = (one, role) == (other, other_role)
    assert (transcript(one, role) == transcript(other, other_role)) == same


@given(EXCHANGES, st.data())
def test_every_field_of_an_exchange_is_in_the_transcript(
    exchange: Exchange, data: st.DataObject
) -> None:
    field = data.draw(st.sampled_from(dataclasses.fields(exchange)))
    other = getattr(data.draw(EXCHANGES), field.name)
    assume(other != getattr(exchange, field.name))
    changed = dataclasses.replace(exchange, **{field.name: other})
    for role in Role:
        assert transcript(changed, role) != transcript(exchange, role)


@given(EXCHANGES, st.integers(1, 60))
def test_bytes_that_move_to_the_next_field_make_another_transcript(
    exchange: Exchange, count: int
) -> None:
    dialler, acceptor = exchange.dialler, exchange.acceptor
    moved = dialler.name[-count:] if count < len(dialler.name) else dialler.name
    shifted = dataclasses.replace(
        exchange,
        dialler=dataclasses.replace(dialler, name=dialler.name[: -len(moved)]),
        acceptor=dataclasses.replace(acceptor, name=moved + acceptor.name),
    )
    assert transcript(shifted, Role.DIALLER) != transcript(exchange, Role.DIALLER)
    keyed = dataclasses.replace(
        exchange,
        certificate_hash=exchange.certificate_hash[:-count],
        exporter=exchange.certificate_hash[-count:] + exchange.exporter,
    )
    assert transcript(keyed, Role.DIALLER) != transcript(exchange, Role.DIALLER)


@given(EXCHANGES)
def test_the_two_roles_sign_different_bytes(exchange: Exchange) -> None:
    assert transcript(exchange, Role.DIALLER) != transcript(exchange, Role.ACCEPTOR)
