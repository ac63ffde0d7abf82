"""Which partitions are this node's, decided by each node for itself.

The ring follows the members. A partition goes through these phases, one hook at a time,
and what the ring says meanwhile counts when the hook is over::

    IDLE -> ACQUIRING -> HELD -> RELEASING -> IDLE

Nothing is owned before the cluster is known: a node that has somebody to hear waits
until it has heard a member, or for a lease. A node that was stopped for so long that it
may have been replaced gives everything back before it does anything else, and asks
again in the same way. It never doubts itself otherwise.

Bounded by ``ring_size``. A hook is awaited for ``hand_off_ms`` and then left behind.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

from barrel_p2p.core.effects import CancelTimer, Publish, SetTimer
from barrel_p2p.core.inputs import TimerFired
from barrel_p2p.core.members import MemberDead, MemberGone, MemberSuspected, MemberUp
from barrel_p2p.core.rendezvous import Ring
from barrel_p2p.services.shard_events import Acquired, Released
from barrel_p2p.services.shard_inputs import (
    Abandon,
    Begin,
    End,
    HandedOff,
    HandOff,
    Heard,
    Hooks,
    Paused,
    Settle,
    ShardEffect,
    ShardSettings,
    ShardStats,
)

__all__ = ["ShardMachine"]

_SEED: Final = "seed"


class _Phase(IntEnum):
    IDLE = 0
    ACQUIRING = 1
    HELD = 2
    RELEASING = 3


class _Held:
    """One partition that is not idle."""

    __slots__ = ("number", "phase", "told")

    def __init__(self) -> None:
        self.phase = _Phase.IDLE
        self.number = 0  # of the hook that is awaited
        self.told = False  # whether listeners think that it is ours


class ShardMachine:
    """The partitions of one node.

    Args:
        node: This node's name.
        ring_size: How many partitions there are.
        settings: The periods.

    Attributes:
        ring: Who owns what; it has no nodes while nothing is known. Read only.
        unsettled: Members have changed, and what follows from it is still to be told.
        stats: What it has counted.
    """

    def __init__(
        self, node: str, ring_size: int, *, settings: ShardSettings | None = None
    ) -> None:
        self.node = node
        self.ring = Ring(ring_size)
        self.settings = settings or ShardSettings()
        self.unsettled = False
        self.stats = ShardStats()
        self._members: dict[str, None] = {}  # all others
        self._seeded = False
        self._ended = False
        self._deaf_until_ms = 0
        self._held: dict[int, _Held] = {}
        self._moved: dict[int, None] = {}
        self._hooks = Hooks(acquired=False, released=False)
        self._number = 0
        self._out: list[ShardEffect] = []
        self._inputs: dict[type, Callable[[Any, int], None]] = {
            Begin: self._on_begin,
            MemberUp: self._on_member_up,
            MemberDead: self._on_member_dead,
            MemberSuspected: self._on_nothing,
            MemberGone: self._on_nothing,
            Settle: self._on_settle,
            Heard: self._on_heard,
            Paused: self._on_paused,
            TimerFired: self._on_timer,
            Hooks: self._on_hooks,
            HandedOff: self._on_handed_off,
            End: self._on_end,
        }

    def handle(self, event: object, *, now_ms: int) -> list[ShardEffect]:
        """Take one input and return what is to be done about it, in order."""
        self._out = []
        self._inputs[type(event)](event, now_ms)
        return self._out

    @property
    def seeded(self) -> bool:
        """Whether the cluster is known, so that keys have owners."""
        return self._seeded

    @property
    def awaiting(self) -> int:
        """Partitions whose hook is being awaited."""
        return sum(
            held.phase in (_Phase.ACQUIRING, _Phase.RELEASING)
            for held in self._held.values()
        )

    def owned(self) -> list[int]:
        """The partitions of which ``Acquired`` was told and not yet ``Released``."""
        return sorted(p for p, held in self._held.items() if held.told)

    # Inputs.

    def _on_begin(self, event: Begin, now_ms: int) -> None:
        self._members = dict.fromkeys(n for n in event.members if n != self.node)
        if self._members or not event.waits:
            self._seed()
            self._settle()
        else:
            self._out.append(SetTimer(_SEED, self.settings.ttl_ms))

    def _on_member_up(self, event: MemberUp, now_ms: int) -> None:
        node = event.node
        if node == self.node or node in self._members:
            return
        self._members[node] = None
        if self._seeded:
            self._move(self.ring.add(node))
        elif now_ms >= self._deaf_until_ms:
            self._heard_somebody()

    def _on_member_dead(self, event: MemberDead, now_ms: int) -> None:
        self._members.pop(event.node, None)
        if event.node != self.node:
            self._move(self.ring.remove(event.node))

    def _on_nothing(self, event: object, now_ms: int) -> None:
        pass  # A suspect is a member still, and the gone were dead before.

    def _on_settle(self, event: Settle, now_ms: int) -> None:
        self._settle()

    def _on_heard(self, event: Heard, now_ms: int) -> None:
        if not self._seeded and now_ms >= self._deaf_until_ms:
            self._heard_somebody()

    def _on_paused(self, event: Paused, now_ms: int) -> None:
        """Others may have done without this node: own nothing until they are heard."""
        self.stats.pauses += 1
        alone = self._seeded and not self._members
        self._unseed()
        for partition, held in sorted(self._held.items()):
            self._drop(partition, held)
        if alone:
            self._seed()
            self._settle()
        elif not self._ended:
            self._deaf_until_ms = now_ms + self.settings.grace_ms
            self._out.append(SetTimer(_SEED, self.settings.ttl_ms))

    def _on_timer(self, event: TimerFired, now_ms: int) -> None:
        if event.key == _SEED:
            self._heard_somebody()  # Nobody is there whom we could have heard.
            self._settle()
            return
        assert isinstance(event.key, int)
        held = self._held[event.key]
        self.stats.overran += 1
        self._out.append(Abandon(event.key, held.number, overran=True))
        self._over(event.key, held)

    def _on_hooks(self, event: Hooks, now_ms: int) -> None:
        self._hooks = event

    def _on_handed_off(self, event: HandedOff, now_ms: int) -> None:
        held = self._held.get(event.partition)
        if held is not None and held.number == event.number:
            self._out.append(CancelTimer(event.partition))
            self._over(event.partition, held)

    def _on_end(self, event: End, now_ms: int) -> None:
        self._ended = True
        self._unseed()
        self._out.append(CancelTimer(_SEED))
        for partition, held in sorted(self._held.items()):
            if held.phase is _Phase.ACQUIRING:
                self._give_up(partition, held)
        self._settle()

    # What is known.

    def _heard_somebody(self) -> None:
        self._out.append(CancelTimer(_SEED))
        if not self._ended:
            self._seed()

    def _seed(self) -> None:
        self._seeded = True
        self._move(self.ring.add(self.node))
        for node in self._members:
            self._move(self.ring.add(node))

    def _unseed(self) -> None:
        self._seeded = False
        self.ring.clear()
        self._move(self._held)

    # What follows from it.

    def _move(self, partitions: Any) -> None:
        self._moved.update(dict.fromkeys(partitions))
        self.unsettled = True

    def _settle(self) -> None:
        if not self.unsettled:
            return
        self.unsettled = False
        moved, self._moved = sorted(self._moved), {}
        for partition in moved:
            self._aim(partition)

    def _aim(self, partition: int) -> None:
        """Take ``partition``, or give it up, as the ring says."""
        mine = self.ring.owners[partition] == self.node
        held = self._held.get(partition)
        if held is None:
            if mine:
                held = self._held[partition] = _Held()
                self._begin(partition, held, acquired=True)
        elif held.phase is _Phase.HELD and not mine:
            self._begin(partition, held, acquired=False)

    def _begin(self, partition: int, held: _Held, *, acquired: bool) -> None:
        held.phase = _Phase.ACQUIRING if acquired else _Phase.RELEASING
        if not (self._hooks.acquired if acquired else self._hooks.released):
            self._over(partition, held)
            return
        self._number += 1
        held.number = self._number
        self._out.append(HandOff(partition, acquired, held.number))
        self._out.append(SetTimer(partition, self.settings.hand_off_ms))

    def _over(self, partition: int, held: _Held) -> None:
        """The hook has ended, or there was none."""
        held.number = 0
        if held.phase is _Phase.ACQUIRING:
            held.phase = _Phase.HELD
            held.told = True
            self.stats.acquired += 1
            self._out.append(Publish(Acquired(partition)))
        else:
            del self._held[partition]
            self._tell_released(partition, held)
        self._aim(partition)

    def _drop(self, partition: int, held: _Held) -> None:
        """Own it no more from this moment, and let its hook run afterwards."""
        self._tell_released(partition, held)
        if held.phase is _Phase.ACQUIRING:
            self._give_up(partition, held)
        elif held.phase is _Phase.HELD:
            self._begin(partition, held, acquired=False)

    def _give_up(self, partition: int, held: _Held) -> None:
        """Stop acquiring it, and undo what the hook may have done so far."""
        self._out.append(CancelTimer(partition))
        self._out.append(Abandon(partition, held.number, overran=False))
        self._begin(partition, held, acquired=False)

    def _tell_released(self, partition: int, held: _Held) -> None:
        if held.told:
            held.told = False
            self.stats.released += 1
            self._out.append(Publish(Released(partition)))
