"""A simulated node: its machines in their rooms, its channels, its dials, its disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, final

from barrel_p2p.core.effects import Dial
from barrel_p2p.core.inputs import DialFailed, Dialled
from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.testing.overlay.rooms import UP, End, Room
from barrel_p2p.testing.overlay.schedule import Call
from barrel_p2p.testing.overlay.trace import KIND_DOWN, KIND_FAILED, KIND_UP

if TYPE_CHECKING:
    from barrel_p2p.testing.overlay.world import World

__all__ = ["Codec", "SimNode"]


class Codec:
    """A room's messages as bytes.

    Args:
        encode: Message to frame kind and body.
        decode: Frame kind and body to message.
        kinds: Message class to frame kind.
    """

    def __init__(
        self,
        encode: Callable[[object], tuple[int, bytes]],
        decode: Callable[[int, bytes], object],
        kinds: Mapping[type, int],
    ) -> None:
        self.encode = encode
        self.decode = decode
        self.kinds = kinds


@final
class SimNode:
    """A node of a simulation.

    Attributes:
        index: Its number, from 0.
        name: Its name.
        rooms: Its machines.
        ends: Peer's name to this node's end of the channel, while that is up.
        peers: Its active peers as ``PeerUp`` and ``PeerDown`` told them.
        disk: What ``Persist`` wrote; outlives a crash.
        deferred: What happened while it was paused.
        side: Nodes of different sides do not reach each other.
        life: How often it was started.
        pauses: How often it was paused.
        is_running: Started and not crashed.
        is_silent: Its whole host is gone: nothing refuses a packet in its place.
        is_paused: It stands still.
        origin_ms: What its monotonic clock showed when the run began.
        wall_offset_ms: How far its wall clock is off.
        faults: Breaches of what listeners are promised, such as a second ``PeerUp``.
    """

    __slots__ = (
        "_dials",
        "deferred",
        "disk",
        "ends",
        "faults",
        "index",
        "is_paused",
        "is_running",
        "is_silent",
        "life",
        "name",
        "origin_ms",
        "pauses",
        "peers",
        "rooms",
        "side",
        "wall_offset_ms",
        "world",
    )

    def __init__(self, world: World, index: int, name: str, origin_ms: int) -> None:
        self.world = world
        self.index = index
        self.name = name
        self.origin_ms = origin_ms
        self.rooms: tuple[Room, ...] = ()
        self.ends: dict[str, End] = {}
        self.peers: dict[str, bool] = {}
        self.disk: dict[str, object] = {}
        self.deferred: list[tuple[Call, object, object]] = []
        self.faults: list[str] = []
        self.side = 0
        self.life = 0
        self.pauses = 0
        self.is_running = False
        self.is_silent = False
        self.is_paused = False
        self.wall_offset_ms = 0
        self._dials: dict[str, list[tuple[Room, int]]] = {}

    def now_ms(self) -> int:
        """This node's monotonic clock."""
        return self.world.schedule.now_ms + self.origin_ms

    def wall_ms(self) -> int:
        """This node's wall clock."""
        return self.world.wall_ms() + self.wall_offset_ms

    def channel_up(self, peer: SimNode) -> None:
        """Tell the rooms of a new channel, then whoever waits for it."""
        self._note(peer, KIND_UP)
        for room in self.rooms:
            room.feed(NodeUp(peer.name))
        self._settle(peer.name, "")

    def channel_down(self, peer: SimNode, reason: str) -> None:
        """Tell the rooms that a channel is over."""
        self._note(peer, KIND_DOWN)
        for room in self.rooms:
            room.feed(NodeDown(peer.name, reason))

    def dial(self, room: Room, order: Dial) -> None:
        """Perform ``order``; all who wait for a node share one dial."""
        waiting = self._dials.get(order.node)
        if waiting is not None:
            waiting.append((room, order.tag))
            return
        self._dials[order.node] = [(room, order.tag)]
        name, life = order.node, self.life

        def done(reason: str) -> None:
            if self.life == life and self.is_running:
                self._settle(name, reason)

        self.world.links.dial(self, self.world.named(name), done)

    def peer_changed(self, name: str, *, is_up: bool) -> None:
        """Keep ``peers``; a change that is none is noted in ``faults``."""
        if (name in self.peers) == is_up:
            change = "PeerUp" if is_up else "PeerDown"
            self.faults.append(f"{self.name}: {change}({name}) told twice")
        if is_up:
            self.peers[name] = True
        else:
            self.peers.pop(name, None)

    def forget(self) -> None:
        """Drop everything but the disk."""
        for room in self.rooms:
            room.stop()
        self.rooms = ()
        self.peers.clear()
        self.deferred.clear()
        self._dials.clear()
        self.is_paused = False

    def resume(self) -> None:
        """Run on, beginning with what happened meanwhile."""
        self.is_paused = False
        for end in self.ends.values():
            end.state = UP
        deferred, self.deferred = self.deferred, []
        for call, a, b in deferred:
            call(a, b)

    def _settle(self, name: str, reason: str) -> None:
        if self.is_paused:
            self.deferred.append((self._settle, name, reason))  # type: ignore[arg-type]
            return
        for room, tag in self._dials.pop(name, ()):
            if reason:
                self._note(self.world.named(name) or self, KIND_FAILED)
                room.feed(DialFailed(name, tag, reason))
            elif name in self.ends:
                room.feed(Dialled(name, tag))
            else:
                room.feed(DialFailed(name, tag, "unreachable"))

    def _note(self, peer: SimNode, kind: int) -> None:
        trace = self.world.trace
        if trace is not None:
            trace.add(self.world.schedule.now_ms, self.index, peer.index, kind)
