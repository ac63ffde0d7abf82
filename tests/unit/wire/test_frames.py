"""Frames go out as documented and come back from any chunks."""

from __future__ import annotations

import copy
import hashlib
import random

import pytest

from barrel_p2p.errors import InvalidValue, NotEncodable, WireError
from barrel_p2p.wire.frames import HEADER_BYTES, Frame, Splitter, encode, encode_many
from barrel_p2p.wire.limits import FRAME_BYTES_MAX, FRAME_BYTES_MAX_PREAUTH

# Its decimal digits cannot even be printed.
HUGE = pytest.param(10**5_000, id="huge")
HELLO = b"\x00\x00\x00\x07\x02\x01hello"


@pytest.fixture
def splitter() -> Splitter:
    return Splitter()


def test_a_frame_is_length_kind_flags_body() -> None:
    """QUI-07: u32 big-endian framing; our length counts kind and flags too."""
    assert encode(2, 1, b"hello") == HELLO
    assert encode(255, 255, b"") == b"\x00\x00\x00\x02\xff\xff"
    assert len(encode(1, 0, bytes(300))) == HEADER_BYTES + 300


@pytest.mark.parametrize("body", [bytearray(b"hello"), memoryview(b"hello")])
def test_any_contiguous_bytes_make_a_body(body: bytearray | memoryview) -> None:
    assert encode(2, 1, body) == HELLO
    assert encode_many([(2, 1, body)]) == HELLO


def test_many_frames_are_the_frames_one_after_the_other() -> None:
    frames: list[Frame | tuple[int, int, bytes]] = [
        Frame(1, 0, b""),
        (2, 1, b"hello"),
        Frame(3, 9, b"x" * 1000),
    ]
    one_by_one = encode(1, 0, b"") + HELLO + encode(3, 9, b"x" * 1000)
    assert encode_many(frames) == one_by_one
    assert encode_many(iter(frames)) == one_by_one
    assert encode_many([]) == b""


def test_several_frames_in_one_chunk_arrive_in_order(splitter: Splitter) -> None:
    """QUI-07: multiple messages in one chunk."""
    frames = [Frame(kind, 0, bytes(kind)) for kind in range(40)]
    assert splitter.feed(encode_many(frames)) == frames
    assert splitter.pending_bytes == 0
    assert splitter.held_bytes == 0


def test_an_incomplete_header_or_body_waits(splitter: Splitter) -> None:
    """QUI-07: incomplete header, incomplete payload."""
    assert splitter.feed(HELLO[:3]) == []
    assert splitter.pending_bytes == 3
    assert splitter.feed(HELLO[3:5]) == []
    assert splitter.feed(HELLO[5:10]) == []
    assert splitter.pending_bytes == 10
    assert splitter.feed(HELLO[10:] + HELLO[:1]) == [Frame(2, 1, b"hello")]
    assert splitter.pending_bytes == 1


def test_an_empty_chunk_changes_nothing(splitter: Splitter) -> None:
    assert splitter.feed(b"") == []
    assert splitter.feed(HELLO[:8]) == []
    assert splitter.feed(b"") == []
    assert splitter.feed(HELLO[8:]) == [Frame(2, 1, b"hello")]


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_bodies_are_copies_of_a_chunk_of_any_type(
    wrap: type[bytes | bytearray | memoryview], splitter: Splitter
) -> None:
    source = bytearray(HELLO)
    frames = splitter.feed(
        wrap(source) if wrap is not memoryview else memoryview(source)
    )
    source[:] = bytes(len(source))
    assert frames == [Frame(2, 1, b"hello")]
    assert type(frames[0].body) is bytes


def test_a_zero_length_frame_is_no_tick_but_an_error(splitter: Splitter) -> None:
    """QUI-07: liveness is the transport's; a frame always has kind and flags."""
    with pytest.raises(WireError, match="frame of 0 bytes has no room"):
        splitter.feed(b"\x00\x00\x00\x00")


def test_the_refusal_names_sender_length_and_limit() -> None:
    splitter = Splitter(65_536, peer="b@h")
    with pytest.raises(WireError) as caught:
        splitter.feed((70_001).to_bytes(4, "big"))
    assert str(caught.value) == (
        "frame of 70001 bytes from b@h exceeds frame_bytes_max=65536"
    )
    assert caught.value.peer == "b@h"
    assert caught.value.hint is not None


def test_a_refused_splitter_stays_refused(splitter: Splitter) -> None:
    for chunk in (b"\xff\xff\xff\xff", HELLO, b""):
        with pytest.raises(WireError, match="frame of 4294967295 bytes"):
            splitter.feed(chunk)
    with pytest.raises(WireError, match="frame of 4294967295 bytes"):
        splitter.finish()
    assert splitter.held_bytes == 0


