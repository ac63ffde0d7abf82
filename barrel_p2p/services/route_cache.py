"""Where a service was found that the registry here does not hold (yet).

Keyed by its name alone. Bounded by ``ROUTES_MAX``, and by ``ROUTE_TTL_MS`` in time.
"""

from __future__ import annotations

from typing import final

from barrel_p2p.services.registry_index import Slot, slot_of
from barrel_p2p.services.router_inputs import ROUTE_TTL_MS, ROUTES_MAX
from barrel_p2p.services.service_events import ServiceEntry

__all__ = ["RouteCache"]


@final
class RouteCache:
    """The routes of one node."""

    def __init__(self) -> None:
        self._routes: dict[Slot, tuple[ServiceEntry, int]] = {}  # entry, until when

    def __len__(self) -> int:
        return len(self._routes)

    def get(self, name: object, now_ms: int) -> ServiceEntry | None:
        """The route of ``name``, unless it is too old."""
        slot = slot_of(name)
        found = self._routes.get(slot)
        if found is None:
            return None
        if found[1] <= now_ms:
            del self._routes[slot]
            return None
        return found[0]

    def put(self, entry: ServiceEntry, now_ms: int) -> None:
        """Remember ``entry``; the oldest goes where there is no room."""
        slot = slot_of(entry.name)
        self._routes.pop(slot, None)
        if len(self._routes) >= ROUTES_MAX:
            del self._routes[next(iter(self._routes))]
        self._routes[slot] = (entry, now_ms + ROUTE_TTL_MS)

    def drop(self, name: object, node: str | None = None) -> None:
        """Forget the route of ``name``; with ``node``, only if it leads there."""
        slot = slot_of(name)
        found = self._routes.get(slot)
        if found is not None and (node is None or found[0].node == node):
            del self._routes[slot]

    def drop_node(self, node: str) -> None:
        """Forget all routes to ``node``."""
        routes = self._routes
        for slot, (entry, _) in list(routes.items()):
            if node in (entry.node, entry.pid.node):
                del routes[slot]

    def clear(self) -> None:
        """Forget all routes."""
        self._routes.clear()

    def sweep(self, now_ms: int) -> None:
        """Forget what is too old."""
        routes = self._routes
        for slot, (_, until_ms) in list(routes.items()):
            if until_ms > now_ms:
                return  # They stand in the order in which they end.
            del routes[slot]
