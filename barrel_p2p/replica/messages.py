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

from barrel_p2p.core.names import NODE_NAME_BYTES_MAX, wire_name
from barrel_p2p.core.ormap import BUCKETS
from barrel_p2p.errors import WireError
from barrel_p2p.replica.limits import REPLICA_NAME_BYTES_MAX
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
    node = origin.node.encode("ascii")
    head = _ORIGIN.pack(origin.creation, origin.seq)
    match message:
        case DeltaMessage():
            return bytes([_DELTA, len(node)]) + node + head + message.entries
        case CustomMessage():
            return bytes([_CUSTOM, len(node)]) + node + head + message.payload
        case _:
            assert_never(message)


def decode_gossip(payload: bytes) -> GossipMessage:
    """The message in a broadcast's payload, which may come from anyone.

    Raises:
        WireError: It is none. Entries and payloads in it were not looked at.
    """
    _need(len(payload) >= 2, "gossip", payload)
    form, size = payload[0], payload[1]
    at = 2 + size
    _need(size <= NODE_NAME_BYTES_MAX, "gossip", payload)
    _need(len(payload) >= at + _ORIGIN.size, "gossip", payload)
    creation, seq = _ORIGIN.unpack_from(payload, at)
    origin = Origin(wire_name(payload[2:at]), creation, seq)
    body = payload[at + _ORIGIN.size :]
    match form:
        case 1:
            return DeltaMessage(origin, body)
        case 2:
            return CustomMessage(origin, body)
        case _:
            raise WireError(f"gossip of a replica has form {form}, which is no known")


def encode(message: SyncMessage) -> tuple[int, bytes]:
    """Frame kind and body of ``message``, whose fields have to be within bounds."""
    name = message.replica.encode()
    head = bytes([len(name)]) + name + _ROUND.pack(message.round)
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
    _need(len(body) >= 1, "sync", body)
    at = 1 + body[0]
    _need(1 <= body[0] <= REPLICA_NAME_BYTES_MAX, "sync", body)
    _need(len(body) >= at + _ROUND.size, "sync", body)
    try:
        name = body[1:at].decode()
    except UnicodeDecodeError as error:
        raise WireError("sync frame whose replica's name is not UTF-8") from error
    (number,) = _ROUND.unpack_from(body, at)
    rest = body[at + _ROUND.size :]
    match kind:
        case Kind.SYNC_REQUEST:
            _need(len(rest) == DIGEST_BYTES, "SYNC_REQUEST", body)
            return SyncRequest(name, number, rest)
        case Kind.SYNC_CHUNK:
            return SyncChunk(name, number, rest)
        case Kind.SYNC_DONE:
            return _decode_done(name, number, rest)
        case _:
            raise WireError(f"kind {kind} is no message of replicas")


def _decode_done(name: str, number: int, rest: bytes) -> SyncDone:
    _need(len(rest) >= _DONE.size, "SYNC_DONE", rest)
    code, chunks = _DONE.unpack_from(rest)
    try:
        status = Status(code)
    except ValueError as error:
        raise WireError(f"SYNC_DONE with status {code}") from error
    digest_bytes = DIGEST_BYTES if status is Status.ANSWERED else 0
    _need(len(rest) == _DONE.size + digest_bytes, "SYNC_DONE", rest)
    return SyncDone(name, number, status, chunks, rest[_DONE.size :])


def _need(condition: bool, name: str, body: bytes) -> None:
    if not condition:
        raise WireError(f"{name} of {len(body)} bytes does not fit its layout")
