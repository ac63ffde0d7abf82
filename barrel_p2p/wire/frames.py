"""Frames: what travels on every unidirectional stream.

A frame is a u32 length of what follows, a u8 kind, a u8 flags and a body, big endian.
``kinds`` says what the kinds mean and what becomes of unknown ones; here they are
numbers.

Source: docs/reference/wire.md, "Frames".
"""

from __future__ import annotations

from barrel_p2p.wire._frames import (
    HEADER_BYTES,
    Frame,
    Splitter,
    encode,
    encode_many,
)

__all__ = ["HEADER_BYTES", "Frame", "Splitter", "encode", "encode_many"]
