"""What the frame kinds mean: an append-only table, and the rule for unknown ones.

A number is given once. It is never changed and never given again, not even when what
it named is gone; ``tests/vectors/frames.json`` holds the table to that.

Source: docs/reference/wire.md, "Kinds".
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from barrel_p2p.errors import WireError
from barrel_p2p.wire.frames import Frame

__all__ = [
    "BROADCAST",
    "FLAG_SKIP_UNKNOWN",
    "MEMBERSHIP",
    "REPLICA",
    "ROUTER",
    "SKIPPABLE_MIN",
    "Kind",
    "skip_unknown",
]


class Kind(IntEnum):
    """Every kind; the ranges below say which room each one belongs to."""

    SESSION = 1
    SEND = 2
    SEND_NAME = 3
    CALL = 4
    REPLY = 5
    ERROR = 6
    CANCEL = 7
    EXIT = 8
    LINK = 9
    UNLINK = 10
    MONITOR = 11
    DEMONITOR = 12
    DOWN = 13
    RPC = 14
    BYE = 15
    PAUSE = 16
    RESUME = 17
    JOIN = 32
    FORWARD_JOIN = 33
    NEIGHBOR = 34
    NEIGHBOR_REPLY = 35
    DISCONNECT = 36
    SHUFFLE = 37
    SHUFFLE_REPLY = 38
    LEASES = 39
    SUSPECT = 40
    ALIVE = 41
    LEAVE = 42
    GOSSIP = 48
    IHAVE = 49
    GRAFT = 50
    PRUNE = 51
    SYNC_REQUEST = 56
    SYNC_CHUNK = 57
    SYNC_DONE = 58
    ROUTE_REQUEST = 64
    ROUTE_REPLY = 65
    MIGRATE_PLEASE = 72


MEMBERSHIP: Final = range(32, 48)
BROADCAST: Final = range(48, 56)
REPLICA: Final = range(56, 64)
ROUTER: Final = range(64, 72)

SKIPPABLE_MIN: Final = 0x80
"""Kinds from here on may be skipped by a node that does not know them."""

FLAG_SKIP_UNKNOWN: Final = 0x01
"""The sender of such a kind allows the skipping, frame by frame."""


def skip_unknown(frame: Frame, *, peer: str | None = None) -> None:
    """Do what is due for a frame whose kind nobody here handles: nothing, or raise.

    Args:
        frame: A frame of a kind that this version does not know.
        peer: Its sender, for the error.

    Raises:
        WireError: The kind is below ``SKIPPABLE_MIN``, or its sender did not set
            ``FLAG_SKIP_UNKNOWN``. The channel cannot go on.
    """
    if frame.kind >= SKIPPABLE_MIN and frame.flags & FLAG_SKIP_UNKNOWN:
        return
    sender = "" if peer is None else f" from {peer}"
    raise WireError(
        f"frame of unknown kind {frame.kind}, flags {frame.flags}{sender}"
        f" may not be skipped: only kinds >= {SKIPPABLE_MIN} with flag"
        f" {FLAG_SKIP_UNKNOWN} may",
        hint="the peer speaks a newer or another protocol",
        peer=peer,
    )
