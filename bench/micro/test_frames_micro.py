"""Splitting and encoding frames, beside the quickest plain Python that does the same.

A chunk is what one wake-up brings: 64 KiB of whole frames, or the same torn at 1,200
bytes. Run with ``pytest bench/micro --benchmark-group-by=group``.
"""

from __future__ import annotations

import struct

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from barrel_p2p.wire.frames import HEADER_BYTES, Frame, Splitter, encode, encode_many

CHUNK_BYTES = 65_536
TORN_BYTES = 1_200
HEADER = struct.Struct(">IBB")
BODIES = [16, 100, 1_000, 16_000]

Triple = tuple[int, int, bytes]


class PlainSplitter:
    """The splitter a Python program would write: one carry, no checks but the limit."""

    def __init__(self) -> None:
        self._carry = b""

    def feed(self, chunk: bytes) -> list[Triple]:
        data = self._carry + chunk if self._carry else chunk
        frames = []
        at, end = 0, len(data)
        while end - at >= 6:
            length, kind, flags = HEADER.unpack_from(data, at)
            if length > 1 << 23:
                raise ValueError(length)
            after = at + 4 + length
            if after > end:
                break
            frames.append((kind, flags, data[at + 6 : after]))
            at = after
        self._carry = data[at:]
        return frames


def frames_of(body_bytes: int) -> list[Frame]:
    count = CHUNK_BYTES // (HEADER_BYTES + body_bytes)
    return [Frame(2, 0, bytes(body_bytes))] * count


def torn(stream: bytes) -> list[bytes]:
    return [stream[at : at + TORN_BYTES] for at in range(0, len(stream), TORN_BYTES)]


def feed_all(splitter: Splitter | PlainSplitter, chunks: list[bytes]) -> int:
    return sum(len(splitter.feed(chunk)) for chunk in chunks)


def encode_plain(frames: list[Frame]) -> bytes:
    return b"".join(
        [HEADER.pack(len(f.body) + 2, f.kind, f.flags) + f.body for f in frames]
    )


@pytest.mark.benchmark(group="split")
@pytest.mark.parametrize("body_bytes", BODIES)
@pytest.mark.parametrize("make", [Splitter, PlainSplitter])
def test_split_a_chunk(
    benchmark: BenchmarkFixture, body_bytes: int, make: type[Splitter | PlainSplitter]
) -> None:
    frames = frames_of(body_bytes)
    assert len(benchmark(make().feed, encode_many(frames))) == len(frames)


@pytest.mark.benchmark(group="split torn")
@pytest.mark.parametrize("body_bytes", BODIES)
@pytest.mark.parametrize("make", [Splitter, PlainSplitter])
def test_split_a_torn_chunk(
    benchmark: BenchmarkFixture, body_bytes: int, make: type[Splitter | PlainSplitter]
) -> None:
    frames = frames_of(body_bytes)
    chunks = torn(encode_many(frames))
    assert benchmark(feed_all, make(), chunks) == len(frames)


@pytest.mark.benchmark(group="encode many")
@pytest.mark.parametrize("body_bytes", BODIES)
@pytest.mark.parametrize("into", [encode_many, encode_plain])
def test_encode_a_chunk(
    benchmark: BenchmarkFixture, body_bytes: int, into: object
) -> None:
    assert callable(into)
    frames = frames_of(body_bytes)
    assert benchmark(into, frames) == encode_plain(frames)


@pytest.mark.benchmark(group="encode")
@pytest.mark.parametrize("body_bytes", BODIES)
def test_encode_one(benchmark: BenchmarkFixture, body_bytes: int) -> None:
    body = bytes(body_bytes)
    assert benchmark(encode, 2, 0, body)[6:] == body
