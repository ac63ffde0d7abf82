"""A simulated node: machines, their timers, and the effects performed for them.

Does what ``runtime.runner.Runner`` does, on virtual time: one input at a time, effects
in order, and what an effect brings back waits until the others are performed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, final

from barrel_p2p.core.effects import (
    CancelTimer,
    Dial,
    Effect,
    HangUp,
    Machine,
    Persist,
    Publish,
    Send,
    SetTimer,
)
from barrel_p2p.core.inputs import (
    DialFailed,
    Dialled,
    Persisted,
    TimerFired,
)
from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.testing.overlay.links import UP, End
from barrel_p2p.testing.overlay.schedule import Call
from barrel_p2p.testing.overlay.trace import (
    KIND_DOWN,
    KIND_FAILED,
    KIND_TIMER,
    KIND_UP,
)

if TYPE_CHECKING:
    from barrel_p2p.testing.overlay.world import World

__all__ = ["Codec", "Room", "SimNode"]


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
class Room:
    """One machine of one node, in one of the node's lives.

    Args:
        node: Where it runs.
        machine: What decides.
        codec: Of its messages.
        publish: Hears every ``Publish``, in order.
        deliver: What the agenda calls with an end and a message for this room there.
        first: What the machine is told when its node starts; None is nothing.

    Attributes:
        current: The input that the machine is being told.
        unsent: Messages that found no channel.
    """

    __slots__ = (
        "_busy",
        "_deliver",
        "_ends",
        "_fire_call",
        "_handle",
        "_links",
        "_origin_ms",
        "_schedule",
        "_timers",
        "_waiting",
        "codec",
        "current",
        "first",
        "machine",
        "node",
        "publish",
        "unsent",
    )

    def __init__(
        self,
        node: SimNode,
        machine: Machine,
        codec: Codec,
        publish: Callable[[object], None],
        deliver: Call,
        first: object = None,
    ) -> None:
        self.node = node
        self.machine = machine
        self.codec = codec
        self.publish = publish
        self.first = first
        self.current: object = None
        self.unsent = 0
        self._schedule = node.world.schedule
        self._links = node.world.links
        self._ends = node.ends
        self._origin_ms = node.origin_ms
        self._handle = machine.handle
        self._deliver = deliver
        self._fire_call = self._fire
        self._timers: dict[Hashable, tuple[Hashable]] = {}
        self._waiting: deque[object] = deque()
        self._busy = False

    def feed(self, event: object) -> None:
        """Tell the machine ``event``, now or after what it is being told already."""
        if self._busy:
            self._waiting.append(event)
            return
        self._busy = True
        while True:
            self.current = event
            now_ms = self._schedule.now_ms + self._origin_ms
            effects = self._handle(event, now_ms=now_ms)
            if effects:
                self._perform(effects)
            if not self._waiting:
                break
            event = self._waiting.popleft()
        self._busy = False

    def stop(self) -> None:
        """Forget the timers and whatever waits."""
        self._timers.clear()
        self._waiting.clear()

    def _perform(self, effects: list[Effect]) -> None:
        # Two of three effects are sent over a link without faults: that way is inlined.
        ends = self._ends
        schedule = self._schedule
        buckets = schedule.buckets
        now_ms = schedule.now_ms
        for effect in effects:
            if type(effect) is Send:
                end = ends.get(effect.to)
                if end is None:
                    self.unsent += 1
                elif end.slow:
                    self._links.transmit(end, self._deliver, effect.message)
                else:
                    when_ms = now_ms + end.latency_ms
                    if when_ms < end.last_ms:
                        when_ms = end.last_ms
                    else:
                        end.last_ms = when_ms
                    bucket = buckets.get(when_ms)
                    if bucket is None:
                        schedule.at(when_ms, self._deliver, end.twin, effect.message)
                    else:
                        bucket.append((self._deliver, end.twin, effect.message))
            elif type(effect) is SetTimer:
                entry = (effect.key,)
                self._timers[effect.key] = entry
                when_ms = now_ms + max(0, effect.delay_ms)
                schedule.at(when_ms, self._fire_call, entry, None)
            elif type(effect) is CancelTimer:
                self._timers.pop(effect.key, None)
            elif type(effect) is Publish:
                self.publish(effect.event)
            else:
                self._perform_rare(effect)

    def _perform_rare(self, effect: object) -> None:
        node = self.node
        if isinstance(effect, Dial):
            node.dial(self, effect)
        elif isinstance(effect, HangUp):
            end = node.ends.get(effect.node)
            if end is not None:
                node.world.links.close(end, effect.reason)
        elif isinstance(effect, Persist):
            node.disk[effect.key] = effect.value
            schedule = node.world.schedule
            schedule.at(schedule.now_ms + 1, self._persisted, effect.key, None)
        else:
            raise TypeError(f"not an effect: {effect!r}")

    def _persisted(self, key: object, _: object) -> None:
        if self in self.node.rooms:
            self.feed(Persisted(key))  # type: ignore[arg-type]

    def _fire(self, entry: object, _: object) -> None:
        key = entry[0]  # type: ignore[index]
        # Another entry, or none: the timer was set again, cancelled, or its node died.
        if self._timers.get(key) is not entry:
            return
        node = self.node
        if node.is_paused:
            node.deferred.append((self._fire_call, entry, None))
            return
        del self._timers[key]
        trace = node.world.trace
        if trace is not None:
            trace.add(node.world.schedule.now_ms, node.index, node.index, KIND_TIMER)
        self.feed(TimerFired(key))


@final
class SimNode:
    """A node of a simulation.

    Attributes:
        index: Its number, from 0.
        name: Its name.
        rooms: Its machines; the first hears of channels.
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
        """Tell the first room of a new channel, then whoever waits for it."""
        self._note(peer, KIND_UP)
        self.rooms[0].feed(NodeUp(peer.name))
        self._settle(peer.name, "")

    def channel_down(self, peer: SimNode, reason: str) -> None:
        """Tell the first room that a channel is over."""
        self._note(peer, KIND_DOWN)
        self.rooms[0].feed(NodeDown(peer.name, reason))

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
