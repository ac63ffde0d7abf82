"""The compiled term codec agrees with its model, on values and on any bytes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from barrel_p2p.errors import NotEncodable, WireError
from barrel_p2p.wire.limits import KEY_TERM_BYTES_MAX
from barrel_p2p.wire.terms import decode, encode, key_bytes
from tests.models import terms as model
from tests.term_values import ATOM, KEY_TERM, PID, REF, VALUE, is_same

# Bytes that mean something where a tag is expected make mutants more than noise.
TAGS = st.sampled_from(list(b"FPXZabdhijklmnostvw\xe0\xe1\xe2\xe3\x83"))
EDIT = st.tuples(st.floats(0, 1), TAGS | st.integers(0, 255))


def outcome(call: Callable[[bytes], object], data: bytes) -> tuple[str, object]:
    try:
        return "value", call(data)
    except (WireError, model.Refused):
        return "refused", None


def same_outcome(data: bytes) -> None:
    kind, value = outcome(decode, data)
    expected_kind, expected = outcome(model.decode, data)
    assert (kind, value if kind == "refused" else None) == (expected_kind, None)
    if kind == "value":
        assert is_same(value, expected)


@given(VALUE)
def test_encoding_agrees_with_the_model(value: object) -> None:
    assert encode(value) == model.encode(value)


@given(VALUE)
def test_a_value_survives_the_wire(value: object) -> None:
    back = decode(encode(value))
    assert is_same(back, value)
    assert encode(back) == model.encode(back)


@given(VALUE)
def test_every_truncation_is_refused(value: object) -> None:
    data = encode(value)
    for size in {*range(min(len(data), 40)), len(data) - 1}:
        with pytest.raises(WireError):
            decode(data[:size])


@given(VALUE, st.lists(EDIT, min_size=1, max_size=4))
def test_mutants_fare_as_in_the_model(
    value: object, edits: list[tuple[float, int]]
) -> None:
    data = bytearray(encode(value))
    for where, byte in edits:
        data[int(where * (len(data) - 1))] = byte
    same_outcome(bytes(data))


@given(st.lists(TAGS | st.integers(0, 8), max_size=40))
def test_noise_fares_as_in_the_model(noise: list[int]) -> None:
    same_outcome(b"\x83" + bytes(noise))


@given(KEY_TERM)
def test_key_bytes_are_the_encoding_of_a_key_term(key: Hashable) -> None:
    assume(len(encode(key)) <= KEY_TERM_BYTES_MAX)
    assert model.is_key_term(key)
    assert key_bytes(key) == encode(key)
    assert decode(key_bytes(key)) == key


@given(VALUE)
def test_key_bytes_accept_key_terms_and_nothing_else(value: object) -> None:
    accepted = len(encode(value)) <= KEY_TERM_BYTES_MAX and model.is_key_term(value)
    try:
        key_bytes(value)
    except NotEncodable:
        assert not accepted
    else:
        assert accepted


@given(KEY_TERM, KEY_TERM)
def test_keys_are_equal_when_their_bytes_are(a: Hashable, b: Hashable) -> None:
    assume(max(len(encode(a)), len(encode(b))) <= KEY_TERM_BYTES_MAX)
    assert (key_bytes(a) == key_bytes(b)) == (a == b)
    if a == b:
        assert hash(a) == hash(b)


@given(st.lists(st.integers(-2, 2) | st.sampled_from(["", "a", b"", b"a"]), max_size=3))
def test_equal_looking_keys_of_other_types_stay_apart(parts: list[object]) -> None:
    keys = [tuple(parts), *parts]
    distinct = {key_bytes(key) for key in keys}
    assert len(distinct) == len(set(keys))


@given(ATOM | PID | REF)
def test_copies_of_an_address_are_equal(value: Hashable) -> None:
    for twin in (copy.copy(value), copy.deepcopy(value), decode(encode(value))):
        assert twin == value
        assert hash(twin) == hash(value)
        assert repr(twin) == repr(value)
