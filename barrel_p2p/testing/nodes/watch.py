"""What a node tells its users while it runs, held against what it may tell them.

Every transition is told once: what is up cannot come up, and what is down cannot go
down. A broadcast is delivered once. Nobody is dead without having been asked in time,
or without having left; where nothing is wrong, nobody is dead at all. Whatever breaks
that is noted at once, with its time, and a run with such a note has failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, final

from barrel_p2p.broadcast.messages import Delivery
from barrel_p2p.core.members import (
    MemberDead,
    MemberEvent,
    MemberGone,
    MemberSuspected,
    MemberUp,
)
from barrel_p2p.core.peers import Joined, Left, NodeDown, NodeUp, PeerDown, PeerUp
from barrel_p2p.core.terms import Pid
from barrel_p2p.membership.driver import ViewEvent
from barrel_p2p.node.parts import Parts
from barrel_p2p.services.member_messages import Suspect, decode
from barrel_p2p.services.service_events import (
    ServiceDown,
    ServiceEvent,
    ServiceRegistered,
)
from barrel_p2p.testing.nodes.stages import SimNode
from barrel_p2p.testing.nodes.truth import Truth
from barrel_p2p.wire.frames import Frame
from barrel_p2p.wire.kinds import Kind

__all__ = ["TOPIC", "Registration", "Watch"]

TOPIC = "simulated"
"""Of the broadcasts of a run."""

_OF_NODES: Final = ("nodedown", "left")

type Registration = tuple[Pid, dict[str, object]]
"""A process, and what is said of it."""


@final
class Watch:
    """One life of one node, as its listeners see it.

    Args:
        node: Running.
        truth: What is so.
        complain: Told what was wrong.

    Attributes:
        node: The node.
        awake_ms: When its machine went on after it had stood still, by its own clock.
        mark: What broadcasts of this life begin with.
        delivered: Ids of broadcasts, in the order in which they came.
        members: Who is a member, as events tell it, and in which life.
        services: What is registered, as events tell it: names and nodes.
        registrations: What this node has registered and not lost, by name. The workload
            keeps it.
        suspected: When each member was last suspected, by the node's own clock.
        dead: Which life of a node is dead and not gone, and since when.
        reasons: Why nodes that are no members died.
        leaves: How often the node has left.
    """

    def __init__(
        self, node: SimNode, truth: Truth, complain: Callable[[str], None]
    ) -> None:
        self.node = node
        self.awake_ms = node.machine.clock.now_ms()
        self.mark = f"{node.name}/{node.life} ".encode()
        self.delivered: dict[bytes, None] = {}
        self.members: dict[str, int] = {node.name: node.life}
        self.services: dict[tuple[str, str], None] = {}
        self.registrations: dict[str, Registration] = {}
        self.suspected: dict[str, int] = {}
        self.dead: dict[str, tuple[int, int]] = {}
        self.reasons: dict[str, str] = {}
        self.leaves = 0
        self._truth = truth
        self._complain = complain
        self._host = node.machine.host
        self._parts = node.parts
        self._channels: dict[str, None] = {}
        self._peers: dict[str, None] = {}
        self._peers_lost = 0
        self._highest: dict[str, int] = {}  # lives that were ever members
        self._is_in = False
        self._is_out = False
        self._follow(self._parts)

    def joins(self) -> None:
        """The node was told to join: from now on it may have peers again."""
        self._is_out = False

    def heard(self, peer: str, frame: Frame) -> None:
        """The node has heard ``frame``, and done what follows from it."""
        if frame.kind != Kind.SUSPECT:
            return
        message = decode(frame.kind, frame.body)
        node = self.node
        if not isinstance(message, Suspect) or message.node != node.name:
            return
        number = self._parts.members._machine.seq
        if self._peers and message.creation == node.life and number <= message.seq:
            self._wrong(f"{message} by {peer}, and its number is {number}")

    def _follow(self, parts: Parts) -> None:
        self._channels.update(dict.fromkeys(parts.channels.nodes()))
        self._peers.update(dict.fromkeys(parts.membership.active_view()))
        self._is_in = bool(self._peers)
        for name in parts.members.alive():
            life = parts.members.life(name)
            if life is not None:
                self.members[name] = self._highest[name] = life
        for name in parts.members.suspects():
            self.suspected[name] = self.awake_ms
        parts.channels.listen(self._node_changed)
        parts.membership.listen(self._view_changed)
        parts.members.listen(self._member_changed)
        parts.registry.listen(self._service_changed)
        parts.broadcast.subscribe(TOPIC, self._delivered)

    @property
    def _is_alone(self) -> bool:
        """Whether this node has left, so that all others have left it."""
        return self.node.name not in self._truth.running

    def _wrong(self, what: object) -> None:
        if not self._host.crashed:
            self._complain(f"{self.node.name} was told {what}")

    def _now_ms(self) -> int:
        return self.node.machine.clock.now_ms()

    # Channels and views.

    def _node_changed(self, event: NodeUp | NodeDown) -> None:
        self._toggle(self._channels, event.node, isinstance(event, NodeUp), event)
        if isinstance(event, NodeDown) and event.node in self._peers:
            # Unless the views are being told just now, they know.
            loop = asyncio.get_running_loop()
            loop.call_soon(self._need_lost, event, self._peers_lost)

    def _need_lost(self, event: NodeDown, peers_lost: int) -> None:
        if event.node in self._peers and self._peers_lost == peers_lost:
            self._wrong(f"{event}, and no PeerDown with it")

    def _view_changed(self, event: ViewEvent) -> None:
        match event:
            case PeerUp(node) | PeerDown(node):
                is_up = isinstance(event, PeerUp)
                self._toggle(self._peers, node, is_up, event)
                self._peers_lost += not is_up
                if is_up and self._is_out:
                    self._wrong(f"{event} although it has left")
            case Joined():
                if self._is_in:
                    self._wrong(f"{event} twice")
                self._is_in = True
            case Left():
                if self._is_out:
                    self._wrong(f"{event} twice")
                known = self._parts.membership
                views = known.active_view() + known.passive_view()
                if views:
                    self._wrong(f"{event} and has {views} in its views")
                self._is_in, self._is_out = False, True
                self.leaves += 1

    # Members.

    def _member_changed(self, event: MemberEvent) -> None:
        node, creation = event.node, event.creation
        match event:
            case MemberUp():
                self._member_up(event)
            case MemberDead():
                self._member_dead(event)
            case MemberGone():
                self._member_gone(event)
            case MemberSuspected():
                if self.members.get(node) != creation:
                    self._wrong(f"{event}, which is no member")
                self.suspected[node] = self._now_ms()

    def _member_up(self, event: MemberUp) -> None:
        node, creation = event.node, event.creation
        if node in self.members:
            self._wrong(f"{event}, which it is already, in life {self.members[node]}")
        elif self.dead.get(node, (creation, 0))[0] != creation:
            self._wrong(f"{event}, while life {self.dead[node][0]} is not gone")
        if creation < self._highest.get(node, 0):
            self._wrong(f"{event} after life {self._highest[node]}")
        self.members[node] = self._highest[node] = creation
        self.dead.pop(node, None)
        self.reasons.pop(node, None)
        self.suspected.pop(node, None)

    def _member_dead(self, event: MemberDead) -> None:
        node, creation = event.node, event.creation
        if node == self.node.name or self.members.get(node) != creation:
            self._wrong(f"{event}, which is no member")
        self.members.pop(node, None)
        asked_ms = self.suspected.pop(node, None)
        match event.reason:
            case "left":
                is_right = self._is_alone or (node, creation) in self._truth.left
            case "restarted":
                is_right = creation < self._truth.lives[node]
            case _:
                suspect_ms = self.node.config.suspect_ms
                is_right = (
                    asked_ms is not None
                    and asked_ms + suspect_ms <= self._now_ms()
                    and not self._truth.is_wrong_verdict(node, creation)
                )
        if not is_right:
            self._wrong(f"{event}, asked at {asked_ms} of {self._now_ms()}")
        self.dead[node] = creation, self._now_ms()
        self.reasons[node] = event.reason

    def _member_gone(self, event: MemberGone) -> None:
        node, creation = event.node, event.creation
        dead, since_ms = self.dead.pop(node, (0, 0))
        if dead != creation:
            self._wrong(f"{event}, which was not dead")
        over_ms = since_ms + self.node.config.member_ttl_ms
        if self._now_ms() < over_ms and creation >= self._truth.lives[node]:
            self._wrong(f"{event}, which is dead only since {since_ms}")

    # What is registered, and what is broadcast.

    def _service_changed(self, event: ServiceEvent) -> None:
        key = (event.name, event.node)
        self._toggle(self.services, key, isinstance(event, ServiceRegistered), event)
        is_lost = isinstance(event, ServiceDown) and event.reason in _OF_NODES
        if is_lost and not self._is_alone:
            life = self._truth.running.get(event.node, 0)
            if self._truth.is_wrong_verdict(event.node, life):
                self._wrong(f"{event}, whose node runs")

    def _delivered(self, delivery: Delivery) -> None:
        if delivery.message_id in self.delivered:
            self._wrong(f"broadcast {delivery.message_id.hex()} twice")
        self.delivered[delivery.message_id] = None
        if delivery.own != delivery.payload.startswith(self.mark):
            self._wrong(f"{delivery.payload!r}, its own: {delivery.own}")

    def _toggle[K](self, up: dict[K, None], key: K, is_up: bool, event: object) -> None:
        if (key in up) == is_up:
            self._wrong(f"{event}, which it is already")
        if is_up:
            up[key] = None
        else:
            up.pop(key, None)
