"""Compiled frames agree with their model under any chunking and any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.errors import WireError
from barrel_p2p.wire.frames import Frame, Splitter, encode, encode_many
from tests.models.frames import FramesModel, Refused, Triple, encode_model

OCTET = st.integers(0, 255)
BODY = st.binary(max_size=8) | st.integers(0, 3_000).map(bytes)
FRAMES = st.lists(st.tuples(OCTET, OCTET, BODY), max_size=12)
# Small steps tear headers, large ones hold several frames.
STEPS = st.lists(st.sampled_from([1, 2, 3, 5, 6, 7, 64, 900, 5_000]), min_size=1)
# Lengths near 0, near the limit and near the sign bit, and what follows them.
LENGTH = st.sampled_from([0, 1, 2, 3, 9, 40, 41, 2**31 - 1, 2**31, 2**32 - 1])
HOSTILE = st.lists(
    st.tuples(LENGTH, st.binary(max_size=50)).map(
        lambda pair: pair[0].to_bytes(4, "big") + pair[1]
    ),
    max_size=8,
).map(b"".join)


def chunks(stream: bytes, steps: list[int]) -> list[bytes]:
    cut = []
    at = turn = 0
    while at < len(stream):
        size = steps[turn % len(steps)]
        cut.append(stream[at : at + size])
        at += size
        turn += 1
    return cut


def as_frames(triples: list[Triple]) -> list[Frame]:
    return [Frame(*triple) for triple in triples]


@given(FRAMES)
def test_encoding_agrees_with_the_model(frames: list[Triple]) -> None:
    expected = encode_model(frames)
    assert encode_many(frames) == expected
    assert encode_many(as_frames(frames)) == expected
    assert b"".join(encode(*frame) for frame in frames) == expected


@given(FRAMES, STEPS)
def test_any_chunking_gives_the_same_frames(
    frames: list[Triple], steps: list[int]
) -> None:
    splitter = Splitter()
    got = [
        f for chunk in chunks(encode_many(frames), steps) for f in splitter.feed(chunk)
    ]
    assert got == as_frames(frames)
    splitter.finish()


@given(HOSTILE, STEPS)
def test_each_chunk_of_any_bytes_ends_like_the_model(
    stream: bytes, steps: list[int]
) -> None:
    splitter, model = Splitter(40), FramesModel(40)
    received = 0
    for chunk in chunks(stream, steps):
        received += len(chunk)
        try:
            expected = as_frames(model.feed(chunk))
        except Refused as refused:
            with pytest.raises(WireError, match=f"frame of {refused.length} bytes"):
                splitter.feed(chunk)
            return
        assert splitter.feed(chunk) == expected
        assert splitter.pending_bytes <= received
        assert splitter.held_bytes <= 44


@given(FRAMES, STEPS)
def test_a_torn_frame_holds_at_most_twice_what_was_received(
    frames: list[Triple], steps: list[int]
) -> None:
    splitter = Splitter()
    received = 0
    for chunk in chunks(encode_many(frames), steps):
        received += len(chunk)
        splitter.feed(chunk)
        assert splitter.held_bytes <= max(256, 2 * received)
