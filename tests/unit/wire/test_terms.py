"""Terms: standard bytes where the standard has them, and refusals that say why."""

from __future__ import annotations

import enum
import math
import struct
from collections import OrderedDict, namedtuple

import pytest

from barrel_p2p.core.terms import Atom, Pid, Ref
from barrel_p2p.errors import InvalidValue, NotEncodable, WireError
from barrel_p2p.wire import limits
from barrel_p2p.wire.terms import decode, encode, key_bytes
from tests.term_values import is_same

Point = namedtuple("Point", "x y")


class Text(str):
    __slots__ = ()


class Octets(bytes):
    pass


class Colour(enum.IntEnum):
    RED = 1


def nested(depth: int, *, of: object = 1) -> object:
    for _ in range(depth):
        of = [of]
    return of


def term(*parts: bytes | int) -> bytes:
    body = (bytes([part]) if isinstance(part, int) else part for part in parts)
    return b"\x83" + b"".join(body)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (None, b"w\x09undefined"),
        (True, b"w\x04true"),
        (False, b"w\x05false"),
        (Atom("ok"), b"w\x02ok"),
        (Atom("€" * 85), b"w\xff" + "€".encode() * 85),
        (Atom("€" * 86), b"v\x01\x02" + "€".encode() * 86),
        (0, b"a\0"),
        (255, b"a\xff"),
        (256, b"b\0\0\1\0"),
        (-1, b"b\xff\xff\xff\xff"),
        (2**31 - 1, b"b\x7f\xff\xff\xff"),
        (-(2**31), b"b\x80\0\0\0"),
        (2**31, b"n\4\0\0\0\0\x80"),
        (-(2**31) - 1, b"n\4\1\1\0\0\x80"),
        (2**63, b"n\x08\0" + bytes(7) + b"\x80"),
        (-(2**63), b"n\x08\1" + bytes(7) + b"\x80"),
        (2**2_040 - 1, b"n\xff\0" + b"\xff" * 255),
        (2**2_040, b"o\0\0\1\0\0" + bytes(255) + b"\1"),
        (1.5, b"F\x3f\xf8" + bytes(6)),
        (-0.0, b"F\x80" + bytes(7)),
        (math.inf, b"F\x7f\xf0" + bytes(6)),
        (b"\0ab", b"m\0\0\0\3\0ab"),
        ("", b"\xe0\0"),
        ("aé", b"\xe0\3a\xc3\xa9"),
        ("x" * 255, b"\xe0\xff" + b"x" * 255),
        ("x" * 256, b"\xe1\0\0\1\0" + b"x" * 256),
        ((), b"h\0"),
        ((1, b""), b"h\2a\1m\0\0\0\0"),
        ((0,) * 256, b"i\0\0\1\0" + b"a\0" * 256),
        ([], b"j"),
        ([1], b"l\0\0\0\1a\1j"),
        ({}, b"t\0\0\0\0"),
        ({2: 1, 1: 2}, b"t\0\0\0\2a\2a\1a\1a\2"),
        (set(), b"\xe2\0\0\0\0"),
        ({7}, b"\xe2\0\0\0\1a\7"),
        (frozenset({7}), b"\xe3\0\0\0\1a\7"),
        (
            Pid("a@h", 0x0102030405060708, 9),
            b"Xw\3a@h\5\6\7\x08\1\2\3\4\0\0\0\x09",
        ),
        (Ref("a@h", 9, (1, 2)), b"Z\0\2w\3a@h\0\0\0\x09\0\0\0\1\0\0\0\2"),
    ],
)
def test_every_type_has_its_bytes(value: object, data: bytes) -> None:
    assert encode(value) == b"\x83" + data
    assert is_same(decode(b"\x83" + data), value)


