"""Owners of one map on several nodes, and what passes between them: bytes, when told.

Nothing is gossiped by itself: a test says who hears whom, so that it can have one miss
what it likes. Time is a clock that the test moves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.members import MemberDead, MemberGone, MemberUp
from barrel_p2p.core.ormap import Delta
from barrel_p2p.services.map_events import MapEvent
from barrel_p2p.services.map_lives import Lives
from barrel_p2p.services.map_options import MapOptions
from barrel_p2p.services.map_owner import MapOwner
from barrel_p2p.storage.replica_log import Log
from barrel_p2p.testing import FakeClock
from barrel_p2p.wire.crdt_ingest import decode_delta, encode_delta

__all__ = ["MapNet", "MapNode"]

NAME = "m"


@dataclass
class MapNode:
    """One node's copy of the map, and all that its readers were told."""

    name: str
    owner: MapOwner
    lives: Lives
    clock: FakeClock
    written: list[Delta] = field(default_factory=list)
    events: list[MapEvent] = field(default_factory=list)
    caught_up: int = 0

    # What the owner has of gossip.

    def publish(self, delta: Delta) -> None:
        self.written.append(delta)

    def catch_up(self) -> None:
        self.caught_up += 1

    async def flush(self) -> None:
        pass

    def stop(self) -> None:
        pass

    # What a test does.

    def put(self, key: object, value: object) -> None:
        assert self.owner.put(key, value) is None

    def remove(self, key: object) -> None:
        assert self.owner.remove(key) is None

    @property
    def shown(self) -> dict[Any, Any]:
        return self.owner.shown

    def hear(self, other: MapNode) -> None:
        """Learn all that ``other`` holds, as a sync would teach it."""
        for piece in encode_delta(other.owner.entries.snapshot()):
            self.owner.replica_apply_full_sync(NAME, decode_delta(piece).delta)

    def collect(self, age_ms: int = 0) -> None:
        """Put aside what was removed more than ``age_ms`` ago."""
        self.owner.replica_collect(NAME, self.clock.wall_ms() - age_ms)

    def member_up(self, node: str, creation: int = 1) -> bool:
        return self._member(MemberUp(node, creation))

    def member_dead(self, node: str, creation: int = 1) -> bool:
        return self._member(MemberDead(node, creation, "unreachable"))

    def member_gone(self, node: str, creation: int = 1) -> bool:
        return self._member(MemberGone(node, creation))

    def _member(self, event: MemberUp | MemberDead | MemberGone) -> bool:
        back = self.lives.told(event, self.clock.now_ms())
        self.owner.reconsider(event.node)
        return back


class MapNet:
    """Nodes that share a map and a time of day.

    Args:
        options: Of the map, the same everywhere.
    """

    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock()
        self.options = options
        self.complaints = Complaints(logging.getLogger("tests.map_net"))
        self.nodes: dict[str, MapNode] = {}

    def add(
        self,
        name: str,
        *,
        creation: int = 1,
        log: Log | None = None,
        validator: Callable[[Any], bool] | None = None,
    ) -> MapNode:
        """A node; a later ``creation`` of one that was there takes its place."""
        lives = Lives(name, creation)
        owner = MapOwner(
            NAME,
            MapOptions(validator=validator, **self.options),
            node=name,
            creation=creation,
            hlc=HLC(self.clock, node=name),
            clock=self.clock,
            lives=lives,
            complaints=self.complaints,
            log=log,
        )
        node = MapNode(name, owner, lives, self.clock)
        owner.begin(node)
        owner.listener = node.events.append
        self.nodes[name] = node
        return node

    def gossip(self, writer: MapNode) -> None:
        """Tell all others what ``writer`` has told since the last time."""
        told, writer.written = writer.written, []
        for delta in told:
            for piece in encode_delta(delta):
                for node in self.nodes.values():
                    if node is not writer:
                        node.owner.replica_merge_delta(NAME, decode_delta(piece).delta)

    def acquaint(self, *nodes: MapNode) -> None:
        """Each of them knows the others for members."""
        for node in nodes:
            for other in nodes:
                if node is not other:
                    node.member_up(other.name)
