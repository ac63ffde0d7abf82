"""What replicas say: two payloads of gossip, and three frames of a sync round.

Entries stay bytes here; ``wire.crdt_ingest`` reads them once somebody wants them.

Bounded by ``REPLICA_NAME_BYTES_MAX``, by ``DIGEST_BYTES``, and by the frame.

Source: docs/reference/wire.md, "Replicas".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, assert_never, final

from barrel_p2p.core.ormap import BUCKETS
from barrel_p2p.errors import WireError
from barrel_p2p.replica.limits import REPLICA_NAME_BYTES_MAX
from barrel_p2p.wire.fields import Reader, misfit, short
from barrel_p2p.wire.kinds import Kind

__all__ = [
    "DIGEST_BYTES",
    "CustomMessage",
    "DeltaMessage",
    "GossipMessage",
    "Origin",
    "Status",
    "SyncChunk",
    "SyncDone",
    "SyncMessage",
    "SyncRequest",
    "decode",
    "decode_gossip",
    "encode",
    "encode_gossip",
]

DIGEST_BYTES: Final = 8 * BUCKETS
"""Bytes of a digest: a u64 for each bucket of an OR-Map."""

_ORIGIN: Final = struct.Struct(">IQ")
_ROUND: Final = struct.Struct(">I")
_DONE: Final = struct.Struct(">BI")
_DELTA: Final = 1
_CUSTOM: Final = 2


@final
@dataclass(frozen=True, slots=True)
class Origin:
    """Who made a gossiped message, and when in its life.

    Args:
        node: The node's name.
        creation: Its life, 1 to 2**32 - 1.
        seq: Counts what it gossiped of this replica in that life, from 1.
    """

    node: str
    creation: int
    seq: int


@final
@dataclass(frozen=True, slots=True)
class DeltaMessage:
    """Gossip: entries that ``origin`` wrote; ``entries`` is an encoded delta."""

    origin: Origin
    entries: bytes


@final
@dataclass(frozen=True, slots=True)
class CustomMessage:
    """Gossip: whatever the replica's owners tell each other; an encoded term."""

    origin: Origin
    payload: bytes


class Status(IntEnum):
    """How the half of a round that SYNC_DONE ends has gone."""

    ANSWERED = 0
    """You have all my entries of the buckets in which we differ; send me yours."""

    SAME = 1
    """There is no difference. The round is over."""

    OVER = 2
    """You have mine too. The round is over."""

    BUSY = 3
    """I answer no more of your requests at the moment; ask later."""

    UNKNOWN = 4
    """I have no replica of that name."""

    CROSSED = 5
    """We have asked each other; my request goes on, this one is over."""


@final
@dataclass(frozen=True, slots=True)
class SyncRequest:
    """Compare ``replica`` with mine, of which this is the digest.

    Args:
        replica: Its name.
        round: Chosen by who asks, for the answers; 0 to 2**32 - 1.
        digest: ``DIGEST_BYTES`` bytes.
    """

    replica: str
    round: int
    digest: bytes


@final
@dataclass(frozen=True, slots=True)
class SyncChunk:
    """Some entries of the buckets in which the two differ; an encoded delta."""

    replica: str
    round: int
    entries: bytes


@final
@dataclass(frozen=True, slots=True)
class SyncDone:
    """The sender's half of the round is over.

    Args:
        replica: Its name.
        round: As in the request.
        status: How it went.
        chunks: How many SYNC_CHUNK frames it had.
        digest: What the sender has now, ``DIGEST_BYTES`` bytes; only if ANSWERED.
    """

    replica: str
    round: int
    status: Status
    chunks: int = 0
    digest: bytes = b""


type GossipMessage = DeltaMessage | CustomMessage
type SyncMessage = SyncRequest | SyncChunk | SyncDone


def encode_gossip(message: GossipMessage) -> bytes:
    """The payload of a broadcast."""
    origin = message.origin
    head = short(origin.node) + _ORIGIN.pack(origin.creation, origin.seq)
    match message:
        case DeltaMessage():
            return bytes([_DELTA]) + head + message.entries
        case CustomMessage():
            return bytes([_CUSTOM]) + head + message.payload
        case _:
            assert_never(message)


def decode_gossip(payload: bytes) -> GossipMessage:
    """The message in a broadcast's payload, which may come from anyone.

    Raises:
        WireError: It is none. Entries and payloads in it were not looked at.
    """
    reader = Reader(payload, "gossip")
    form = reader.byte()
    origin = Origin(reader.node(), *reader.unpack(_ORIGIN))
    match form:
        case 1:
            return DeltaMessage(origin, reader.rest())
        case 2:
            return CustomMessage(origin, reader.rest())
        case _:
            raise WireError(f"gossip of a replica has form {form}, which is no known")


def encode(message: SyncMessage) -> tuple[int, bytes]:
    """Frame kind and body of ``message``, whose fields have to be within bounds."""
    head = short(message.replica) + _ROUND.pack(message.round)
    match message:
        case SyncRequest():
            return Kind.SYNC_REQUEST, head + message.digest
        case SyncChunk():
            return Kind.SYNC_CHUNK, head + message.entries
        case SyncDone():
            tail = _DONE.pack(message.status, message.chunks) + message.digest
            return Kind.SYNC_DONE, head + tail
        case _:
            assert_never(message)


def decode(kind: int, body: bytes) -> SyncMessage:
    """The message in a frame.

    Args:
        kind: The frame's kind, one of ``wire.kinds.REPLICA``.
        body: The frame's body.

    Raises:
        WireError: It is none. The entries of a chunk were not looked at.
    """
    reader = Reader(body, "sync")
    raw = reader.short()
    if not 1 <= len(raw) <= REPLICA_NAME_BYTES_MAX:
        raise reader.misfit()
    (number,) = reader.unpack(_ROUND)
    try:
        name = raw.decode()
    except UnicodeDecodeError as error:
        raise WireError("sync frame whose replica's name is not UTF-8") from error
    rest = reader.rest()
    match kind:
        case Kind.SYNC_REQUEST:
            if len(rest) != DIGEST_BYTES:
                raise misfit("SYNC_REQUEST", body)
            return SyncRequest(name, number, rest)
        case Kind.SYNC_CHUNK:
            return SyncChunk(name, number, rest)
        case Kind.SYNC_DONE:
            return _decode_done(name, number, rest)
        case _:
            raise WireError(f"kind {kind} is no message of replicas")


def _decode_done(name: str, number: int, rest: bytes) -> SyncDone:
    reader = Reader(rest, "SYNC_DONE")
    code, chunks = reader.unpack(_DONE)
    try:
        status = Status(code)
    except ValueError as error:
        raise WireError(f"SYNC_DONE with status {code}") from error
    digest = reader.take(DIGEST_BYTES if status is Status.ANSWERED else 0)
    reader.end()
    return SyncDone(name, number, status, chunks, digest)
