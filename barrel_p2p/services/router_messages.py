"""What routers ask each other: where is this service, or this node? Two messages.

A request keeps its origin, its id and one deadline for the whole search. The answer
goes back the way that the request came, hop by hop, and names origin, id and ttl of the
request that it answers.

Bounded by ``VISITED_MAX``, ``ROUTE_MS_MAX`` and ``FOUND_BYTES_MAX``.

Source: docs/reference/wire.md, "Routes".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, final

from barrel_p2p.core.names import wire_name
from barrel_p2p.core.terms import Pid, check_node_name
from barrel_p2p.errors import InvalidValue, NotEncodable, WireError
from barrel_p2p.membership.messages import is_wire_host
from barrel_p2p.services.registry_inputs import META_BYTES_MAX
from barrel_p2p.wire import terms
from barrel_p2p.wire.fields import Reader, short
from barrel_p2p.wire.kinds import Kind
from barrel_p2p.wire.limits import KEY_TERM_BYTES_MAX
from barrel_p2p.wire.terms import key_bytes

__all__ = [
    "FOUND_BYTES_MAX",
    "ROUTER_KINDS",
    "ROUTE_ID_MAX",
    "ROUTE_MS_MAX",
    "TTL_MAX",
    "VISITED_MAX",
    "FoundNode",
    "FoundService",
    "NodeTarget",
    "RouteReply",
    "RouteRequest",
    "RouterMessage",
    "ServiceTarget",
    "Status",
    "Target",
    "decode",
    "encode",
]

ROUTER_KINDS: Final = (Kind.ROUTE_REQUEST, Kind.ROUTE_REPLY)

VISITED_MAX: Final = 32
"""Names in a request of nodes that need not be asked."""

ROUTE_MS_MAX: Final = 10_000
"""Milliseconds that a search may take; a request that says more is given these."""

ROUTE_ID_MAX: Final = (1 << 64) - 1
TTL_MAX: Final = 255

FOUND_BYTES_MAX: Final = META_BYTES_MAX + 1_024
"""Bytes of the term that describes a service."""

_REQUEST: Final = struct.Struct(">QBHB")
_REPLY: Final = struct.Struct(">QBB")
_PORT: Final = struct.Struct(">H")
_SERVICE: Final = 0
_NODE: Final = 1
_FOUND_FIELDS: Final = 3


class Status(IntEnum):
    """What became of a request."""

    NOT_FOUND = 0
    SERVICE = 1
    NODE = 2
    TTL_EXPIRED = 3
    OVERLOADED = 4
    SEEN = 5


@final
@dataclass(frozen=True, slots=True)
class ServiceTarget:
    """A service is looked for.

    Args:
        key: The ``key_bytes`` of its name.
        name: Its name.
    """

    key: bytes
    name: object


@final
@dataclass(frozen=True, slots=True)
class NodeTarget:
    """The address of ``node`` is looked for."""

    node: str


type Target = ServiceTarget | NodeTarget


@final
@dataclass(frozen=True, slots=True)
class FoundService:
    """An instance: registered on ``node``, the process ``pid``, with ``meta``."""

    node: str
    pid: Pid
    meta: Mapping[Any, Any]


@final
@dataclass(frozen=True, slots=True)
class FoundNode:
    """Where a node can be dialled, as somebody believes."""

    host: str
    port: int


@final
@dataclass(frozen=True, slots=True)
class RouteRequest:
    """Look for ``target``, and ask others while there is ttl and time.

    Args:
        origin: Who began to search.
        id: Chosen by the origin, the same for the whole search.
        ttl: Hops that are left, 0 to ``TTL_MAX``; the receiver looks in any case.
        left_ms: Milliseconds until nobody waits for an answer any more.
        target: What is looked for.
        visited: Who need not be asked.
    """

    origin: str
    id: int
    ttl: int
    left_ms: int
    target: Target
    visited: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class RouteReply:
    """The answer to the request of ``origin``, ``id`` and ``ttl``.

    Args:
        origin: As in the request.
        id: As in the request.
        ttl: As in the request.
        status: What became of it.
        found: With SERVICE and NODE, and None otherwise.
    """

    origin: str
    id: int
    ttl: int
    status: Status
    found: FoundService | FoundNode | None = None


type RouterMessage = RouteRequest | RouteReply


def encode(message: RouterMessage) -> tuple[int, bytes]:
    """Frame kind and body of ``message``, whose fields have to be within bounds."""
    if type(message) is RouteRequest:
        target = message.target
        sort = _SERVICE if type(target) is ServiceTarget else _NODE
        assert len(message.visited) <= VISITED_MAX
        parts = [
            _REQUEST.pack(message.id, message.ttl, message.left_ms, sort),
            short(message.origin),
            bytes((len(message.visited),)),
            *map(short, message.visited),
            target.key if type(target) is ServiceTarget else target.node.encode(),
        ]
        return Kind.ROUTE_REQUEST, b"".join(parts)
    head = _REPLY.pack(message.id, message.ttl, message.status)
    return Kind.ROUTE_REPLY, head + short(message.origin) + _tail(message.found)


def decode(kind: int, body: bytes) -> RouterMessage:
    """The message in a frame of one of ``ROUTER_KINDS``.

    Args:
        kind: The frame's kind.
        body: The frame's body, from a peer.

    Raises:
        WireError: It is none, or a field is out of range.
    """
    if kind == Kind.ROUTE_REQUEST:
        return _decode_request(body)
    if kind == Kind.ROUTE_REPLY:
        return _decode_reply(body)
    raise WireError(f"kind {kind} says nothing of routes")


def _decode_request(body: bytes) -> RouteRequest:
    reader = Reader(body, "ROUTE_REQUEST")
    number, ttl, left_ms, sort = reader.unpack(_REQUEST)
    origin, count = reader.node(), reader.byte()
    if count > VISITED_MAX:
        raise WireError(f"{count} visited nodes exceed VISITED_MAX={VISITED_MAX}")
    visited = tuple([reader.node() for _ in range(count)])
    rest = reader.rest()
    target: Target
    if sort == _SERVICE:
        target = _service(rest)
    elif sort == _NODE:
        target = NodeTarget(wire_name(rest))
    else:
        raise WireError(f"ROUTE_REQUEST for something of sort {sort}")
    return RouteRequest(origin, number, ttl, left_ms, target, visited)


def _service(data: bytes) -> ServiceTarget:
    name = terms.decode(data, bytes_max=KEY_TERM_BYTES_MAX)
    try:
        key = key_bytes(name)
    except NotEncodable as error:
        raise WireError(f"a service's name is no key term: {error}") from error
    if key != data:
        raise WireError("a service's name is not in its canonical form")
    return ServiceTarget(key, name)


def _decode_reply(body: bytes) -> RouteReply:
    reader = Reader(body, "ROUTE_REPLY")
    number, ttl, status = reader.unpack(_REPLY)
    origin = reader.node()
    if status > max(Status):
        raise WireError(f"ROUTE_REPLY with status {status}")
    found: FoundService | FoundNode | None = None
    if status == Status.SERVICE:
        found = _found_service(reader.rest())
    elif status == Status.NODE:
        found = _found_node(reader.rest())
    reader.end()
    return RouteReply(origin, number, ttl, Status(status), found)


def _found_service(data: bytes) -> FoundService:
    value = terms.decode(data, bytes_max=FOUND_BYTES_MAX)
    if type(value) is not tuple or len(value) != _FOUND_FIELDS:
        raise WireError("a found service is no tuple of node, pid and metadata")
    node, pid, meta = value
    if type(node) is not str or type(pid) is not Pid or type(meta) is not dict:
        raise WireError("a found service has no node, no pid, or no metadata")
    try:
        check_node_name(node)
    except InvalidValue as error:
        raise WireError(f"a service was found on {node!r:.80}, no node") from error
    return FoundService(node, pid, meta)


def _found_node(data: bytes) -> FoundNode:
    if len(data) <= _PORT.size:
        raise WireError(f"an address of {len(data)} bytes has no host")
    (port,) = _PORT.unpack_from(data)
    try:
        host = data[_PORT.size :].decode("ascii")
    except UnicodeDecodeError as error:
        raise WireError("an address whose host is not ASCII") from error
    if not port or not is_wire_host(host):
        raise WireError(f"{host!r:.80} port {port} is no address")
    return FoundNode(host, port)


def _tail(found: FoundService | FoundNode | None) -> bytes:
    if found is None:
        return b""
    if type(found) is FoundService:
        return terms.encode((found.node, found.pid, dict(found.meta)))
    return _PORT.pack(found.port) + found.host.encode("ascii")
