"""What travels between views: seven messages and their bytes.

Every length is exact, so a message has one encoding. A node is described by its name
and by where it says it listens, and by nothing else: how long ago it was heard, or how
often it failed, is each node's own experience.

The sender of a message is whoever the channel proved; a message about its sender holds
an address without a name. Names and addresses of others are hearsay until a dial.

Bounded by ``PEERS_MAX`` nodes in a message and ``core.names`` limits for each.

Source: docs/reference/wire.md, "Membership".
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from barrel_p2p.core.names import HOST_CHARS_MAX, Address
from barrel_p2p.core.records import quickly_made
from barrel_p2p.errors import WireError
from barrel_p2p.wire.fields import Reader, short
from barrel_p2p.wire.kinds import Kind

__all__ = [
    "PEERS_MAX",
    "REQUEST_ID_MAX",
    "TTL_MAX",
    "Disconnect",
    "ForwardJoin",
    "Join",
    "Message",
    "Neighbor",
    "NeighborReply",
    "Place",
    "Shuffle",
    "ShuffleReply",
    "Verdict",
    "decode",
    "encode",
    "is_wire_host",
]

PEERS_MAX: Final = 64
"""Nodes that one message may list."""

REQUEST_ID_MAX: Final = (1 << 32) - 1
TTL_MAX: Final = 255

_HOST: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_-])?", re.ASCII)
_SOFT: Final = 1
_LEAVING: Final = 1

_ID: Final = struct.Struct(">I")
_ID_AND_BYTE: Final = struct.Struct(">IB")
_PORT: Final = struct.Struct(">H")

type Place = tuple[str, int]
"""Host and UDP port where a node says it listens; ``("", 0)`` if it does not say."""


class Verdict(IntEnum):
    """What a node answers who was asked for a place in its active view."""

    ACCEPTED = 0
    """We are peers."""

    REFUSED = 1
    """No room; or the asker is not wanted here."""

    LEFT = 2
    """This node has left its cluster and takes no peers."""


@quickly_made
@dataclass(frozen=True, slots=True)
class Join:
    """I want to be in your cluster.

    Args:
        request_id: Comes back in the reply, 0 to ``REQUEST_ID_MAX``.
        soft: Introduce me, but only take me as a peer if there is room.
        place: Where I listen.
    """

    request_id: int
    soft: bool
    place: Place


@quickly_made
@dataclass(frozen=True, slots=True)
class ForwardJoin:
    """Somebody is new.

    Args:
        ttl: Steps that this walk still may take, 0 to ``TTL_MAX``.
        newcomer: Who, and where.
    """

    ttl: int
    newcomer: Address


@quickly_made
@dataclass(frozen=True, slots=True)
class Neighbor:
    """Be my peer.

    Args:
        request_id: Comes back in the reply, 0 to ``REQUEST_ID_MAX``.
        high: Drop another peer for me if you have to.
        place: Where I listen.
    """

    request_id: int
    high: bool
    place: Place


@quickly_made
@dataclass(frozen=True, slots=True)
class NeighborReply:
    """The answer to Neighbor, and to Join.

    Args:
        request_id: That of the request.
        verdict: Whether we are peers from now on.
        place: Where I listen.
        peers: Some that I know of, at most ``PEERS_MAX``.
    """

    request_id: int
    verdict: Verdict
    place: Place
    peers: tuple[Address, ...]


@quickly_made
@dataclass(frozen=True, slots=True)
class Disconnect:
    """You are not my peer any more. The channel stays.

    Args:
        leaving: I am leaving the cluster: do not ask me back.
    """

    leaving: bool


@quickly_made
@dataclass(frozen=True, slots=True)
class Shuffle:
    """Let us tell each other whom we know, whoever ends this walk and its origin.

    Args:
        request_id: The sender's, new at every step; comes back in the reply.
        ttl: Steps that this walk still may take, 0 to ``TTL_MAX``.
        origin: Who began it, and where that is.
        peers: Whom the origin knows, at most ``PEERS_MAX``.
    """

    request_id: int
    ttl: int
    origin: Address
    peers: tuple[Address, ...]


@quickly_made
@dataclass(frozen=True, slots=True)
class ShuffleReply:
    """Whom the end of the walk knows; goes back the way that the walk came.

    Args:
        request_id: That of the Shuffle that its receiver sent.
        peers: At most ``PEERS_MAX``.
    """

    request_id: int
    peers: tuple[Address, ...]


Message = (
    Join | ForwardJoin | Neighbor | NeighborReply | Disconnect | Shuffle | ShuffleReply
)


def encode(message: Message) -> tuple[int, bytes]:
    """Frame kind and body of ``message``, whose fields have to be within bounds."""
    match message:
        case Join(request_id, soft, place):
            head = _ID_AND_BYTE.pack(request_id, _SOFT if soft else 0)
            return Kind.JOIN, head + _encode_place(place)
        case ForwardJoin(ttl, newcomer):
            return Kind.FORWARD_JOIN, bytes([ttl]) + _encode_address(newcomer)
        case Neighbor(request_id, high, place):
            head = _ID_AND_BYTE.pack(request_id, 1 if high else 0)
            return Kind.NEIGHBOR, head + _encode_place(place)
        case NeighborReply(request_id, verdict, place, peers):
            head = _ID_AND_BYTE.pack(request_id, verdict)
            body = head + _encode_place(place) + _encode_peers(peers)
            return Kind.NEIGHBOR_REPLY, body
        case Disconnect(leaving):
            return Kind.DISCONNECT, bytes([_LEAVING if leaving else 0])
        case Shuffle(request_id, ttl, origin, peers):
            head = _ID_AND_BYTE.pack(request_id, ttl)
            body = head + _encode_address(origin) + _encode_peers(peers)
            return Kind.SHUFFLE, body
        case ShuffleReply(request_id, peers):
            return Kind.SHUFFLE_REPLY, _ID.pack(request_id) + _encode_peers(peers)


def decode(kind: int, body: bytes, *, peer: str | None = None) -> Message:
    """The message in a frame of kinds 32 to 38.

    Args:
        kind: The frame's kind.
        body: The frame's body, from an admitted peer.
        peer: Its sender, for the error.

    Raises:
        WireError: It is none, or not to the byte what ``encode`` makes.
    """
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise WireError(f"kind {kind} is no message of membership", peer=peer)
    reader = _Reader(body, Kind(kind).name)
    try:
        message = decoder(reader)
        reader.end()
    except WireError as error:
        error.peer = peer
        raise
    return message


def is_wire_host(host: str) -> bool:
    """Whether ``host`` may travel: a host name in lower case, or an address.

    An IPv6 address is as Python writes it, without brackets and without a zone, which
    means nothing on another host.
    """
    if not 1 <= len(host) <= HOST_CHARS_MAX:
        return False
    if ":" not in host:
        return _HOST.fullmatch(host) is not None
    try:
        parsed = ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return parsed.scope_id is None and str(parsed) == host


def _encode_place(place: Place) -> bytes:
    host, port = place
    return short(host) + _PORT.pack(port)


def _encode_address(address: Address) -> bytes:
    return short(address.name) + _encode_place((address.host, address.port))


def _encode_peers(peers: tuple[Address, ...]) -> bytes:
    assert len(peers) <= PEERS_MAX
    return bytes([len(peers)]) + b"".join([_encode_address(peer) for peer in peers])


class _Reader(Reader):
    """A body with places and addresses in it."""

    __slots__ = ()

    def request_id(self) -> int:
        return int.from_bytes(self.take(_ID.size))

    def place(self) -> Place:
        raw = self.short()
        port = int.from_bytes(self.take(_PORT.size))
        if not raw and not port:
            return "", 0
        try:
            host = raw.decode("ascii")
        except UnicodeDecodeError:
            host = ""
        if not port or not is_wire_host(host):
            raise WireError(f"{self.name} with {raw!r} port {port}, which is no place")
        return host, port

    def address(self) -> Address:
        return Address(self.node(), *self.place())

    def peers(self) -> tuple[Address, ...]:
        return tuple([self.address() for _ in range(self.byte(at_most=PEERS_MAX))])


def _join(reader: _Reader) -> Join:
    request_id = reader.request_id()
    return Join(request_id, reader.byte(at_most=1) == _SOFT, reader.place())


def _forward_join(reader: _Reader) -> ForwardJoin:
    return ForwardJoin(reader.byte(), reader.address())


def _neighbor(reader: _Reader) -> Neighbor:
    request_id = reader.request_id()
    return Neighbor(request_id, reader.byte(at_most=1) == 1, reader.place())


def _neighbor_reply(reader: _Reader) -> NeighborReply:
    request_id = reader.request_id()
    verdict = Verdict(reader.byte(at_most=max(Verdict)))
    return NeighborReply(request_id, verdict, reader.place(), reader.peers())


def _disconnect(reader: _Reader) -> Disconnect:
    return Disconnect(reader.byte(at_most=1) == _LEAVING)


def _shuffle(reader: _Reader) -> Shuffle:
    request_id = reader.request_id()
    return Shuffle(request_id, reader.byte(), reader.address(), reader.peers())


def _shuffle_reply(reader: _Reader) -> ShuffleReply:
    return ShuffleReply(reader.request_id(), reader.peers())


_DECODERS: Final[Mapping[int, Callable[[_Reader], Message]]] = {
    Kind.JOIN: _join,
    Kind.FORWARD_JOIN: _forward_join,
    Kind.NEIGHBOR: _neighbor,
    Kind.NEIGHBOR_REPLY: _neighbor_reply,
    Kind.DISCONNECT: _disconnect,
    Kind.SHUFFLE: _shuffle,
    Kind.SHUFFLE_REPLY: _shuffle_reply,
}
