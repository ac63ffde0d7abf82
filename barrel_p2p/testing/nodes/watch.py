"""What a node tells its users while it runs, held against what it may tell them.

Every transition is told once: what is up cannot come up, and what is down cannot go
down. A broadcast is delivered once. Whatever breaks that is noted at once, with its
time, and a run with such a note has failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from barrel_p2p.broadcast.messages import Delivery
from barrel_p2p.core.members import (
    MemberDead,
    MemberEvent,
    MemberGone,
    MemberSuspected,
    MemberUp,
)
from barrel_p2p.core.peers import Joined, Left, NodeDown, NodeUp, PeerDown, PeerUp
from barrel_p2p.membership.driver import ViewEvent
from barrel_p2p.node.parts import Parts
from barrel_p2p.services.service_events import ServiceEvent, ServiceRegistered
from barrel_p2p.testing.nodes.stages import SimNode

__all__ = ["TOPIC", "Watch"]

TOPIC = "simulated"
"""Of the broadcasts of a run."""


@final
class Watch:
    """One life of one node, as its listeners see it.

    Args:
        node: Running.
        complain: Told what was wrong.

    Attributes:
        node: The node.
        delivered: Ids of broadcasts, in the order in which they came.
        services: What is registered, as events tell it: names and nodes.
        registrations: What this node has registered and not lost: names, and the
            processes. The workload keeps it.
    """

    def __init__(self, node: SimNode, complain: Callable[[str], None]) -> None:
        self.node = node
        self.delivered: dict[bytes, None] = {}
        self.services: dict[tuple[str, str], None] = {}
        self.registrations: dict[str, object] = {}
        self._complain = complain
        self._channels: dict[str, None] = {}
        self._peers: dict[str, None] = {}
        self._members: dict[str, int] = {node.name: node.life}
        self._dead: dict[str, int] = {}
        self._joined = False
        parts = node.parts
        self._follow(parts)

    def _follow(self, parts: Parts) -> None:
        self._channels.update(dict.fromkeys(parts.channels.nodes()))
        self._peers.update(dict.fromkeys(parts.membership.active_view()))
        self._joined = bool(self._peers)
        for name in parts.members.alive():
            life = parts.members.life(name)
            if life is not None:
                self._members[name] = life
        parts.channels.listen(self._node_changed)
        parts.membership.listen(self._view_changed)
        parts.members.listen(self._member_changed)
        parts.registry.listen(self._service_changed)
        parts.broadcast.subscribe(TOPIC, self._delivered)

    def _wrong(self, what: object) -> None:
        self._complain(f"{self.node.name} was told {what}")

    def _node_changed(self, event: NodeUp | NodeDown) -> None:
        self._toggle(self._channels, event.node, isinstance(event, NodeUp), event)

    def _view_changed(self, event: ViewEvent) -> None:
        match event:
            case PeerUp(node) | PeerDown(node):
                self._toggle(self._peers, node, isinstance(event, PeerUp), event)
            case Joined():
                if self._joined:
                    self._wrong(f"{event} twice")
                self._joined = True
            case Left():
                self._joined = False

    def _member_changed(self, event: MemberEvent) -> None:
        node, creation = event.node, event.creation
        match event:
            case MemberUp():
                if self._members.get(node) == creation:
                    self._wrong(f"{event}, which it is already")
                self._members[node] = creation
                self._dead.pop(node, None)
            case MemberDead():
                if self._members.pop(node, None) != creation:
                    self._wrong(f"{event}, which is no member")
                self._dead[node] = creation
            case MemberGone():
                if self._dead.pop(node, None) != creation:
                    self._wrong(f"{event}, which was not dead")
            case MemberSuspected():
                if self._members.get(node) != creation:
                    self._wrong(f"{event}, which is no member")

    def _service_changed(self, event: ServiceEvent) -> None:
        key = (event.name, event.node)
        self._toggle(self.services, key, isinstance(event, ServiceRegistered), event)

    def _delivered(self, delivery: Delivery) -> None:
        if delivery.message_id in self.delivered:
            self._wrong(f"broadcast {delivery.message_id.hex()} twice")
        self.delivered[delivery.message_id] = None

    def _toggle[K](self, up: dict[K, None], key: K, is_up: bool, event: object) -> None:
        if (key in up) == is_up:
            self._wrong(f"{event}, which it is already")
        if is_up:
            up[key] = None
        else:
            up.pop(key, None)