def test_a_stream_may_end_only_between_frames() -> None:
    splitter = Splitter(peer="b@h")
    splitter.finish()
    assert splitter.feed(HELLO + HELLO[:7]) == [Frame(2, 1, b"hello")]
    with pytest.raises(WireError, match="stream of b@h ended 7 bytes into a frame"):
        splitter.finish()
    assert splitter.feed(HELLO[7:]) == [Frame(2, 1, b"hello")]
    splitter.finish()


def test_the_greatest_frame_passes_and_one_byte_more_does_not() -> None:
    body = bytes(FRAME_BYTES_MAX - 2)
    encoded = encode(2, 0, body)
    assert Splitter().feed(encoded) == [Frame(2, 0, body)]
    with pytest.raises(InvalidValue, match="exceeds FRAME_BYTES_MAX=8388608"):
        encode(2, 0, body + b"x")
    with pytest.raises(InvalidValue, match="exceeds FRAME_BYTES_MAX=8388608"):
        encode_many([(2, 0, body + b"x")])
    with pytest.raises(WireError):
        Splitter(FRAME_BYTES_MAX - 1).feed(encoded)


@pytest.mark.parametrize("body_bytes", [1 << 20, 4 << 20])
def test_large_frames_survive_chunking_with_their_hash(body_bytes: int) -> None:
    """QUI-13: 1 MiB and 4 MiB bodies through random chunks."""
    rng = random.Random(body_bytes)
    body = rng.randbytes(body_bytes)
    stream = encode_many([(2, 0, body), (3, 0, b"after")])
    splitter = Splitter()
    frames: list[Frame] = []
    at = 0
    while at < len(stream):
        size = rng.choice((1, 7, 1_200, 65_536, 500_000))
        frames += splitter.feed(stream[at : at + size])
        at += size
    assert [frame.kind for frame in frames] == [2, 3]
    got = hashlib.sha256(frames[0].body).digest()
    assert got == hashlib.sha256(body).digest()
    assert frames[1].body == b"after"
    splitter.feed(b"")
    assert splitter.held_bytes == 0


def test_before_authentication_a_frame_is_small() -> None:
    assert FRAME_BYTES_MAX_PREAUTH <= 65_536
    with pytest.raises(WireError):
        Splitter(FRAME_BYTES_MAX_PREAUTH).feed(b"\x00\x00\xff\xff")


@pytest.mark.parametrize("octet", [-1, 256, HUGE, "2", None, 1.0])
def test_kind_and_flags_are_octets(octet: object) -> None:
    with pytest.raises(InvalidValue, match="kind"):
        encode(octet, 0, b"")  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="flags"):
        encode(0, octet, b"")  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="kind"):
        Frame(octet, 0, b"")  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [1, 0, -1, 2**30 + 1, HUGE, "9", 9.0, True])
def test_a_limit_out_of_range_is_refused(limit: object) -> None:
    with pytest.raises(InvalidValue, match="frame_bytes_max"):
        Splitter(limit)  # type: ignore[arg-type]


@pytest.mark.parametrize("body", ["hello", None, 5, memoryview(b"abcdef")[::2]])
def test_what_is_no_bytes_is_refused(body: object, splitter: Splitter) -> None:
    with pytest.raises(NotEncodable):
        encode(1, 0, body)  # type: ignore[arg-type]
    with pytest.raises(NotEncodable):
        encode_many([(1, 0, body)])  # type: ignore[list-item]
    with pytest.raises(NotEncodable):
        splitter.feed(body)  # type: ignore[arg-type]
    assert splitter.feed(HELLO) == [Frame(2, 1, b"hello")]


@pytest.mark.parametrize("item", [None, b"frame", (1, 2), [1, 0, b""]])
def test_an_item_that_is_no_frame_is_refused(item: object) -> None:
    with pytest.raises(NotEncodable, match="neither a Frame nor"):
        encode_many([item])  # type: ignore[list-item]


def test_frames_are_values() -> None:
    frame = Frame(2, 1, b"hello")
    assert frame == Frame(2, 1, b"hello")
    assert hash(frame) == hash(Frame(2, 1, b"hello"))
    assert frame not in (Frame(3, 1, b"hello"), Frame(2, 0, b"hello"), Frame(2, 1, b""))
    assert frame != (2, 1, b"hello")
    assert copy.deepcopy(frame) == frame
    match frame:
        case Frame(kind, flags, body):
            assert (kind, flags, body) == (2, 1, b"hello")
    with pytest.raises(AttributeError):
        frame.kind = 3  # type: ignore[misc]


def test_a_long_body_is_shown_by_its_start() -> None:
    assert repr(Frame(2, 1, b"hi")) == "Frame(kind=2, flags=1, body=b'hi')"
    shown = repr(Frame(2, 1, bytes(5_000)))
    assert "5000 bytes" in shown
    assert len(shown) < 250
