"""Who is tied to whom: the links and monitors of one node, and what follows from them.

Pure: it knows no sockets, no tasks and no clock, and asks only whether a process of
this node is there. Nothing of a lost channel outlives it: what was tied over it fires
once, with ``noconnection``, whatever was under way.

Bounded by the ``LINKS_`` and ``MONITORS_`` limits of ``barrel_p2p.runtime.limits``:
what is over them ends at once with ``system_limit``, on the side that asked.

Source: Erlang Reference Manual, "Processes".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from barrel_p2p.core.terms import Pid
from barrel_p2p.runtime.limits import (
    LINKS_PER_PEER_MAX,
    LINKS_PER_PROCESS_MAX,
    MONITORS_PER_PEER_MAX,
    MONITORS_PER_PROCESS_MAX,
)
from barrel_p2p.runtime.links import Links
from barrel_p2p.runtime.messages import (
    DemonitorFrame,
    DownFrame,
    ExitFrame,
    LinkFrame,
    MonitorFrame,
    MonitorNameFrame,
    TieFrame,
    UnlinkFrame,
)
from barrel_p2p.runtime.monitors import Monitors
from barrel_p2p.runtime.tie_events import (
    ChannelUp,
    DemonitorAsked,
    Effect,
    Ended,
    Event,
    LinkAsked,
    MonitorAsked,
    NodeLost,
    Received,
    Signal,
    UnlinkAsked,
)

__all__ = ["Signals"]


class Signals:
    """The ties of one node's processes.

    Args:
        name: The node's.
        creation: This life of it.
        alive: Whether a process of this node runs.
        named: The process of this node that has a local name, by its ``key_bytes``.
        links_per_process_max: See ``limits``; so the other three.
        links_per_peer_max: Links between this node and one peer.
        monitors_per_process_max: Monitors that one process has.
        monitors_per_peer_max: Monitors that one peer has here.
    """

    def __init__(
        self,
        name: str,
        creation: int,
        *,
        alive: Callable[[int], bool],
        named: Callable[[bytes], int | None],
        links_per_process_max: int = LINKS_PER_PROCESS_MAX,
        links_per_peer_max: int = LINKS_PER_PEER_MAX,
        monitors_per_process_max: int = MONITORS_PER_PROCESS_MAX,
        monitors_per_peer_max: int = MONITORS_PER_PEER_MAX,
    ) -> None:
        def pid(process: int) -> Pid:
            return Pid(name, process, creation)

        self._creation = creation
        self._alive = alive
        self.links = Links(
            pid,
            alive,
            process_max=links_per_process_max,
            peer_max=links_per_peer_max,
        )
        self.monitors = Monitors(
            pid,
            alive,
            named,
            process_max=monitors_per_process_max,
            peer_max=monitors_per_peer_max,
        )

    def handle(self, event: Event, *, now_ms: int) -> list[Effect]:
        """Advance by one event; return the effects to perform, in order.

        Raises:
            WireError: The event is a frame that breaks a rule. Nothing has changed.
        """
        del now_ms  # No tie ends by the clock.
        match event:
            case LinkAsked(me, to, creation):
                return self.links.ask(me, to, creation)
            case UnlinkAsked(me, to):
                return self.links.undo(me, to)
            case MonitorAsked():
                return self.monitors.ask(event)
            case DemonitorAsked(me, ref):
                return self.monitors.undo(me, ref)
            case Ended(process, reason):
                links = self.links.ended(process, reason)
                return links + self.monitors.ended(process, reason)
            case Received(message):
                return self._received(message)
            case ChannelUp(node, creation):
                links = self.links.channel_up(node, creation)
                return links + self.monitors.channel_up(node, creation)
            case NodeLost(node):
                return self.links.node_lost(node) + self.monitors.node_lost(node)
            case _:
                assert_never(event)

    def _received(self, message: TieFrame) -> list[Effect]:
        match message:
            case ExitFrame(linked=True):
                return self.links.on_exit(message)
            case ExitFrame(sender, to, _, reason):
                if to.creation != self._creation or not self._alive(to.id):
                    return []
                return [Signal(to.id, sender, reason, False)]
            case LinkFrame():
                return self.links.on_link(message)
            case UnlinkFrame():
                return self.links.on_unlink(message)
            case MonitorFrame() | MonitorNameFrame():
                return self.monitors.on_monitor(message)
            case DemonitorFrame():
                return self.monitors.on_demonitor(message)
            case DownFrame():
                return self.monitors.on_down(message)
            case _:
                assert_never(message)
