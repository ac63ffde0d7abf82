"""What a one-way stream is for: the byte it starts with, and how early it goes.

Source: docs/reference/wire.md, "Streams".
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["PRIORITIES", "StreamRole"]


class StreamRole(IntEnum):
    """First byte of a one-way stream."""

    AUTH = 0
    CONTROL = 1
    GOSSIP = 2
    DATA = 3


PRIORITIES: Final = {
    StreamRole.AUTH: 2,
    StreamRole.CONTROL: 2,
    StreamRole.GOSSIP: 4,
    StreamRole.DATA: 6,
}
"""A lower number goes first. User streams have 16 to 255."""