def test_not_a_number_travels_with_its_bits() -> None:
    for bits in (0x7FF8000000000000, 0xFFF8000000000001):
        (value,) = struct.unpack(">d", bits.to_bytes(8))
        assert encode(value) == b"\x83F" + bits.to_bytes(8)
        (back,) = struct.unpack(">Q", struct.pack(">d", decode(encode(value))))
        assert back == bits


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"d\0\2ok", Atom("ok")),
        (b"d\0\4true", True),
        (b"s\2\xe9k", Atom("ék")),
        (b"s\x09undefined", None),
        (b"v\0\2ok", Atom("ok")),
        (b"k\0\3abc", [97, 98, 99]),
        (b"k\0\0", []),
        (b"l\0\0\0\0j", []),
        (b"i\0\0\0\1a\1", (1,)),
        (b"n\0\0", 0),
        (b"n\0\1", 0),
        (b"n\3\1\5\0\0", -5),
        (b"o\0\0\0\1\0\7", 7),
        (b"n\x09\0" + bytes(8) + b"\1", 2**64),
        (b"\xe1\0\0\0\1x", "x"),
        (b"Xd\0\3a@h" + bytes(12), Pid("a@h", 0, 0)),
    ],
)
def test_other_spellings_are_understood(data: bytes, value: object) -> None:
    assert is_same(decode(b"\x83" + data), value)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "ends inside the value at offset 0"),
        (b"\x82a\1", "starts with byte 131, not 130"),
        (b"\x83", "ends inside the value at offset 1"),
        (b"\x83a\1a", "bytes follow the term, from offset 3"),
        (term(b"P", bytes(8)), r"tag 80 \(compressed term\) at offset 1"),
        (term(b"h\1p", bytes(8)), r"tag 112 \(fun\) at offset 3"),
        (term(b"q"), r"tag 113 \(export\)"),
        (term(b"Y"), r"tag 89 \(port\)"),
        (term(b"M\0\0\0\1\1\x80"), r"tag 77 \(bit string\)"),
        (term(b"c", b"1.0" + bytes(28)), r"tag 99 \(float as text\)"),
        (term(b"g"), r"tag 103 \(old pid\)"),
        (term(b"\x83a\1"), r"tag 131 \(second version byte\)"),
        (term(b"\xff"), r"tag 255 \(unknown\)"),
        (term(b"l\0\0\0\1a\1a\2"), "ends with tag 97 at offset 8, so it is improper"),
        (term(b"l\0\0\0\1a\1l\0\0\0\1a\2j"), "improper"),
        (term(b"h\3a\1"), "announces 3 elements with 2 bytes"),
        (term(b"h\2l\0\0\0\3jjj"), "announces 3 elements with 3 bytes"),
        (term(b"t\0\0\0\3a\1a\1"), "announces 3 elements with 4 bytes"),
        (term(b"n\1\2\1"), "sign of an integer at offset 3 is 2"),
        (term(b"o", struct.pack(">I", 1025), 0, bytes(1025)), "8200 bits at offset 1"),
        (term(b"\xe0\2\xed\xa0"), "text at offset 3 is not UTF-8"),
        (term(b"w\1\xff"), "text at offset 3 is not UTF-8"),
        (term(b"v\1\0", b"x" * 256), "atom of 256 characters at offset 1"),
        (term(b"Xw\1a", bytes(12)), "no valid node name at offset 2"),
        (term(b"Xw\3A@h", bytes(12)), "no valid node name"),
        (term(b"Xa\1", bytes(12)), "no valid node name"),
        (term(b"Z\0\0w\3a@h", bytes(4)), "reference of 0 words at offset 1"),
        (term(b"Z\0\6w\3a@h", bytes(28)), "reference of 6 words"),
        (term(b"t\0\0\0\1ja\1"), "at offset 6 is part of a key"),
        (term(b"t\0\0\0\1h\1k\0\1aa\1"), "at offset 8 is part of a key"),
        (term(b"\xe2\0\0\0\1t\0\0\0\0"), "at offset 6 is part of a key"),
        (term(b"\xe2\0\0\0\1F\x7f\xf8", bytes(6)), "not-a-number at offset 6"),
        (term(b"t\0\0\0\2a\1a\0a\1a\0"), "at offset 1 has two keys"),
        (term(b"t\0\0\0\2a\1a\0w\4truea\0"), "two keys that Python holds equal"),
        (term(b"\xe3\0\0\0\2a\0F", bytes(8)), "two keys"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_where(data: bytes, text: str) -> None:
    with pytest.raises(WireError, match=text) as caught:
        decode(data)
    assert caught.value.code == "wire"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (object(), "^value is an object, which no term can hold"),
        (
            [1, {"a": (2, {3, 4j})}],
            r"^value\[1\]\['a'\]\[1\]\{<complex>\} is a complex",
        ),
        ({("k", 1j): 1}, r"^value\.key\(<tuple>\)\[1\] is a complex"),
        (Text("x"), "is a Text"),
        (Point(1, 2), "is a Point"),
        (OrderedDict(), "is a collections.OrderedDict"),
        ([Colour.RED], r"value\[0\] is a Colour"),
        (bytearray(b"x"), "is a bytearray"),
        (range(3), "is a range"),
        (2**8_192, "integer of 8193 bits, more than INT_BITS_MAX=8192"),
        (-(2**8_192), "8193 bits"),
        ({"k": "\ud800"}, r"value\['k'\] is a str with a lone surrogate"),
        ({math.nan: 1}, r"value\.key\(nan\)"),
        ({(1, math.nan)}, "not-a-number, cannot be part of a key"),
        (nested(257), r"nested deeper than 256"),
        (b"x" * limits.TERM_BYTES_MAX, "limit 8387584"),
        (["x" * 70_000] * 128, "limit 8387584"),
    ],
    ids=lambda case: type(case).__name__ if not isinstance(case, str) else "",
)
def test_what_cannot_travel_is_named_by_its_place(value: object, text: str) -> None:
    with pytest.raises(NotEncodable, match=text):
        encode(value)


