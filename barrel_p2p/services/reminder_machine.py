"""What is due on this node: a heap of the reminders in the partitions that it owns.

All others lie still in an index by partition, so that no key is looked at because time
passes, or because another partition changes hands. Nothing is fired while nobody
listens, and nothing on a node that was away, until no member comes or goes and it has
compared with a neighbour: others may have fired it meanwhile.

Bounded by the reminders there are; ``FIRING_MAX`` are being made durable at a time.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

from barrel_p2p.core.clock import WallClock
from barrel_p2p.core.effects import SetTimer
from barrel_p2p.core.inputs import TimerFired
from barrel_p2p.core.members import MemberDead, MemberGone, MemberSuspected, MemberUp
from barrel_p2p.core.ormap import Entry
from barrel_p2p.core.rendezvous import partition_of
from barrel_p2p.services.reminder_inputs import (
    Consume,
    Deliver,
    Fired,
    Learned,
    Listening,
    NotFired,
    ReminderEffect,
    ReminderSettings,
    ReminderStats,
    Removed,
    Synced,
    Unsure,
)
from barrel_p2p.services.shard_events import Acquired, Released

__all__ = ["CATCH_UP_BATCH", "CATCH_UP_GAP_MS", "FIRING_MAX", "LOOK", "ReminderMachine"]

FIRING_MAX: Final = 1_024
"""Firings that wait for the disk."""

CATCH_UP_BATCH: Final = 50
CATCH_UP_GAP_MS: Final = 50
"""Late reminders are fired so many at a time, with such gaps: 1,000 a second."""

LOOK: Final = "look"
"""The timer's key."""

_NEVER: Final = 1 << 62
_SPARE: Final = 1_024


class _State(IntEnum):
    WAITING = 0
    FIRING = 1
    UNACKED = 2


class _Item:
    """One reminder."""

    __slots__ = ("at_ms", "entry", "name", "partition", "state", "ticket")

    def __init__(self, name: bytes, at_ms: int, entry: Entry, partition: int) -> None:
        self.name = name
        self.at_ms = at_ms
        self.entry = entry
        self.partition = partition
        self.state = _State.WAITING
        self.ticket = 0  # of the one place in a queue that counts; 0 for none


