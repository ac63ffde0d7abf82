"""Sharded placement, as programs on a node see it: whose a key is, and what is ours.

Runs ``ShardMachine`` beside the members: their changes in, events and hand-offs out.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Final, assert_never

from xxhash import xxh3_64_intdigest

from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.core.clock import Clock
from barrel_p2p.core.effects import CancelTimer, Publish, SetTimer
from barrel_p2p.core.inputs import TimerFired
from barrel_p2p.core.members import MemberEvent
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import InvalidValue
from barrel_p2p.runtime.event_stream import EventStream
from barrel_p2p.runtime.pauses import PauseWatch
from barrel_p2p.runtime.subscriptions import Subscriptions
from barrel_p2p.runtime.switch import Switch
from barrel_p2p.services.members import Members
from barrel_p2p.services.shard_events import ShardEvent
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
from barrel_p2p.services.shard_machine import ShardMachine
from barrel_p2p.wire.terms import key_bytes

__all__ = ["HandOffHook", "ShardListener", "Shards"]

LISTEN_MS: Final = 100
"""How often a node that waits for others looks whether it has heard them."""

CANCELLED_S_MAX: Final = 1.0
"""For how long a node that stops awaits the hooks that it has cancelled."""

_LISTEN: Final = "listen"
_log = logging.getLogger("barrel_p2p.services")

type ShardListener = Callable[[ShardEvent], None]
type HandOffHook = Callable[[int], Awaitable[object]]


class Shards:
    """Whose each key is, and which partitions are this node's.

    Args:
        node: This node's name.
        ring_size: How many partitions there are, the same on every node.
        members: Who belongs to the cluster.
        pauses: Whether this node stood still.
        pause_ms: After so long, others may hold it for dead.
        switch: Finds the mailboxes of subscribers.
        clock: Both kinds of time.
        settings: The periods.
    """

    def __init__(
        self,
        node: str,
        ring_size: int,
        *,
        members: Members,
        pauses: PauseWatch,
        pause_ms: int,
        switch: Switch,
        clock: Clock,
        settings: ShardSettings | None = None,
    ) -> None:
        self._node = node
        self._ring_size = ring_size
        self._members = members
        self._clock = clock
        self._machine = ShardMachine(node, ring_size, settings=settings)
        self._pauses = pauses
        self._pause_ms = pause_ms
        self._owners = self._machine.ring.owners
        self._subscriptions = Subscriptions(switch)
        self._listeners: list[ShardListener] = []
        self._hooks: list[tuple[HandOffHook | None, HandOffHook | None]] = []
        self._running: dict[int, asyncio.Task[None]] = {}  # hand-offs, by number
        # Those that were cancelled and run still, by partition.
        self._ending: dict[int, dict[asyncio.Task[None], None]] = {}
        self._effects: deque[ShardEffect] = deque()
        self._performing = False
        self._timers: dict[Hashable, asyncio.TimerHandle] = {}
        self._forget: Callable[[], None] | None = None
        self._heard = 0
        self._idle: asyncio.Future[None] | None = None
        self._complaints = Complaints(_log)

    # Its life.

    def start(self, *, waits: bool) -> None:
        """Own what falls to this node.

        Args:
            waits: There are nodes to be heard before anything is owned.
        """
        self._forget = self._pauses.watch(self._on_pause, after_ms=self._pause_ms)
        self._feed(Begin(tuple(self._members.alive()), waits))
        self._listen_for_others()

    async def close(self, timeout: float) -> None:
        """Give everything back, awaiting the hooks, and stop. Idempotent.

        Args:
            timeout: Seconds; hooks that take longer are cancelled, and awaited for
                ``CANCELLED_S_MAX`` more.
        """
        if self._forget is not None:
            self._forget()
            self._forget = None
            self._feed(End())
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._handed_off()
            for key, timer in list(self._timers.items()):
                timer.cancel()
                self._fire(key)  # It had no more time than that.
            await self._cancelled(list(self._ending), CANCELLED_S_MAX)
        self._subscriptions.close()

    def member_changed(self, event: MemberEvent) -> None:
        """A member came, or died."""
        if self._forget is None:
            return
        self._feed(event)
        if self._machine.unsettled:
            # One frame can tell of many members, and what follows is told once.
            asyncio.get_running_loop().call_soon(self._settle)

    # Placing keys.

    def place(self, key: object) -> str | None:
        """The node that owns ``key``; None while the cluster is not known.

        Raises:
            NotEncodable: ``key`` is no key term.
        """
        return self._owners[xxh3_64_intdigest(key_bytes(key)) % self._ring_size]

    def owners(self, key: object, n: int) -> list[str]:
        """The ``n`` nodes that ``key`` should be on, the owner first.

        Raises:
            NotEncodable: ``key`` is no key term.
            InvalidValue: ``n`` is below 1.
        """
        if n < 1:
            raise InvalidValue(f"owners(key, {n}): ask for 1 at least")
        return self._machine.ring.ranking(self.partition(key), n)

    def is_owner(self, key: object) -> bool:
        """Whether ``key`` is this node's. Not so after a pause until all is known."""
        partition = self.partition(key)
        self._pauses.look()
        return self._owners[partition] == self._node

    def partition(self, key: object) -> int:
        """The partition of ``key``, the same on every node and at any time.

        Raises:
            NotEncodable: ``key`` is no key term.
        """
        return xxh3_64_intdigest(key_bytes(key)) % self._ring_size

    def owned_partitions(self) -> list[int]:
        """What this node has acquired and not yet released, sorted."""
        self._pauses.look()
        return self._machine.owned()

    @property
    def seeded(self) -> bool:
        """Whether the cluster is known, so that keys have owners."""
        self._pauses.look()
        return self._machine.seeded

    def stats(self) -> ShardStats:
        """Totals since the start."""
        return self._machine.stats

    # Hearing of it.

    def listen(self, listener: ShardListener) -> Callable[[], None]:
        """Call ``listener`` with every event until the result is called."""
        self._listeners.append(listener)

        def forget() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return forget

    def subscribe(self, pid: Pid) -> None:
        """Send ``pid`` every event. Twice is once.

        Raises:
            InvalidValue: ``pid`` is no process of this node.
            NoProc: ``pid`` has ended.
            Busy: There are ``SUBSCRIBERS_MAX``.
        """
        self._subscriptions.add(pid)

    def unsubscribe(self, pid: Pid) -> None:
        """Send ``pid`` none any more. Idempotent."""
        self._subscriptions.remove(pid)

    def events(self, *, maxsize: int = 1_024) -> EventStream[ShardEvent]:
        """Events from now on, for plain code."""
        return self._subscriptions.stream(maxsize)

    def on_hand_off(
        self,
        *,
        acquired: HandOffHook | None = None,
        released: HandOffHook | None = None,
    ) -> Callable[[], None]:
        """Await ``acquired(partition)`` before a partition is ours, and
        ``released(partition)`` before it is not, until the result is called.
        """
        hooks = (acquired, released)
        self._hooks.append(hooks)
        self._tell_hooks()

        def forget() -> None:
            if hooks in self._hooks:
                self._hooks.remove(hooks)
                self._tell_hooks()

        return forget

    # Inside.

    def _settle(self) -> None:
        if self._forget is not None:
            self._feed(Settle())

    def _on_pause(self, paused_ms: int) -> None:
        owned = len(self._machine.owned())
        self._feed(Paused())
        _log.warning(
            "%s stood still for %d ms; it released %d partitions, and asks again",
            self._node,
            paused_ms,
            owned,
            extra={"event": "shards_paused", "node": self._node},
        )
        self._listen_for_others()

    def _listen_for_others(self) -> None:
        self._heard = self._members.heard
        self._arm(_LISTEN, LISTEN_MS)

    def _look_for_others(self) -> None:
        if self._forget is None or self._machine.seeded:
            return
        heard = self._members.heard
        if heard != self._heard:
            self._heard = heard
            self._feed(Heard())
            self._settle()
        self._arm(_LISTEN, LISTEN_MS)

    def _tell_hooks(self) -> None:
        acquired = any(hook is not None for hook, _ in self._hooks)
        released = any(hook is not None for _, hook in self._hooks)
        self._feed(Hooks(acquired, released))

    def _feed(self, event: object) -> None:
        now_ms = self._clock.now_ms()
        self._effects.extend(self._machine.handle(event, now_ms=now_ms))
        if self._performing:
            return  # A listener's own doing: its effects follow those of now.
        self._performing = True
        try:
            while self._effects:
                self._perform(self._effects.popleft())
        finally:
            self._performing = False
        if self._idle is not None and not (self._idle.done() or self._machine.awaiting):
            self._idle.set_result(None)

    def _perform(self, effect: ShardEffect) -> None:
        match effect:
            case Publish(event):
                self._publish(event)  # type: ignore[arg-type]
            case HandOff():
                self._hand_off(effect)
            case Abandon():
                self._abandon(effect)
            case SetTimer(key, delay_ms):
                self._arm(key, delay_ms)
            case CancelTimer(key):
                self._cancel_timer(key)
            case _:
                assert_never(effect)

    def _publish(self, event: ShardEvent) -> None:
        self._subscriptions.tell(event)
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001 -- the others must hear it too
                text = f"a listener failed: {error!r}"
                self._complaints.add("shards", text, error=error)

    def _arm(self, key: Hashable, delay_ms: int) -> None:
        self._cancel_timer(key)
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(delay_ms / 1_000, self._fire, key)

    def _cancel_timer(self, key: Hashable) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _fire(self, key: Hashable) -> None:
        # A look may come first, and with it another timer of this key.
        timer = self._timers.get(key)
        self._pauses.look()
        if timer is None or self._timers.get(key) is not timer:
            return
        del self._timers[key]
        if key == _LISTEN:
            self._look_for_others()
        else:
            self._feed(TimerFired(key))

    # Inside: hand-off.

    def _hand_off(self, order: HandOff) -> None:
        work = self._await_hooks(order)
        task = asyncio.get_running_loop().create_task(work)
        self._running[order.number] = task
        task.add_done_callback(lambda done: self._over(order, done))

    async def _await_hooks(self, order: HandOff) -> None:
        # Its own time is running already: half of it is left for the hooks.
        wait_s = self._machine.settings.hand_off_ms / 2_000
        await self._cancelled([order.partition], wait_s)
        for acquired, released in list(self._hooks):
            hook = acquired if order.acquired else released
            if hook is None:
                continue
            if order.number not in self._running:
                return  # The one before this has taken no notice of its cancellation.
            try:
                await hook(order.partition)
            except Exception as error:  # noqa: BLE001 -- the others must be awaited too
                verb = "acquired" if order.acquired else "released"
                text = f"a hook for {verb} partition {order.partition}: {error!r}"
                self._complaints.add("shards", text, error=error)

    def _over(self, order: HandOff, task: asyncio.Task[None]) -> None:
        ending = self._ending.get(order.partition)
        if ending is not None:
            ending.pop(task, None)
            if not ending:
                del self._ending[order.partition]
        self._pauses.look()
        if self._running.pop(order.number, None) is not None:
            self._feed(HandedOff(order.partition, order.number))

    def _abandon(self, order: Abandon) -> None:
        task = self._running.pop(order.number, None)
        if task is not None and not task.done():
            task.cancel()
            self._ending.setdefault(order.partition, {})[task] = None
        if order.overran:
            self._complaints.add(
                "hand-off",
                f"a hook for partition {order.partition} was not over within"
                f" {self._machine.settings.hand_off_ms} ms, and is cancelled",
            )

    async def _cancelled(self, partitions: list[int], timeout: float) -> None:
        """Wait for the cancelled hooks of ``partitions`` that have not ended."""
        tasks = [t for p in partitions for t in self._ending.get(p, ())]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=timeout)
        if late:
            self._complaints.add(
                "hand-off",
                f"{len(late)} cancelled hooks were not over within {timeout:g} s, and"
                " are left behind",
            )

    async def _handed_off(self) -> None:
        if self._machine.awaiting:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
