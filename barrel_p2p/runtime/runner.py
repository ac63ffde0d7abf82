"""Runs a machine: one input at a time, its effects in order, on the node's loop.

The room's driver says how a message becomes a frame and who listens. An effect that
leads to another input, such as a listener that answers at once, does not enter the
machine a second time: that input waits until the effects of this one are performed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Protocol, assert_never

from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.core.clock import Clock
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
    PersistFailed,
    TimerFired,
)
from barrel_p2p.core.names import Address, NodeReference
from barrel_p2p.errors import BarrelError

__all__ = ["Network", "Peer", "Runner"]

_log = logging.getLogger("barrel_p2p.runtime")


class Peer(Protocol):
    """A channel, as far as protocol rooms need it."""

    @property
    def name(self) -> str:
        """The node at its other end."""
        ...

    @property
    def gossip_blocked(self) -> bool:
        """Whether gossip queues up; it is still taken."""
        ...

    async def wait_gossip(self) -> None:
        """Wait until it does not; raises when the channel has ended."""
        ...

    def send_control(self, kind: int, body: bytes) -> None:
        """Queue a frame ahead of all others; ``NotConnected`` or ``Busy``."""
        ...

    def send_gossip(self, kind: int, body: bytes) -> None:
        """Queue a frame ahead of data; ``NotConnected`` or ``Busy``."""
        ...


class Network(Protocol):
    """The channels of a node, real or simulated."""

    def get(self, name: str) -> Peer | None:
        """The channel to ``name`` if it is up."""
        ...

    async def connect(
        self, ref: str | Address | NodeReference, *, timeout: float | None
    ) -> Peer:
        """The channel to a node, dialled if there is none."""
        ...

    def disconnect(self, name: str, reason: str) -> bool:
        """End the channel to ``name``; returns whether there was one."""
        ...


class Runner:
    """Performs what one machine orders.

    Args:
        machine: What decides.
        network: The channels.
        transmit: Sends one of the room's messages to a channel that is up.
        publish: Hears every ``Publish``, in order.
        clock: Both kinds of time.
        dial_timeout_s: For each ``Dial``.
        persist: Performs ``Persist``; None where the machine orders none.

    Attributes:
        unsent: Messages that found no channel, or no room in it.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        network: Network,
        transmit: Callable[[Peer, object], None],
        publish: Callable[[object], None],
        clock: Clock,
        dial_timeout_s: float = 10.0,
        persist: Callable[[str, object], Awaitable[None]] | None = None,
    ) -> None:
        self.machine = machine
        self.unsent = 0
        self._network = network
        self._transmit = transmit
        self._publish = publish
        self._clock = clock
        self._dial_timeout_s = dial_timeout_s
        self._persist = persist
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[object] = deque()
        self._running = False
        self._closed = False
        self._timers: dict[Hashable, asyncio.TimerHandle] = {}
        # No set: tasks are cancelled in the order in which they began.
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._complaints = Complaints(_log)

    def feed(self, event: object) -> None:
        """Tell the machine ``event``, now or after what it is being told already.

        Raises:
            Exception: What the machine raised; its effects up to there are performed.
        """
        if self._closed:
            return
        self._waiting.append(event)
        if self._running:
            return
        self._running = True
        try:
            while self._waiting:
                now_ms = self._clock.now_ms()
                effects = self.machine.handle(self._waiting.popleft(), now_ms=now_ms)
                for effect in effects:
                    self.perform(effect)
        finally:
            self._running = False

    def perform(self, effect: Effect) -> None:
        """Do one thing that the machine, or its driver, has ordered."""
        match effect:
            case Send(to, message):
                self._send(to, message)
            case SetTimer(key, delay_ms):
                self._set_timer(key, delay_ms)
            case CancelTimer(key):
                timer = self._timers.pop(key, None)
                if timer is not None:
                    timer.cancel()
            case Publish(event):
                self._publish(event)
            case Dial():
                self._start(self._dial(effect))
            case HangUp(node, reason):
                self._network.disconnect(node, reason)
            case Persist(key, value):
                self._start(self._write(key, value))
            case _:
                assert_never(effect)

    async def close(self) -> None:
        """Stop the timers, the dials and the machine. Idempotent."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._waiting.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _send(self, to: str, message: object) -> None:
        peer = self._network.get(to)
        if peer is None:
            self.unsent += 1
            return
        try:
            self._transmit(peer, message)
        except BarrelError as error:
            self.unsent += 1
            self._complaints.add(to, f"{type(message).__name__} was not sent: {error}")

    def _set_timer(self, key: Hashable, delay_ms: int) -> None:
        old = self._timers.pop(key, None)
        if old is not None:
            old.cancel()
        self._timers[key] = self._loop.call_later(delay_ms / 1_000, self._fire, key)

    def _fire(self, key: Hashable) -> None:
        del self._timers[key]
        self.feed(TimerFired(key))

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _dial(self, order: Dial) -> None:
        ref: str | Address = order.node
        if order.address is not None:
            ref = Address(order.node, *order.address)
        try:
            await self._network.connect(ref, timeout=self._dial_timeout_s)
        except BarrelError as error:
            self.feed(DialFailed(order.node, order.tag, error.code))
        else:
            self.feed(Dialled(order.node, order.tag))

    async def _write(self, key: str, value: object) -> None:
        if self._persist is None:
            raise TypeError(f"nothing can be kept here: {key}")
        try:
            await self._persist(key, value)
        except (BarrelError, OSError) as error:
            self.feed(PersistFailed(key, str(error)))
        else:
            self.feed(Persisted(key))
