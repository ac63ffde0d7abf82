"""Finding what the registry here does not know (yet), by asking through the overlay.

The peers are asked all at once, and after that, ring by ring, their peers. All rings of
a search have one id and one deadline. A node takes part in each ring once, whoever asks
it; answers that leave no doubt end a search before its last ring. Everybody looks, also
where a request may go no further.

The same search finds where a *node* can be dialled, for those whom discovery does not
know: whoever has a channel to it knows.

Bounded by ``max_in_flight`` requests of others that wait for answers, three quarters of
them for one peer, and so many a second of each peer; by as many searches of our own;
and by ``ROUTE_TTL``, ``FANOUT_MAX``, ``SEEN_MAX``, ``ROUTES_MAX``.

Source: Barrel P2P documentation, "Service overlay routing and proxies"; Lv, Cao, Cohen,
Li, Shenker, "Search and Replication in Unstructured Peer-to-Peer Networks", ICS 2002
(the expanding ring).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from barrel_p2p.core.effects import CancelTimer, Effect, Publish, Send, SetTimer
from barrel_p2p.core.inputs import Received, TimerFired
from barrel_p2p.core.members import MemberDead, MemberGone
from barrel_p2p.core.peers import NodeDown, PeerDown, PeerUp
from barrel_p2p.core.rng import Rng
from barrel_p2p.membership.messages import is_wire_host
from barrel_p2p.services.route_cache import RouteCache
from barrel_p2p.services.router_inputs import (
    FANOUT_MAX,
    HOP_MS,
    RING_MS,
    ROUTE_TTL,
    SEEN_MAX,
    Answer,
    CacheRoute,
    Find,
    GiveUp,
    Invalidate,
    InvalidateAll,
    RouterStats,
)
from barrel_p2p.services.router_messages import (
    ROUTE_ID_MAX,
    ROUTE_MS_MAX,
    VISITED_MAX,
    FoundNode,
    FoundService,
    NodeTarget,
    RouteReply,
    RouteRequest,
    ServiceTarget,
    Status,
    Target,
)
from barrel_p2p.services.router_quota import RouterQuota
from barrel_p2p.services.router_searches import Asked, Found, Key, Search
from barrel_p2p.services.service_events import (
    ServiceDown,
    ServiceEntry,
    ServiceRegistered,
    ServiceUnregistered,
)
from barrel_p2p.wire.terms import key_bytes

__all__ = ["RouterMachine"]

_RINGS: Final = (1, 2, ROUTE_TTL)
_SWEEP: Final = "sweep"


class RouterMachine:
    """The router of one node.

    Args:
        node: This node's name.
        lookup: What the registry here knows of a name.
        is_dead: Whether a node is known to be dead.
        address_of: Where a node can be dialled, this one included, as far as is known.
        rng: Draws ids, and chooses among peers where there are many.
        max_in_flight: Requests of others that may wait for answers at once.
        sweep_ms: From one sweep of the cache to the next.

    Attributes:
        routes: The route cache.
        stats: What it has counted.
    """

    def __init__(
        self,
        node: str,
        *,
        lookup: Callable[[object], ServiceEntry | None],
        is_dead: Callable[[str], bool],
        address_of: Callable[[str], tuple[str, int] | None],
        rng: Rng,
        max_in_flight: int = 256,
        sweep_ms: int = 60_000,
    ) -> None:
        self.node = node
        self.routes = RouteCache()
        self.stats = RouterStats()
        self._lookup = lookup
        self._is_dead = is_dead
        self._address_of = address_of
        self._rng = rng
        self._max = max_in_flight
        self._quota = RouterQuota(max_in_flight)
        self._sweep_ms = sweep_ms
        self._sweeping = False
        self._peers: dict[str, None] = {}
        self._searches: dict[int, Search] = {}  # by ref
        self._asked: dict[Key, Asked] = {}
        self._seen: dict[tuple[str, int], tuple[int, int]] = {}  # ttl, until when
        self._out: list[Effect] = []
        self._inputs: dict[type, Callable[[Any, int], None]] = {
            Received: self._on_received,
            TimerFired: self._on_timer,
            PeerUp: self._on_peer_up,
            PeerDown: self._on_peer_down,
            NodeDown: self._on_node_down,
            MemberDead: self._on_member_lost,
            MemberGone: self._on_member_lost,
            ServiceRegistered: self._on_service_up,
            ServiceUnregistered: self._on_service_lost,
            ServiceDown: self._on_service_lost,
            Find: self._on_find,
            GiveUp: self._on_give_up,
            CacheRoute: self._on_cache_route,
            Invalidate: self._on_invalidate,
            InvalidateAll: self._on_invalidate_all,
        }

    def handle(self, event: object, *, now_ms: int) -> list[Effect]:
        """Take one input and return what is to be done about it, in order."""
        out = self._out = []
        self._inputs[type(event)](event, now_ms)
        if not self._sweeping and (self._seen or self._quota or self.routes):
            self._sweeping = True
            out.append(SetTimer(_SWEEP, self._sweep_ms))
        return out

    @property
    def in_flight(self) -> int:
        """Requests of others that wait for answers."""
        return self._quota.in_flight

    @property
    def searches(self) -> int:
        """Searches of our own that go on."""
        return len(self._searches)

    # Our own searches.

    def _on_find(self, event: Find, now_ms: int) -> None:
        target = event.target
        found = self._look(target) or self._cached(target, now_ms)
        if found is not None or len(self._searches) >= self._max:
            self._out.append(Publish(Answer(event.ref, found or "overloaded")))
            return
        timeout_ms = min(event.timeout_ms, ROUTE_MS_MAX)
        number = self._rng.below(ROUTE_ID_MAX + 1)
        search = Search(event.ref, target, number, now_ms + timeout_ms)
        self._searches[event.ref] = search
        self.stats.searches += 1
        self._out.append(SetTimer(("search", event.ref), timeout_ms))
        self._ask_ring(search, now_ms)

    def _ask_ring(self, search: Search, now_ms: int) -> None:
        ttl = _RINGS[search.ring]
        search.ring += 1
        peers = self._choose(list(self._peers))
        if not peers:
            if not search.open:
                self._finish(search, "not_found")
            return
        request = RouteRequest(
            self.node,
            search.id,
            ttl,
            max(search.until_ms - now_ms, 0),
            search.target,
            (self.node, *peers),
        )
        asked = self._ask(request, peers)
        asked.search = search
        search.open[asked.key] = asked
        timer = ("ring", search.ref)
        last = search.ring == len(_RINGS)
        self._out.append(CancelTimer(timer) if last else SetTimer(timer, RING_MS))

    def _ring_answered(self, search: Search, asked: Asked, now_ms: int) -> None:
        present = next(reversed(search.open)) == asked.key
        del search.open[asked.key]
        search.answered += asked.answered
        search.refused += asked.refused
        if not (asked.doubtful or asked.refused):
            self._finish(search, "not_found")
        elif present and search.ring < len(_RINGS):
            self._ask_ring(search, now_ms)
        elif not search.open:
            full = search.refused and not search.answered
            self._finish(search, "overloaded" if full else "not_found")

    def _finish(self, search: Search, outcome: Found | str) -> None:
        del self._searches[search.ref]
        for key in search.open:
            del self._asked[key]
        self._out.append(CancelTimer(("ring", search.ref)))
        self._out.append(CancelTimer(("search", search.ref)))
        self._out.append(Publish(Answer(search.ref, outcome)))

    def _on_give_up(self, event: GiveUp, now_ms: int) -> None:
        search = self._searches.get(event.ref)
        if search is not None:
            self._finish(search, "timeout")

    # What others ask.

    def _on_received(self, event: Received, now_ms: int) -> None:
        message = event.message
        if type(message) is RouteRequest:
            self.stats.requests += 1
            self._on_request(event.peer, message, now_ms)
        elif type(message) is RouteReply:
            self._on_reply(event.peer, message, now_ms)

    def _on_request(self, peer: str, request: RouteRequest, now_ms: int) -> None:
        ttl = min(request.ttl, ROUTE_TTL)
        seen = self._seen.get((request.origin, request.id))
        if request.origin == self.node or (seen is not None and seen[0] >= ttl):
            self.stats.seen += 1
            self._reply(peer, request, Status.SEEN)
            return
        found = self._look(request.target)
        if found is not None:
            self._reply(peer, request, _status_of(found), found)
            return
        without = {peer, request.origin, *request.visited}
        peers = self._choose([name for name in self._peers if name not in without])
        left_ms = min(request.left_ms, ROUTE_MS_MAX) - HOP_MS
        if not peers:
            self._reply(peer, request, Status.NOT_FOUND)
        elif ttl <= 1 or left_ms <= 0:
            self._reply(peer, request, Status.TTL_EXPIRED)
        elif (request.origin, request.id, ttl - 1) in self._asked:
            # That it was seen has been forgotten while it is still under way.
            self._reply(peer, request, Status.SEEN)
        elif not self._quota.take(peer, now_ms):
            self.stats.request_dropped += 1
            self._reply(peer, request, Status.OVERLOADED)
        else:
            self._pass_on(peer, request, ttl, left_ms, peers, now_ms)

    def _pass_on(
        self,
        peer: str,
        request: RouteRequest,
        ttl: int,
        left_ms: int,
        peers: list[str],
        now_ms: int,
    ) -> None:
        origin, number = request.origin, request.id
        self._remember(origin, number, ttl, now_ms)
        visited = dict.fromkeys((*request.visited, self.node, *peers))
        onward = RouteRequest(
            origin,
            number,
            ttl - 1,
            left_ms,
            request.target,
            tuple(visited)[-VISITED_MAX:],
        )
        asked = self._ask(onward, peers)
        asked.asker, asked.asker_ttl = peer, request.ttl
        self.stats.forwarded += 1
        self._out.append(SetTimer(("asked", asked.key), left_ms))

    def _remember(self, origin: str, number: int, ttl: int, now_ms: int) -> None:
        seen = self._seen
        seen.pop((origin, number), None)
        if len(seen) >= SEEN_MAX:
            del seen[next(iter(seen))]
        seen[origin, number] = (ttl, now_ms + ROUTE_MS_MAX)

    def _reply(
        self,
        peer: str,
        request: RouteRequest,
        status: Status,
        found: Found | None = None,
    ) -> None:
        reply = RouteReply(request.origin, request.id, request.ttl, status, found)
        self._out.append(Send(peer, reply))

    def _settle(self, asked: Asked, status: Status, found: Found | None) -> None:
        """Answer whoever asked us, and have room again."""
        del self._asked[asked.key]
        origin, number, _ = asked.key
        self._out.append(CancelTimer(("asked", asked.key)))
        reply = RouteReply(origin, number, asked.asker_ttl, status, found)
        self._out.append(Send(asked.asker, reply))
        self._quota.release(asked.asker)

    # What others answer.

    def _on_reply(self, peer: str, reply: RouteReply, now_ms: int) -> None:
        asked = self._asked.get((reply.origin, reply.id, reply.ttl))
        if asked is None or peer not in asked.waiting:
            self.stats.stray += 1
            return
        del asked.waiting[peer]
        found = reply.found
        if found is not None and self._is_plausible(asked.target, found):
            self._found(asked, found, now_ms)
            return
        if reply.status is Status.OVERLOADED:
            asked.refused += 1
        else:
            asked.answered += 1
            if found is not None or reply.status is Status.TTL_EXPIRED:
                asked.doubtful = True
        if not asked.waiting:
            self._all_answered(asked, now_ms)

    def _is_plausible(self, target: Target, found: Found) -> bool:
        if type(target) is NodeTarget:
            sound = type(found) is FoundNode
        else:
            sound = type(found) is FoundService and found.node != self.node
        if not sound:
            self.stats.ignored += 1  # Nobody knows our own services better than we do.
            return False
        return not (type(found) is FoundService and self._is_dead(found.node))

    def _found(self, asked: Asked, found: Found, now_ms: int) -> None:
        search = asked.search
        if search is None:
            self._settle(asked, _status_of(found), found)
            return
        self.stats.found += 1
        if type(found) is FoundService and type(search.target) is ServiceTarget:
            name = search.target.name
            entry = ServiceEntry(name, found.pid, found.node, found.meta)
            self.routes.put(entry, now_ms)
        self._finish(search, found)

    def _all_answered(self, asked: Asked, now_ms: int) -> None:
        if asked.search is not None:
            del self._asked[asked.key]
            self._ring_answered(asked.search, asked, now_ms)
        elif asked.refused and not asked.answered:
            self._settle(asked, Status.OVERLOADED, None)
        elif asked.doubtful or asked.refused:
            self._settle(asked, Status.TTL_EXPIRED, None)
        else:
            self._settle(asked, Status.NOT_FOUND, None)

    # Who is there, and what is known.

    def _on_peer_up(self, event: PeerUp, now_ms: int) -> None:
        self._peers[event.node] = None

    def _on_peer_down(self, event: PeerDown, now_ms: int) -> None:
        self._peers.pop(event.node, None)

    def _on_node_down(self, event: NodeDown, now_ms: int) -> None:
        node = event.node
        for asked in list(self._asked.values()):
            if self._asked.get(asked.key) is not asked:
                continue  # It ended with another one.
            if asked.asker == node:
                del self._asked[asked.key]
                self._out.append(CancelTimer(("asked", asked.key)))
                self._quota.release(asked.asker)
            elif node in asked.waiting:
                del asked.waiting[node]
                asked.doubtful = True
                if not asked.waiting:
                    self._all_answered(asked, now_ms)

    def _on_member_lost(self, event: MemberDead | MemberGone, now_ms: int) -> None:
        self.routes.drop_node(event.node)

    def _on_service_up(self, event: ServiceRegistered, now_ms: int) -> None:
        self.routes.drop(event.name)  # The registry knows better from now on.
        key = key_bytes(event.name) if self._searches else b""
        for search in list(self._searches.values()):
            target = search.target
            if type(target) is ServiceTarget and target.key == key:
                found = self._look(target)
                if found is not None:
                    self._finish(search, found)

    def _on_service_lost(
        self, event: ServiceUnregistered | ServiceDown, now_ms: int
    ) -> None:
        self.routes.drop(event.name, event.node)

    def _on_cache_route(self, event: CacheRoute, now_ms: int) -> None:
        self.routes.put(event.entry, now_ms)

    def _on_invalidate(self, event: Invalidate, now_ms: int) -> None:
        self.routes.drop(event.name)

    def _on_invalidate_all(self, event: InvalidateAll, now_ms: int) -> None:
        self.routes.clear()

    # Time.

    def _on_timer(self, event: TimerFired, now_ms: int) -> None:
        if event.key == _SWEEP:
            self._sweep(now_ms)
            return
        assert isinstance(event.key, tuple)
        what, which = event.key
        if what == "asked":
            # What was not said by now would come too late for the one that asked.
            asked = self._asked.get(which)
            if asked is not None:
                self._settle(asked, Status.TTL_EXPIRED, None)
            return
        search = self._searches.get(which)
        if search is None:
            return
        if what == "ring":
            if search.ring < len(_RINGS):
                self._ask_ring(search, now_ms)
        else:
            self._finish(search, "timeout")

    def _sweep(self, now_ms: int) -> None:
        self._sweeping = False
        self.routes.sweep(now_ms)
        for key, (_, until_ms) in list(self._seen.items()):
            if until_ms > now_ms:
                break  # They stand in the order in which they end.
            del self._seen[key]
        self._quota.sweep(now_ms)

    # Inside.

    def _look(self, target: Target) -> Found | None:
        if type(target) is ServiceTarget:
            entry = self._lookup(target.name)
            if entry is None:
                return None
            return FoundService(entry.node, entry.pid, entry.meta)
        assert type(target) is NodeTarget
        address = self._address_of(target.node)
        if address is None or not is_wire_host(address[0]) or not address[1]:
            return None
        return FoundNode(*address)

    def _cached(self, target: Target, now_ms: int) -> FoundService | None:
        if type(target) is not ServiceTarget:
            return None
        entry = self.routes.get(target.name, now_ms)
        if entry is None:
            return None
        self.stats.hits += 1
        return FoundService(entry.node, entry.pid, entry.meta)

    def _choose(self, peers: list[str]) -> list[str]:
        if len(peers) <= FANOUT_MAX:
            return peers
        return self._rng.sample(peers, FANOUT_MAX)

    def _ask(self, request: RouteRequest, peers: list[str]) -> Asked:
        key = (request.origin, request.id, request.ttl)
        asked = self._asked[key] = Asked(key, request.target, peers)
        self._out.extend(Send(peer, request) for peer in peers)
        return asked


def _status_of(found: Found) -> Status:
    return Status.SERVICE if type(found) is FoundService else Status.NODE
