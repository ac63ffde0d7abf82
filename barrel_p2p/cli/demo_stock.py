"""The bytes of the demo: made once, hashed once, sent over every transport."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from os import urandom

from xxhash import xxh3_128

from barrel_p2p.wire import frames

__all__ = ["BATCH", "BODY_BYTES", "DIGEST_BYTES", "KIND_END", "KIND_MESSAGE", "Stock"]

BODY_BYTES = 100
BATCH = 64
"""Messages framed together and handed over in one write."""

KIND_MESSAGE = 0x80
KIND_END = 0x81

DIGEST_BYTES = 16
"""XXH3-128: it finds what got lost or changed, and costs too little to be measured."""

_BLOCK_BYTES = 64 << 10
_SOURCE_BYTES = 1 << 20
_STEP_BYTES = 4_099  # Prime, so that blocks begin at ever new places of the source.
_TAILS = 1_024
_sequence = struct.Struct(">Q").pack


class Stock:
    """The bytes to exchange, numbered and random, with the digests they must have.

    Args:
        messages: How many messages, at least 1.
        stream_bytes: Length of the stream, at least 1.
        corrupt: ``messages`` or ``stream``: change one byte of it after hashing, so
            that the check can be seen to fail. None changes nothing.
    """

    def __init__(
        self, messages: int, stream_bytes: int, *, corrupt: str | None = None
    ) -> None:
        self.message_count = messages
        self.stream_bytes = stream_bytes
        self._corrupt = corrupt
        self._tails = [urandom(BODY_BYTES - 8) for _ in range(_TAILS)]
        self._source = memoryview(urandom(_SOURCE_BYTES + _BLOCK_BYTES))
        self.messages_digest = self._hash_messages()
        self.stream_digest = self._hash_stream()

    @property
    def message_bytes(self) -> int:
        """Bytes of all messages, without their frames."""
        return self.message_count * BODY_BYTES

    def batches(self) -> Iterator[bytes]:
        """The messages, framed, ``BATCH`` at a time."""
        corrupt = self.message_count // (2 * BATCH)
        for number, start in enumerate(range(0, self.message_count, BATCH)):
            bodies = self._bodies(start)
            framed = frames.encode_many([(KIND_MESSAGE, 0, body) for body in bodies])
            if number == corrupt and self._corrupt == "messages":
                framed = _with_last_byte_changed(framed)
            yield framed

    def blocks(self) -> Iterator[bytes | memoryview]:
        """The stream, in pieces."""
        corrupt = self.stream_bytes // (2 * _BLOCK_BYTES)
        for number, block in enumerate(self._blocks()):
            if number == corrupt and self._corrupt == "stream":
                yield _with_last_byte_changed(bytes(block))
            else:
                yield block

    def _bodies(self, start: int) -> list[bytes]:
        """One batch of bodies: a sequence number, then random bytes."""
        tails = self._tails
        stop = min(start + BATCH, self.message_count)
        return [_sequence(i) + tails[i % _TAILS] for i in range(start, stop)]

    def _blocks(self) -> Iterator[memoryview]:
        left, start = self.stream_bytes, 0
        while left > 0:
            length = min(left, _BLOCK_BYTES)
            yield self._source[start : start + length]
            left -= length
            start = (start + _STEP_BYTES) % _SOURCE_BYTES

    def _hash_messages(self) -> bytes:
        digest = xxh3_128()
        for start in range(0, self.message_count, BATCH):
            digest.update(b"".join(self._bodies(start)))
        return digest.digest()

    def _hash_stream(self) -> bytes:
        digest = xxh3_128()
        for block in self._blocks():
            digest.update(block)
        return digest.digest()


def _with_last_byte_changed(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])