def test_a_value_inside_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append({"again": loop})
    with pytest.raises(NotEncodable, match="nested deeper") as caught:
        encode(loop)
    assert caught.value.hint == "does it contain itself?"


def test_a_failed_encode_leaves_the_next_one_whole() -> None:
    good = ["x" * 5_000, {"k": (1, 2)}]
    data = encode(good)
    for bad in ([*good, object()], [*good, {("t", 1j)}], {1j: good}, nested(300)):
        with pytest.raises(NotEncodable):
            encode(bad)
        assert encode(good) == data


def test_no_method_of_the_caller_s_runs() -> None:
    class Trap:
        def __repr__(self) -> str:
            raise AssertionError("repr ran")

        def __hash__(self) -> int:
            return 1

    with pytest.raises(NotEncodable, match=r"value\.key\(<Trap>\) is a Trap"):
        encode({Trap(): 1})


def test_limits_are_reached_and_not_crossed() -> None:
    assert decode(encode(nested(256))) == nested(256)
    assert decode(encode(nested(255, of=[]))) == nested(255, of=[])
    with pytest.raises(NotEncodable, match="nested deeper"):
        encode(nested(256, of=[]))
    for number in (2**8_192 - 1, -(2**8_192) + 1):
        assert decode(encode(number)) == number
    largest = b"x" * (limits.TERM_BYTES_MAX - 6)
    assert decode(encode(largest)) == largest


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, Octets])
def test_any_contiguous_bytes_can_be_read(wrap: type) -> None:
    data = encode(["text", b"bytes"])
    assert decode(wrap(data)) == ["text", b"bytes"]
    assert decode(memoryview(b"__" + data)[2:]) == ["text", b"bytes"]


def test_a_decoded_value_does_not_hold_its_input() -> None:
    data = bytearray(encode([b"bytes" * 9, "text" * 9]))
    value = decode(data)
    data[:] = b"\0" * (len(data) + 1)  # A buffer still exported could not grow.
    assert value == [b"bytes" * 9, "text" * 9]


@pytest.mark.parametrize("data", ["text", None, 1, [1], memoryview(b"\x83ja")[::2]])
def test_what_is_no_run_of_bytes_cannot_be_read(data: bytes) -> None:
    with pytest.raises(InvalidValue):
        decode(data)


def test_a_caller_may_set_narrower_limits() -> None:
    data = encode([["x" * 90]])
    assert decode(data, bytes_max=len(data), depth_max=2) == [["x" * 90]]
    with pytest.raises(WireError, match=f"term of {len(data)} bytes exceeds the limit"):
        decode(data, bytes_max=len(data) - 1)
    with pytest.raises(WireError, match="offset 6 is nested deeper than 1"):
        decode(data, depth_max=1)
    with pytest.raises(WireError, match="bytes of memory, limit 100"):
        decode(data, memory_max=100)


@pytest.mark.parametrize("name", ["bytes_max", "memory_max", "depth_max"])
@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1", 2**70])
def test_a_limit_is_a_positive_integer(name: str, value: int) -> None:
    with pytest.raises(InvalidValue, match=name):
        decode(b"\x83j", **{name: value})


def test_dicts_keep_their_order() -> None:
    value = {str(i): i for i in reversed(range(50))}
    assert is_same(decode(encode(value)), value)


def test_short_keys_and_tags_come_back_as_the_same_object() -> None:
    data = encode([{"key": 1}, {"key": 2}, ("tag", 1), ("tag", 2)])
    value = decode(data)
    assert isinstance(value, list)
    first, second, third, fourth = value
    assert next(iter(first)) is next(iter(second))
    assert third[0] is fourth[0]
    assert decode(encode(Atom("ok"))) is decode(encode(Atom("ok")))


@pytest.mark.parametrize(
    "key",
    [True, None, 1.0, [1], {1}, frozenset(), {}, Ref("a@h", 1, (1,)), (1, (None,))],
)
def test_key_terms_hold_no_such_thing(key: object) -> None:
    with pytest.raises(NotEncodable, match="which no key term can hold"):
        key_bytes(key)


def test_key_terms_have_limits_of_their_own() -> None:
    deep: object = 1
    for _ in range(8):
        deep = (deep,)
    assert decode(key_bytes(deep)) == deep
    with pytest.raises(NotEncodable, match="nested deeper than 8"):
        key_bytes((deep,))
    assert len(key_bytes("x" * 1_018)) == limits.KEY_TERM_BYTES_MAX
    with pytest.raises(NotEncodable, match="limit 1024"):
        key_bytes("x" * 1_019)
    with pytest.raises(NotEncodable, match="limit 1024"):
        key_bytes(tuple("ab" * 9 for _ in range(60)))
