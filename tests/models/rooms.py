"""Ends of channels, receivers and rooms of the overlay simulator, plainly."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

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
from barrel_p2p.core.inputs import Persisted, Received, TimerFired
from barrel_p2p.testing.overlay.rooms import UP
from barrel_p2p.testing.overlay.trace import KIND_TIMER

__all__ = ["EndModel", "ReceiverModel", "RoomModel"]


class EndModel:
    """One end of a channel."""

    def __init__(self, node: Any, peer: Any, latency_ms: int) -> None:
        self.node = node
        self.peer = peer
        self.name = peer.name
        self.twin: Any = None
        self.state = UP
        self.latency_ms = latency_ms
        self.last_ms = 0
        self.slow = False
        self.cut_ms = -1
        self.kept: list[object] = []
        self.rooms = node.rooms


class ReceiverModel:
    """Hands a message to a room at an end of a channel."""

    def __init__(
        self,
        index: int,
        received: dict[type, int],
        not_up: Callable[[Any, Any, object], object],
    ) -> None:
        self._index = index
        self._received = received
        self._not_up = not_up

    def __call__(self, end: Any, message: object) -> None:
        if end.state != UP:
            self._not_up(end, self, message)
            return
        self._received[type(message)] += 1
        end.rooms[self._index].feed(Received(end.name, message))


class RoomModel:
    """One machine of one node: an input at a time, and what it orders, in order."""

    def __init__(
        self,
        node: Any,
        machine: Machine,
        codec: Any,
        publish: Callable[[object], object],
        deliver: Callable[[Any, Any], object],
        first: object = None,
    ) -> None:
        self.node = node
        self.machine = machine
        self.codec = codec
        self.publish = publish
        self.first = first
        self.current: object = None
        self.unsent = 0
        self._deliver = deliver
        self._timers: dict[Hashable, _Timer] = {}
        self._waiting: list[object] = []
        self._is_busy = False

    def feed(self, event: object) -> None:
        self._waiting.append(event)
        if self._is_busy:
            return
        self._is_busy = True
        while self._waiting:
            self.current = self._waiting.pop(0)
            now_ms = self.node.world.schedule.now_ms + self.node.origin_ms
            for effect in self.machine.handle(self.current, now_ms=now_ms):
                self._perform(effect)
        self._is_busy = False

    def stop(self) -> None:
        self._timers.clear()
        self._waiting.clear()

    def _perform(self, effect: Effect) -> None:
        node = self.node
        schedule = node.world.schedule
        match effect:
            case Send(to, message):
                self._send(to, message)
            case SetTimer(key, delay_ms):
                timer = _Timer(key)
                self._timers[key] = timer
                when_ms = schedule.now_ms + max(0, delay_ms)
                schedule.at(when_ms, self._fire, timer, None)
            case CancelTimer(key):
                self._timers.pop(key, None)
            case Publish(event):
                self.publish(event)
            case Dial():
                node.dial(self, effect)
            case HangUp(name, reason):
                if name in node.ends:
                    node.world.links.close(node.ends[name], reason)
            case Persist(key, value):
                node.disk[key] = value
                schedule.at(schedule.now_ms + 1, self._persisted, key, None)

    def _send(self, to: str, message: object) -> None:
        schedule = self.node.world.schedule
        end = self.node.ends.get(to)
        if end is None:
            self.unsent += 1
        elif end.slow:
            self.node.world.links.transmit(end, self._deliver, message)
        else:
            end.last_ms = max(schedule.now_ms + end.latency_ms, end.last_ms)
            schedule.at(end.last_ms, self._deliver, end.twin, message)

    def _persisted(self, key: Any, _: object) -> None:
        if self in self.node.rooms:
            self.feed(Persisted(key))

    def _fire(self, timer: Any, _: object) -> None:
        node, key = self.node, timer.key
        if self._timers.get(key) is not timer:
            return
        if node.is_paused:
            node.deferred.append((self._fire, timer, None))
            return
        del self._timers[key]
        if node.world.trace is not None:
            now_ms = node.world.schedule.now_ms
            node.world.trace.add(now_ms, node.index, node.index, KIND_TIMER)
        self.feed(TimerFired(key))


class _Timer:
    def __init__(self, key: Hashable) -> None:
        self.key = key
