"""What travels between neighbours of the broadcast tree: four messages, packed.

Bounded by ``TOPIC_BYTES_MAX``, ``PAYLOAD_BYTES_MAX``, ``IHAVE_IDS_MAX`` and
``GRAFT_IDS_MAX``.

Source: docs/reference/wire.md, "Broadcast".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple, final

from barrel_p2p.broadcast.dedup import ID_BYTES
from barrel_p2p.core.records import quickly_made
from barrel_p2p.errors import InvalidValue, WireError
from barrel_p2p.wire.fields import misfit
from barrel_p2p.wire.kinds import Kind

__all__ = [
    "GRAFT_IDS_MAX",
    "HOPS_MAX",
    "IHAVE_IDS_MAX",
    "KINDS",
    "PAYLOAD_BYTES_MAX",
    "PRUNE",
    "TOPIC_BYTES_MAX",
    "Delivery",
    "Gossip",
    "Graft",
    "IHave",
    "Message",
    "Prune",
    "check_broadcast",
    "check_topic",
    "decode",
    "encode",
]

TOPIC_BYTES_MAX: Final = 255
"""Bytes of a topic in UTF-8; at least one."""

PAYLOAD_BYTES_MAX: Final = 1 << 20
"""Bytes of a payload. Larger values belong on a stream."""

HOPS_MAX: Final = 255
"""A count that has come this far stays there."""

IHAVE_IDS_MAX: Final = 4_096
"""Ids in one IHAVE."""

GRAFT_IDS_MAX: Final = 4_096
"""Ids in one GRAFT."""

KINDS: Final = (Kind.GOSSIP, Kind.IHAVE, Kind.GRAFT, Kind.PRUNE)

_AGAIN: Final = 0x01
_OWED: Final = 0x01
_GOSSIP: Final = struct.Struct(f">BB{ID_BYTES}sB")
_IHAVE: Final = struct.Struct(">BH")
_GRAFT: Final = struct.Struct(">H")


@quickly_made
class Gossip(NamedTuple):
    """A broadcast, whole. A tuple, because two are made for each that passes through.

    Args:
        hops: Links it will have crossed when it arrives, 1 to ``HOPS_MAX``.
        message_id: ``ID_BYTES`` bytes.
        topic: Whom it is for, 1 to ``TOPIC_BYTES_MAX`` bytes of UTF-8.
        payload: At most ``PAYLOAD_BYTES_MAX`` bytes.
        again: It answers a GRAFT, so that a second copy says nothing about the tree.
    """

    hops: int
    message_id: bytes
    topic: str
    payload: bytes
    again: bool = False


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class IHave:
    """I could send you these.

    Args:
        ids: 1 to ``IHAVE_IDS_MAX`` ids, one after the other.
        hops: One byte for each: what ``Gossip.hops`` would be.
        owed: They would have been sent, had there been room: ask at once.
    """

    ids: bytes
    hops: bytes
    owed: bool = False


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class Graft:
    """Send me what you hear from now on, and these.

    Args:
        ids: At most ``GRAFT_IDS_MAX`` ids, one after the other; none to become eager
            and no more.
    """

    ids: bytes


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class Prune:
    """Announce to me what you hear from now on, and do not send it."""


PRUNE: Final = Prune()

type Message = Gossip | IHave | Graft | Prune


@quickly_made
class Delivery(NamedTuple):
    """A broadcast has reached this node.

    Args:
        topic: Whom it is for.
        payload: What was given to ``broadcast``.
        message_id: The same on every node.
        own: Whether this node is where it began.
    """

    topic: str
    payload: bytes
    message_id: bytes
    own: bool


def check_topic(topic: str) -> None:
    """Check the name of a topic.

    Raises:
        InvalidValue: It is no str, empty, or longer than ``TOPIC_BYTES_MAX``.
    """
    if type(topic) is not str or not 1 <= _utf8_bytes(topic) <= TOPIC_BYTES_MAX:
        raise InvalidValue(
            f"a topic is a str of 1 to TOPIC_BYTES_MAX={TOPIC_BYTES_MAX} bytes in"
            f" UTF-8, not {_shown(topic)}"
        )


def check_broadcast(topic: str, payload: bytes, message_id: bytes | None) -> None:
    """Check what somebody wants to broadcast.

    Raises:
        InvalidValue: A value has the wrong type or size; the text names the limit.
    """
    check_topic(topic)
    if type(payload) is not bytes:
        raise InvalidValue(
            f"a payload is bytes, not {type(payload).__name__}",
            hint="encode it first, with wire.terms for instance",
        )
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise InvalidValue(
            f"payload of {len(payload)} bytes exceeds"
            f" PAYLOAD_BYTES_MAX={PAYLOAD_BYTES_MAX}",
            hint="send it on a stream and broadcast where it is",
        )
    if message_id is not None and (
        type(message_id) is not bytes or len(message_id) != ID_BYTES
    ):
        raise InvalidValue(
            f"a message id is {ID_BYTES} bytes, not {_shown(message_id)}",
            hint=f"hash a longer name with blake2b(digest_size={ID_BYTES})",
        )


def encode(message: Message) -> tuple[int, bytes]:
    """Frame kind and body of ``message``, whose fields have to be within bounds."""
    if type(message) is Gossip:
        topic = message.topic.encode()
        flags = _AGAIN if message.again else 0
        head = _GOSSIP.pack(flags, message.hops, message.message_id, len(topic))
        return Kind.GOSSIP, head + topic + message.payload
    if type(message) is IHave:
        head = _IHAVE.pack(_OWED if message.owed else 0, len(message.hops))
        return Kind.IHAVE, head + message.ids + message.hops
    if type(message) is Graft:
        return Kind.GRAFT, _GRAFT.pack(len(message.ids) // ID_BYTES) + message.ids
    return Kind.PRUNE, b""


def decode(kind: int, body: bytes, *, peer: str | None = None) -> Message:
    """The message in a frame of a gossip stream.

    Args:
        kind: One of ``KINDS``.
        body: The frame's body, from anybody who is admitted.
        peer: Its sender, for the error.

    Raises:
        WireError: It is none, or not to the byte what ``encode`` makes.
    """
    if kind == Kind.GOSSIP:
        return _decode_gossip(body, peer)
    if kind == Kind.IHAVE:
        return _decode_ihave(body, peer)
    if kind == Kind.GRAFT:
        return _decode_graft(body, peer)
    if kind == Kind.PRUNE and not body:
        return PRUNE
    raise misfit("PRUNE" if kind == Kind.PRUNE else f"kind {kind}", body, peer=peer)


def _decode_gossip(body: bytes, peer: str | None) -> Gossip:
    if len(body) < _GOSSIP.size:
        raise misfit("GOSSIP", body, peer=peer)
    flags, hops, message_id, size = _GOSSIP.unpack_from(body)
    start = _GOSSIP.size + size
    if flags > _AGAIN or not hops or not size or len(body) < start:
        raise misfit("GOSSIP", body, peer=peer)
    if len(body) - start > PAYLOAD_BYTES_MAX:
        raise WireError(
            f"GOSSIP with a payload of {len(body) - start} bytes exceeds"
            f" PAYLOAD_BYTES_MAX={PAYLOAD_BYTES_MAX}",
            peer=peer,
        )
    try:
        topic = body[_GOSSIP.size : start].decode()
    except UnicodeDecodeError as error:
        raise WireError("GOSSIP whose topic is not UTF-8", peer=peer) from error
    return Gossip(hops, message_id, topic, body[start:], flags == _AGAIN)


def _decode_ihave(body: bytes, peer: str | None) -> IHave:
    if len(body) < _IHAVE.size:
        raise misfit("IHAVE", body, peer=peer)
    flags, count = _IHAVE.unpack_from(body)
    middle = _IHAVE.size + count * ID_BYTES
    hops = body[middle:]
    if flags > _OWED or not 1 <= count <= IHAVE_IDS_MAX:
        raise misfit("IHAVE", body, peer=peer)
    if len(hops) != count or b"\0" in hops:
        raise misfit("IHAVE", body, peer=peer)
    return IHave(body[_IHAVE.size : middle], hops, flags == _OWED)


def _decode_graft(body: bytes, peer: str | None) -> Graft:
    if len(body) < _GRAFT.size:
        raise misfit("GRAFT", body, peer=peer)
    (count,) = _GRAFT.unpack_from(body)
    if count > GRAFT_IDS_MAX or len(body) != _GRAFT.size + count * ID_BYTES:
        raise misfit("GRAFT", body, peer=peer)
    return Graft(body[_GRAFT.size :])


def _utf8_bytes(text: str) -> int:
    if len(text) > TOPIC_BYTES_MAX:
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:  # A lone surrogate has no form in UTF-8.
        return 0


def _shown(value: object) -> str:
    if isinstance(value, str | bytes) and len(value) > 32:
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value) if isinstance(value, str | bytes) else type(value).__name__
