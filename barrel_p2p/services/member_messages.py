"""What nodes tell each other of members: four messages and their bytes.

A lease is a node, one life of it and a number that only grows. LEASES tells many, and
how old each one is; the others tell one thing about one node, and are passed on.

Bounded by ``LEASES_PER_FRAME_MAX`` and ``SEQ_MAX``.

Source: docs/reference/wire.md, "Members".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, final

from barrel_p2p.core.hlc import WALL_MS_MAX
from barrel_p2p.errors import WireError
from barrel_p2p.wire.fields import Reader, short
from barrel_p2p.wire.kinds import Kind

__all__ = [
    "LEASES_PER_FRAME_MAX",
    "MEMBER_KINDS",
    "SEQ_MAX",
    "Alive",
    "Lease",
    "Leases",
    "Leave",
    "MemberMessage",
    "Suspect",
    "decode",
    "encode",
]

MEMBER_KINDS: Final = (Kind.LEASES, Kind.SUSPECT, Kind.ALIVE, Kind.LEAVE)

LEASES_PER_FRAME_MAX: Final = 1_024
"""Leases in one LEASES; a longer table takes several."""

SEQ_MAX: Final = (1 << 48) - 1
"""A lease's number. One every millisecond would take 8,900 years to get there."""

_HEAD: Final = struct.Struct(">QH")
_FACT: Final = struct.Struct(">IQ")
_LEASE: Final = struct.Struct(">IQI")

type Lease = tuple[str, int, int, int]
"""Node, creation, number, and age in milliseconds: how long ago the number grew."""


@final
@dataclass(frozen=True, slots=True)
class Leases:
    """Leases that grew, or all of them to a new peer.

    Args:
        wall_ms: The sender's wall clock, to be compared and not stored.
        leases: At most ``LEASES_PER_FRAME_MAX``.
    """

    wall_ms: int
    leases: tuple[Lease, ...]


@final
@dataclass(frozen=True, slots=True)
class Suspect:
    """``by`` doubts that ``node`` lives. A number above ``seq`` refutes it.

    Args:
        node: The suspect.
        creation: Which life of it.
        seq: The highest number of its lease that ``by`` knows.
        by: Who doubts.
        lapsed: Its lease has run out, so that no channel to it is an answer. Otherwise
            the channel of ``by`` was lost, and somebody else's is one.
    """

    node: str
    creation: int
    seq: int
    by: str
    lapsed: bool


@final
@dataclass(frozen=True, slots=True)
class Alive:
    """``node`` says that it lives, or someone who holds a channel to it does."""

    node: str
    creation: int
    seq: int


@final
@dataclass(frozen=True, slots=True)
class Leave:
    """``node`` leaves. Only a number above ``seq`` brings this life of it back."""

    node: str
    creation: int
    seq: int


type MemberMessage = Leases | Suspect | Alive | Leave


def encode(message: MemberMessage) -> tuple[int, bytes]:
    """Frame kind and body of ``message``, whose fields have to be within bounds."""
    if type(message) is Leases:
        parts = [_HEAD.pack(message.wall_ms, len(message.leases))]
        for node, creation, seq, age_ms in message.leases:
            parts.append(short(node))
            parts.append(_LEASE.pack(creation, seq, age_ms))
        return Kind.LEASES, b"".join(parts)
    fact = short(message.node) + _FACT.pack(message.creation, message.seq)
    if type(message) is Suspect:
        return Kind.SUSPECT, fact + short(message.by) + bytes((message.lapsed,))
    return (Kind.ALIVE if type(message) is Alive else Kind.LEAVE), fact


def decode(kind: int, body: bytes) -> MemberMessage:
    """The message in a frame of one of ``MEMBER_KINDS``.

    Args:
        kind: The frame's kind.
        body: The frame's body, from a peer.

    Raises:
        WireError: It is none, or a field is out of range.
    """
    if kind not in MEMBER_KINDS:
        raise WireError(f"kind {kind} says nothing of members")
    reader = Reader(body, Kind(kind).name)
    message = _leases(reader) if kind == Kind.LEASES else _fact(kind, reader)
    reader.end()
    return message


def _fact(kind: int, reader: Reader) -> Suspect | Alive | Leave:
    node = reader.node()
    creation, seq = reader.unpack(_FACT)
    _check(node, creation, seq)
    if kind == Kind.SUSPECT:
        return Suspect(node, creation, seq, reader.node(), reader.byte(at_most=1) == 1)
    return (Alive if kind == Kind.ALIVE else Leave)(node, creation, seq)


def _leases(reader: Reader) -> Leases:
    wall_ms, count = reader.unpack(_HEAD)
    if wall_ms > WALL_MS_MAX:
        raise WireError(f"LEASES with a wall clock of {wall_ms} ms, past the year 9999")
    if count > LEASES_PER_FRAME_MAX:
        raise WireError(
            f"{count} leases in a frame exceed LEASES_PER_FRAME_MAX="
            f"{LEASES_PER_FRAME_MAX}"
        )
    leases = []
    for _ in range(count):
        node = reader.node()
        creation, seq, age_ms = reader.unpack(_LEASE)
        _check(node, creation, seq)
        leases.append((node, creation, seq, age_ms))
    return Leases(wall_ms, tuple(leases))


def _check(node: str, creation: int, seq: int) -> None:
    if creation == 0:
        raise WireError(f"creation 0 of {node}: lives count from 1")
    if seq > SEQ_MAX:
        raise WireError(f"lease {seq} of {node} exceeds SEQ_MAX={SEQ_MAX}")
