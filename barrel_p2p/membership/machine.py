"""HyParView: decide who this node's neighbours are.

``joining`` lets nodes in and out and contacts others, ``promotion`` keeps the active
view full, ``shuffle`` keeps the passive one fresh; ``links`` is what they share. This
module hands each input to its part.

Source: Leitao, Pereira, Rodrigues, "HyParView", DSN 2007; Barrel P2P documentation,
"Cluster membership".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from barrel_p2p.core.effects import Effect
from barrel_p2p.core.inputs import (
    DialFailed,
    Dialled,
    Persisted,
    PersistFailed,
    Received,
    TimerFired,
)
from barrel_p2p.core.names import Address
from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.core.rng import Rng
from barrel_p2p.membership import commands, messages
from barrel_p2p.membership.joining import Joining
from barrel_p2p.membership.links import Counters, Links
from barrel_p2p.membership.promotion import Promotion
from barrel_p2p.membership.settings import Settings
from barrel_p2p.membership.shuffle import Shuffling
from barrel_p2p.membership.walks import ENDS, IGNORED

__all__ = ["HyParView", "Settings"]


class HyParView:
    """The views of one node. Pure: no clock, no socket, and chance only from ``rng``.

    Inputs: ``commands.Start`` first, then the other ``commands``; ``NodeUp``,
    ``NodeDown``; ``Dialled``, ``DialFailed``; ``Received`` with a room message, after
    ``NodeUp`` of its sender; ``TimerFired``; ``Persisted``, ``PersistFailed``.

    Args:
        self_info: This node's name, and where it listens; an empty host and port 0 if
            it does not say.
        settings: Sizes and times.
        rng: Chance.

    Guarantee:
        At most ``active_size`` peers; nobody in both views; ``PeerUp`` and ``PeerDown``
        of a node by turns, beginning with ``PeerUp``. When no message is under way, of
        two nodes both or neither are each other's peer.
    """

    def __init__(self, self_info: Address, settings: Settings, rng: Rng) -> None:
        self._links = links = Links(self_info, settings, rng)
        self._joining = joining = Joining(links)
        self._promotion = promotion = Promotion(links, joining)
        self._shuffling = shuffling = Shuffling(links, promotion)
        self._timers: dict[object, Callable[[], None]] = {
            "shuffle": shuffling.round,
            "cleanup": shuffling.cleanup,
            "contact": joining.contact,
            "promote": promotion.retry,
        }

    @property
    def counters(self) -> Counters:
        """What happened so far."""
        return self._links.counters

    @property
    def has_left(self) -> bool:
        """Whether it has left, and stays out."""
        return self._links.has_left

    @property
    def is_full(self) -> bool:
        """Whether the active view has as many peers as it may."""
        return self._links.room <= 0

    @property
    def shuffle_period_ms(self) -> int:
        """Milliseconds from one shuffle to the next, as things are."""
        return self._shuffling.period_ms

    def active_view(self) -> list[str]:
        """The peers, the longest known first."""
        return list(self._links.active)

    def passive_view(self) -> list[str]:
        """The replacements, the longest known first."""
        return self._links.passive.names()

    def address_of(self, name: str) -> Address | None:
        """Where a node of either view, or a former peer, is said to listen."""
        links = self._links
        known = (
            links.active.get(name)
            or links.passive.get(name)
            or links.remembered.get(name)
        )
        return None if known is None else known.address

    def blocked(self) -> list[str]:
        """Who is blocked."""
        return list(self._links.blocked)

    def remembered(self) -> tuple[Address, ...]:
        """Former peers, as they are kept on disk."""
        return self._links.remembered.addresses()

    def churn_stats(self) -> tuple[int, int]:
        """Comings and goings in the churn window, as of the last input."""
        return self._links.churn.stats(self._links.now)

    def handle(self, event: object, *, now_ms: int) -> list[Effect]:
        """Take one input and return what is to be done about it, in order.

        Raises:
            TypeError: ``event`` is no input of this machine.
        """
        links = self._links
        links.now = now_ms
        out: list[Effect] = []
        links.out = out
        if type(event) is Received:
            self._received(links, event.peer, event.message)
        else:
            handler = _HANDLERS.get(type(event))
            if handler is None:
                raise TypeError(f"{type(event).__name__} is no input of HyParView")
            handler(self, event)
        if links.hungry:
            links.hungry = False
            self._promotion.fill()
        return out

    def _start(self, command: commands.Start) -> None:
        self._joining.start(command)
        self._shuffling.start()

    def _received(self, links: Links, peer: str, message: object) -> None:
        handler = _ON_MESSAGE.get(type(message))
        # Peers are up, and their table is small: most messages come from them.
        if handler is None or (peer not in links.active and peer not in links.up):
            links.ignore()
            return
        handler(self, peer, message)

    def _walked(self, peer: str, message: messages.Shuffle) -> None:
        links = self._links
        came_to = links.walks.pass_on(peer, message, links.now, links.out)
        if came_to == ENDS:
            self._shuffling.end(peer, message)
        elif came_to == IGNORED:
            links.ignore()

    def _answered(self, peer: str, message: messages.ShuffleReply) -> None:
        links = self._links
        if not links.walks.hand_back(peer, message, links.out):
            self._shuffling.on_reply(peer, message)

    def _fired(self, event: TimerFired) -> None:
        key = event.key
        action = self._timers.get(key)
        if action is not None:
            action()
        elif isinstance(key, tuple) and key[0] == "pending":
            self._promotion.on_timeout(key[1])

    def _persist_failed(self, event: PersistFailed) -> None:
        self._links.remembered.dirty = True


# One table for all nodes: in a simulation of many it is at hand, theirs would not be.
_HANDLERS: Final[dict[type, Callable[[HyParView, Any], None]]] = {
    TimerFired: HyParView._fired,
    NodeUp: lambda machine, event: machine._promotion.on_up(event),
    NodeDown: lambda machine, event: machine._promotion.on_down(event),
    Dialled: lambda machine, event: machine._promotion.on_dialled(event),
    DialFailed: lambda machine, event: machine._promotion.on_dial_failed(event),
    Persisted: lambda machine, event: None,
    PersistFailed: HyParView._persist_failed,
    commands.Start: HyParView._start,
    commands.Join: lambda machine, event: machine._joining.join(event),
    commands.Leave: lambda machine, event: machine._joining.leave(event),
    commands.BlockPeers: lambda machine, event: machine._joining.block(event),
    commands.UnblockPeers: lambda machine, event: machine._joining.unblock(event),
}
_ON_MESSAGE: Final[dict[type, Callable[[HyParView, str, Any], None]]] = {
    messages.Join: lambda m, peer, it: m._joining.on_join(peer, it),
    messages.ForwardJoin: lambda m, peer, it: m._joining.on_forward_join(peer, it),
    messages.Neighbor: lambda m, peer, it: m._joining.on_neighbor(peer, it),
    messages.NeighborReply: lambda m, peer, it: m._joining.on_reply(peer, it),
    messages.Disconnect: lambda m, peer, it: m._joining.on_disconnect(peer, it),
    messages.Shuffle: HyParView._walked,
    messages.ShuffleReply: HyParView._answered,
}