class ReminderMachine:
    """The reminders of one node.

    Args:
        node: This node's name.
        ring_size: How many partitions there are.
        wall: The time of day, which reminders go by.
        settings: The periods.

    Attributes:
        stats: What it has counted.
    """

    def __init__(
        self,
        node: str,
        ring_size: int,
        *,
        wall: WallClock,
        settings: ReminderSettings | None = None,
    ) -> None:
        self.settings = settings or ReminderSettings()
        self.stats = ReminderStats()
        self._node = node
        self._ring_size = ring_size
        self._wall = wall
        self._items: dict[bytes, _Item] = {}
        self._by_partition: dict[int, dict[bytes, _Item]] = {}
        self._owned: dict[int, None] = {}
        self._heap: list[tuple[int, int, _Item]] = []
        self._queued = 0  # places that count, in the heap and behind it
        self._ready: deque[tuple[int, _Item]] = deque()
        self._late: deque[tuple[int, _Item]] = deque()
        self._late_from_ms = 0
        self._ticket = 0
        self._firing = 0
        self._listening = Listening(0, 0, acknowledging=False)
        self._room = 0
        self._members: dict[str, None] = {}
        self._held = False
        self._synced = False
        self._quiet_ms = 0
        self._patience_ms = 0
        self._look_ms = _NEVER  # when the timer fires
        self._out: list[ReminderEffect] = []
        self._inputs: dict[type, Callable[[Any, int], None]] = {
            Learned: self._on_learned,
            Removed: self._on_removed,
            Acquired: self._on_acquired,
            Released: self._on_released,
            MemberUp: self._on_member,
            MemberDead: self._on_member,
            MemberSuspected: self._on_nothing,
            MemberGone: self._on_nothing,
            Unsure: self._on_unsure,
            Synced: self._on_synced,
            Listening: self._on_listening,
            TimerFired: self._on_timer,
            Fired: self._on_fired,
            NotFired: self._on_not_fired,
        }

    def __len__(self) -> int:
        return len(self._items)

    def handle(self, event: object, *, now_ms: int) -> list[ReminderEffect]:
        """Take one input and return what is to be done about it, in order."""
        self._out = []
        self._inputs[type(event)](event, now_ms)
        return self._out

    @property
    def firing(self) -> int:
        """Firings that wait for the disk."""
        return self._firing

    @property
    def held(self) -> bool:
        """Whether it waits to know what has fired while it was away."""
        return self._held

    def entries(self) -> list[Entry]:
        """All reminders that are set, in no order that means anything."""
        return [item.entry for item in self._items.values()]

    # What is set.

    def _on_learned(self, event: Learned, now_ms: int) -> None:
        name = event.name
        old = self._items.get(name)
        if old is not None:
            self._unqueue(old)
        item = _Item(name, event.at_ms, event.entry, self._partition_of(name, old))
        self._items[name] = item
        self._by_partition.setdefault(item.partition, {})[name] = item
        if item.partition in self._owned:
            self._queue(item, item.at_ms)
            self._arm(now_ms)

    def _on_removed(self, event: Removed, now_ms: int) -> None:
        item = self._items.pop(event.name, None)
        if item is not None:
            self._unqueue(item)
            there = self._by_partition[item.partition]
            del there[event.name]
            if not there:
                del self._by_partition[item.partition]

    def _partition_of(self, name: bytes, old: _Item | None) -> int:
        return partition_of(name, self._ring_size) if old is None else old.partition

    # Whose it is.

    def _on_acquired(self, event: Acquired, now_ms: int) -> None:
        if self._held and not self._owned:
            # Who knows no members yet owns nothing, and cannot know that it is alone.
            self._quiet_ms = now_ms + self.settings.settle_ms
            self._patience_ms = now_ms + self.settings.patience_ms
        self._owned[event.partition] = None
        for item in self._by_partition.get(event.partition, {}).values():
            if item.state is _State.WAITING and not item.ticket:
                self._queue(item, item.at_ms)
        self._arm(now_ms)

    def _on_released(self, event: Released, now_ms: int) -> None:
        self._owned.pop(event.partition, None)
        for item in self._by_partition.get(event.partition, {}).values():
            self._unqueue(item)
            if item.state is _State.UNACKED:
                item.state = _State.WAITING

    # Whether we know enough.

    def _on_unsure(self, event: Unsure, now_ms: int) -> None:
        self._held = True
        self._synced = False
        self._quiet_ms = now_ms + self.settings.settle_ms
        self._patience_ms = now_ms + self.settings.patience_ms
        self._arm(now_ms)

    def _on_member(self, event: MemberUp | MemberDead, now_ms: int) -> None:
        if event.node == self._node:
            return
        if isinstance(event, MemberUp):
            self._members[event.node] = None
        else:
            self._members.pop(event.node, None)
        if self._held:
            self._quiet_ms = now_ms + self.settings.settle_ms

    def _on_nothing(self, event: object, now_ms: int) -> None:
        pass

    def _on_synced(self, event: Synced, now_ms: int) -> None:
        self._synced = True
        self._arm(now_ms)

    def _is_settled(self, now_ms: int) -> bool:
        if not self._held:
            return True
        if not self._owned:
            return False
        self._held = now_ms < self._settles_ms()
        return not self._held

    def _settles_ms(self) -> int:
        # Members that come and go for ever hold up nothing beyond the patience.
        if self._synced or not self._members:
            return min(self._quiet_ms, self._patience_ms)
        return self._patience_ms

    # What is due.

    def _on_listening(self, event: Listening, now_ms: int) -> None:
        self._listening = event
        self._room = min(event.room, FIRING_MAX) - self._firing
        self._arm(now_ms)

    def _on_timer(self, event: TimerFired, now_ms: int) -> None:
        self._look_ms = _NEVER
        if self._listening.handlers and self._is_settled(now_ms):
            wall_ms = self._wall.wall_ms()
            self._find_due(wall_ms)
            self._fire_due(wall_ms, now_ms)
        self._arm(now_ms)

    def _on_fired(self, event: Fired, now_ms: int) -> None:
        self._firing -= 1

    def _on_not_fired(self, event: NotFired, now_ms: int) -> None:
        self._firing -= 1
        self.stats.not_durable += 1
        item = self._items.get(event.name)
        if item is not None and item.entry is event.entry:
            item.state = _State.WAITING
            if item.partition in self._owned:
                self._queue(item, self._wall.wall_ms() + self.settings.retry_ms)
                self._arm(now_ms)

    def _find_due(self, wall_ms: int) -> None:
        late_ms = wall_ms - self.settings.late_ms
        heap = self._heap
        while heap and heap[0][0] <= wall_ms:
            _, ticket, item = heapq.heappop(heap)
            if item.ticket == ticket:
                late = item.at_ms < late_ms
                (self._late if late else self._ready).append((ticket, item))

    def _fire_due(self, wall_ms: int, now_ms: int) -> None:
        while self._ready and self._room > 0:
            self._fire(*self._ready.popleft(), wall_ms)
        if not self._late or self._room <= 0 or now_ms < self._late_from_ms:
            return
        self._late_from_ms = now_ms + CATCH_UP_GAP_MS
        for _ in range(min(CATCH_UP_BATCH, len(self._late))):
            if self._room <= 0:
                return
            self.stats.late += self._fire(*self._late.popleft(), wall_ms)

    def _fire(self, ticket: int, item: _Item, wall_ms: int) -> bool:
        if item.ticket != ticket:
            return False  # Replaced, removed or released since.
        self._unqueue(item)
        self._room -= 1
        if not self._listening.acknowledging:
            item.state = _State.FIRING
            self._firing += 1
            self.stats.consumed += 1
            self._out.append(Consume(item.name, item.entry))
            return True
        self.stats.delivered += 1
        self.stats.redelivered += item.state is _State.UNACKED
        item.state = _State.UNACKED
        self._queue(item, wall_ms + self.settings.ack_ms)
        self._out.append(Deliver(item.name, item.entry))
        return True

    def _until_room(self, now_ms: int) -> int:
        if self._room <= 0:
            return CATCH_UP_GAP_MS  # Nobody says when a mailbox has room again.
        return 0 if self._ready else self._late_from_ms - now_ms

    # The queue.

    def _queue(self, item: _Item, due_ms: int) -> None:
        self._unqueue(item)
        self._ticket += 1
        self._queued += 1
        item.ticket = self._ticket
        heap = self._heap
        heapq.heappush(heap, (due_ms, self._ticket, item))
        if len(heap) > 2 * self._queued + _SPARE:
            heap[:] = [place for place in heap if place[2].ticket == place[1]]
            heapq.heapify(heap)

    def _unqueue(self, item: _Item) -> None:
        if item.ticket:
            item.ticket = 0
            self._queued -= 1

    def _arm(self, now_ms: int) -> None:
        """Look again when something may be due, and at the wall clock now and then."""
        if not self._queued or not self._listening.handlers:
            return
        wait_ms = self.settings.scan_ms
        if self._held:
            wait_ms = min(wait_ms, self._settles_ms() - now_ms)
        else:
            if self._heap:
                wait_ms = min(wait_ms, self._heap[0][0] - self._wall.wall_ms())
            if self._ready or self._late:
                wait_ms = min(wait_ms, self._until_room(now_ms))
        wait_ms = max(wait_ms, 0)
        if now_ms + wait_ms < self._look_ms:
            self._look_ms = now_ms + wait_ms
            self._out.append(SetTimer(LOOK, wait_ms))
