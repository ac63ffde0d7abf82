"""A registry machine with a hand on its clock, and a bad network of several of them."""

from __future__ import annotations

from typing import Any

from barrel_p2p.core.effects import Publish, SetTimer
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.inputs import TimerFired
from barrel_p2p.core.members import MemberDead, MemberGone, MemberUp
from barrel_p2p.core.ormap import Change, Delta, OrMap
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.core.terms import Pid
from barrel_p2p.replica.store import ReplicatedStore, Source
from barrel_p2p.services.registry_inputs import (
    CatchUp,
    Changed,
    PidDown,
    Register,
    RegistryEffect,
    Tell,
    Unregister,
    Unwatch,
    Watch,
)
from barrel_p2p.services.registry_machine import RegistryMachine
from barrel_p2p.wire.crdt_ingest import encode_delta

__all__ = ["RegistryBench", "connect"]


class RegistryBench:
    """One machine, its store, and all that it told."""

    def __init__(self, node: str = "me@h", creation: int = 5, seed: int = 1) -> None:
        self.node = node
        self.creation = creation
        self.now = 1_000_000
        self.wall = 1_800_000_000_000
        hlc = HLC(self, max_drift_ms=60_000)
        self.machine = RegistryMachine(OrMap(node, hlc), creation, rng=SeededRng(seed))
        self.store = ReplicatedStore(
            self.machine.entries,
            leaf=self.machine.takes,
            may_write=self.machine.may_write,
            on_change=self._changed,
            clock=self,
        )
        self.timers: dict[Any, int] = {}
        self.events: list[Any] = []
        self.watched: dict[Pid, None] = {}
        self.told: list[Delta] = []
        self.catch_ups = 0

    def wall_ms(self) -> int:
        return self.wall

    def pid(self, number: int) -> Pid:
        return Pid(self.node, number, self.creation)

    def feed(self, event: object) -> list[Any]:
        """What it published about ``event``."""
        before = len(self.events)
        for effect in self.machine.handle(event, now_ms=self.now):
            self._perform(effect)
        return self.events[before:]

    def register(self, name: object, number: int, **meta: object) -> list[Any]:
        return self.feed(Register(name, self.pid(number), meta))

    def unregister(self, name: object) -> list[Any]:
        return self.feed(Unregister(name))

    def down(self, number: int, reason: object) -> list[Any]:
        self.watched.pop(self.pid(number), None)  # A monitor fires once.
        return self.feed(PidDown(self.pid(number), reason))

    def up(self, node: str, creation: int = 1) -> list[Any]:
        return self.feed(MemberUp(node, creation))

    def dead(self, node: str, creation: int = 1, why: str = "unreachable") -> list[Any]:
        return self.feed(MemberDead(node, creation, why))

    def gone(self, node: str, creation: int = 1) -> list[Any]:
        return self.feed(MemberGone(node, creation))

    def take(self, delta: Delta | bytes) -> list[Any]:
        """What it published about a delta of somebody else's."""
        before = len(self.events)
        self.store.replica_merge_delta("registry", delta)  # type: ignore[arg-type]
        return self.events[before:]

    def take_all(self, other: RegistryBench) -> list[Any]:
        """The same about all that another one holds."""
        before = len(self.events)
        for chunk in encode_delta(other.machine.entries.snapshot()):
            self.store.replica_apply_full_sync("registry", chunk)  # type: ignore[arg-type]
        return self.events[before:]

    def wait(self, ms: int) -> None:
        until = self.now + ms
        while self.timers and min(self.timers.values()) <= until:
            key = min(self.timers, key=lambda k: (self.timers[k], str(k)))
            self._pass(self.timers.pop(key) - self.now)
            self.feed(TimerFired(key))
        self._pass(until - self.now)

    def names(self) -> list[object]:
        return self.machine.index.names()

    def nodes_of(self, name: object) -> list[str]:
        return [entry.node for entry in self.machine.lookup(name)]

    def _pass(self, ms: int) -> None:
        self.now += ms
        self.wall += ms

    def _changed(self, changes: list[Change], source: Source) -> None:
        self.feed(Changed(changes))

    def _perform(self, effect: RegistryEffect) -> None:
        match effect:
            case Publish(event):
                self.events.append(event)
            case Tell(delta):
                self.told.append(delta)
            case Watch(pid):
                assert pid not in self.watched
                self.watched[pid] = None
            case Unwatch(pid):
                del self.watched[pid]
            case SetTimer(key, delay_ms):
                assert key not in self.timers
                self.timers[key] = self.now + delay_ms
            case CatchUp():
                self.catch_ups += 1
            case _:
                raise AssertionError(effect)


def connect(*benches: RegistryBench) -> None:
    """Each one is a member for the others."""
    for one in benches:
        for other in benches:
            if other is not one:
                one.up(other.node, other.creation)
