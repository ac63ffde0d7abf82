"""What the machine of the router is told and tells, beside ``core``, and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from barrel_p2p.services.router_messages import FoundNode, FoundService, Target
from barrel_p2p.services.service_events import ServiceEntry

__all__ = [
    "FANOUT_MAX",
    "HOP_MS",
    "RING_MS",
    "ROUTES_MAX",
    "ROUTE_TTL",
    "ROUTE_TTL_MS",
    "SEEN_MAX",
    "Answer",
    "CacheRoute",
    "Find",
    "GiveUp",
    "Invalidate",
    "InvalidateAll",
    "RouterStats",
]

ROUTE_TTL: Final = 5
"""Hops that a request may go. A request that asks for more gets these."""

FANOUT_MAX: Final = 16
"""Peers that one node asks for one request."""

RING_MS: Final = 250
"""How long a search waits for one ring of nodes before it also asks the next one."""

HOP_MS: Final = 100
"""By so much a node stops waiting before the one that asked it does, so that what it
has learned arrives in time."""

SEEN_MAX: Final = 16_384
"""Searches of others that a node remembers, to take part in each once."""

ROUTES_MAX: Final = 4_096
"""Services that the route cache holds; the oldest goes."""

ROUTE_TTL_MS: Final = 60_000
"""How long it holds one. The registry has it by then, or it is gone."""


@final
@dataclass(frozen=True, slots=True)
class Find:
    """Look for ``target``; answered once, as ``Answer``, within ``timeout_ms``.

    Args:
        ref: Given back in the answer. Not in use already.
        target: What is looked for.
        timeout_ms: Capped by ``ROUTE_MS_MAX``.
    """

    ref: int
    target: Target
    timeout_ms: int


@final
@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody waits for the answer to ``ref`` any more."""

    ref: int


@final
@dataclass(frozen=True, slots=True)
class CacheRoute:
    """Remember ``entry``, as if a search had found it."""

    entry: ServiceEntry


@final
@dataclass(frozen=True, slots=True)
class Invalidate:
    """Forget the route of ``name``: who went there found nobody."""

    name: object


@final
@dataclass(frozen=True, slots=True)
class InvalidateAll:
    """Forget all routes."""


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """What ``Find`` of ``ref`` led to.

    ``outcome``: what was found; ``not_found``, ``timeout`` or ``overloaded``.
    """

    ref: int
    outcome: FoundService | FoundNode | str


@final
@dataclass(slots=True)
class RouterStats:
    """Totals since the start.

    Attributes:
        searches: Begun here.
        found: Of these, with something found.
        hits: Answered from the route cache.
        requests: Taken from peers.
        forwarded: Of these, passed on to others.
        request_dropped: Of these, refused as ``overloaded``.
        seen: Of these, known already.
        stray: Replies that nobody waited for (any more).
        ignored: What was legal and made no sense.
    """

    searches: int = 0
    found: int = 0
    hits: int = 0
    requests: int = 0
    forwarded: int = 0
    request_dropped: int = 0
    seen: int = 0
    stray: int = 0
    ignored: int = 0
