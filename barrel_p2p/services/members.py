"""The members of the cluster, as a node's other rooms and its users see them.

Runs ``MemberMachine``: frames in and out on gossip streams, and listeners who are told
of every change inside the callback that brought it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.core.clock import Clock
from barrel_p2p.core.inputs import Received
from barrel_p2p.core.members import MemberDead, MemberEvent, MemberUp
from barrel_p2p.core.peers import Joined, Left, NodeDown, NodeUp, PeerDown, PeerUp
from barrel_p2p.core.rng import Rng
from barrel_p2p.runtime.runner import Network, Peer, Runner
from barrel_p2p.services.member_inputs import (
    Allow,
    ChannelUp,
    ClockAhead,
    ComeBack,
    GoAway,
    LeaseSettings,
    MemberStats,
    Refuse,
    Start,
)
from barrel_p2p.services.member_machine import MemberMachine
from barrel_p2p.services.member_messages import decode, encode
from barrel_p2p.wire.frames import Frame

__all__ = ["LifeOf", "MemberListener", "Members", "Sender"]

_log = logging.getLogger("barrel_p2p.services")

type MemberListener = Callable[[MemberEvent], None]
type LifeOf = Callable[[str], tuple[int, tuple[str, int] | None]]
"""The creation of the node to which there is a channel, and where it can be dialled;
creation 0 if the channel has ended meanwhile."""


class Sender(Protocol):
    """Whose channel a frame came over."""

    @property
    def name(self) -> str:
        """The peer's node name, which it has proved."""
        ...


class Members:
    """Who belongs to the cluster, from where this node stands.

    Args:
        node: This node's name.
        creation: This life of it.
        network: Its channels.
        life_of: Asked once when a channel has come up.
        clock: Both kinds of time.
        rng: Sets the phase of the heartbeat.
        settings: The periods.

    Attributes:
        unsent: Frames that found no channel, or no room in it.
    """

    def __init__(
        self,
        node: str,
        creation: int,
        *,
        network: Network,
        life_of: LifeOf,
        clock: Clock,
        rng: Rng,
        settings: LeaseSettings | None = None,
    ) -> None:
        self._machine = MemberMachine(
            node, creation, wall=clock, rng=rng, settings=settings
        )
        self._life_of = life_of
        self._listeners: list[MemberListener] = []
        self._complaints = Complaints(_log)
        self._encoded: tuple[object, tuple[int, bytes]] | None = None
        self._runner = Runner(
            self._machine,
            network=network,
            transmit=self._transmit,
            publish=self._published,
            clock=clock,
        )

    @property
    def unsent(self) -> int:
        """Frames that found no channel, or no room in it."""
        return self._runner.unsent

    @property
    def heard(self) -> int:
        """How often a peer has told its leases. While it grows, we are not alone."""
        return self._machine.heard

    def start(self) -> None:
        """Begin the heartbeat; this node becomes a member. Once."""
        self._runner.feed(Start())

    async def close(self) -> None:
        """Stop. Tells nobody; ``leave`` does. Idempotent."""
        await self._runner.close()

    def leave(self, *, alone: bool = True) -> None:
        """Tell all peers that this node leaves, so that they need not wait.

        Args:
            alone: It goes on as the only member that it knows, and all others are dead
                to it, until ``come_back``. False is for a node that stops.
        """
        self._runner.feed(GoAway(alone))

    def come_back(self) -> None:
        """Believe what others say again, because this node is about to join."""
        self._runner.feed(ComeBack())

    def refuse(self, node: str) -> None:
        """Hold ``node`` for dead, whatever it or others say. For a revoked key."""
        self._runner.feed(Refuse(node))

    def allow(self, node: str) -> None:
        """Undo ``refuse``. Idempotent."""
        self._runner.feed(Allow(node))

    def alive(self) -> list[str]:
        """The names of all members, this node among them, sorted."""
        return self._machine.members()

    def suspects(self) -> list[str]:
        """Members that somebody could not reach and that have yet to answer, sorted."""
        return self._machine.suspects()

    def life(self, node: str) -> int | None:
        """The creation of a member; None if ``node`` is none."""
        return self._machine.life(node)

    def is_dead(self, node: str) -> bool:
        """Whether ``node`` was a member, and is remembered as one that died."""
        return self._machine.is_dead(node)

    def stats(self) -> MemberStats:
        """Totals since the start."""
        return self._machine.stats

    def listen(self, listener: MemberListener) -> Callable[[], None]:
        """Call ``listener`` with every ``MemberEvent`` until the result is called.

        Who is a member already is not told again: ask ``alive`` after this.
        """
        self._listeners.append(listener)

        def forget() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return forget

    def node_changed(self, event: NodeUp | NodeDown) -> None:
        """A channel came up, or ended."""
        if isinstance(event, NodeDown):
            self._runner.feed(event)
            return
        creation, address = self._life_of(event.node)
        if creation:
            self._runner.feed(ChannelUp(event.node, creation, address))

    def peer_changed(self, event: PeerUp | PeerDown | Joined | Left) -> None:
        """The active view has changed."""
        if isinstance(event, PeerUp | PeerDown):
            self._runner.feed(event)

    def handle_frame(self, channel: Sender, frame: Frame) -> None:
        """Take a frame of ``MEMBER_KINDS`` from a gossip stream.

        Raises:
            WireError: It does not follow the layout, and the channel cannot go on.
        """
        message = decode(frame.kind, frame.body)
        self._runner.feed(Received(channel.name, message))

    def _transmit(self, peer: Peer, message: object) -> None:
        # One message goes to all peers in a row, and is made into bytes once.
        if self._encoded is None or self._encoded[0] is not message:
            self._encoded = (message, encode(message))  # type: ignore[arg-type]
        peer.send_gossip(*self._encoded[1])

    def _published(self, event: object) -> None:
        match event:
            case ClockAhead(node, ahead_ms):
                _log.warning(
                    "%s is no member here: its clock is %.1f s ahead of ours, more than"
                    " member_skew_ms=%d; synchronise the clocks",
                    node,
                    ahead_ms / 1_000,
                    self._machine.settings.skew_ms,
                    extra={"event": "clock_ahead", "peer": node},
                )
                return
            case MemberDead(node, creation, reason):
                _log.info("%s is dead: %s (life %d)", node, reason, creation)
            case MemberUp(node, creation):
                _log.info("%s is a member (life %d)", node, creation)
        for listener in list(self._listeners):
            try:
                listener(event)  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001 -- the others must hear it too
                self._complaints.add(
                    "members", f"a listener failed: {error!r}", error=error
                )
