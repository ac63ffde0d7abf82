"""Notices that this node stood still, before anything of it goes on.

Whoever was stopped, or held the loop, for longer than others wait for it may have been
replaced meanwhile, and must hear of that before it acts on what it knew. A beat says
when the loop ran last; whoever is about to act looks how long ago that was. Packets
that came meanwhile are delivered after the look too, see ``before``.

Bounded by what watches: there is no beat while nobody does.

Source: Dadgar, Phillips, Currey, "Lifeguard", DSN 2018 (a slow node doubts itself
first).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, final

from barrel_p2p.core.clock import Clock, SystemClock
from barrel_p2p.errors import InvalidValue

__all__ = ["AFTER_MS_MIN", "BEAT_MS", "PauseWatch"]

BEAT_MS: Final = 250
"""From one beat to the next, at most."""

AFTER_MS_MIN: Final = 100
"""The shortest pause that can be told from a busy loop."""

_NEVER: Final = float("inf")
_BEATS: Final = 8  # In the shortest pause that is to be noticed.

type PauseListener = Callable[[int], None]


@final
class PauseWatch:
    """The pauses of one node.

    Args:
        clock: Tells how long nothing ran.
        on_active: Told whether anybody watches, whenever that changes.

    Attributes:
        pauses: How many there were.
    """

    def __init__(
        self, clock: Clock, *, on_active: Callable[[bool], None] | None = None
    ) -> None:
        self.pauses = 0
        self.on_active = on_active
        # It is read before everything that others send.
        self._now_s: Callable[[], float] = (
            time.monotonic
            if type(clock) is SystemClock
            else lambda: clock.now_ms() / 1_000
        )
        self._watching: dict[int, tuple[PauseListener, int, float]] = {}
        self._count = 0
        self._soonest_s = _NEVER
        self._beat_s = 0.0
        self._due_s = _NEVER  # When it is too long since the last beat.
        self._period_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0  # When it fires, by the loop's clock.

    def watch(self, listener: PauseListener, *, after_ms: int) -> Callable[[], None]:
        """Call ``listener`` after every pause, until the result is called.

        Args:
            listener: Gets the milliseconds for which nothing ran, rounded up to the
                beat before them, and never to before this call. It raises nothing.
            after_ms: Pauses that are not longer mean nothing, ``AFTER_MS_MIN`` or more.

        Raises:
            InvalidValue: ``after_ms`` is too short.
        """
        if after_ms < AFTER_MS_MIN:
            raise InvalidValue(f"after_ms={after_ms} is below {AFTER_MS_MIN}")
        self._count += 1
        number = self._count
        self._watching[number] = listener, after_ms, self._now_s()
        self._changed()

        def forget() -> None:
            if self._watching.pop(number, None) is not None:
                self._changed()

        return forget

    def look(self) -> None:
        """Tell everyone of a pause, if there was one. Before any act that counts."""
        now_s = self._now_s()
        if now_s > self._due_s:
            self._paused(now_s)

    def before(self, callback: Callable[[], None]) -> Callable[[], None]:
        """``callback``, with a look before each call."""

        now = self._now_s

        def looked() -> None:
            if now() > self._due_s:
                self.look()
            callback()

        return looked

    def close(self) -> None:
        """Watch no more. Idempotent."""
        self._watching.clear()
        self._changed()

    def _changed(self) -> None:
        was_active = self._timer is not None
        if self._watching:
            soonest_ms = min(after_ms for _, after_ms, _ in self._watching.values())
            self._soonest_s = soonest_ms / 1_000
            self._period_s = min(BEAT_MS, soonest_ms // _BEATS) / 1_000
            now_s = self._now_s()
            self._beaten(self._beat_s if was_active else now_s)
            self._arm_within(max(0.0, self._beat_s + self._period_s - now_s))
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._due_s = _NEVER
        if self.on_active is not None and was_active != bool(self._watching):
            self.on_active(not was_active)

    def _arm_within(self, delay_s: float) -> None:
        # A beat that comes soon enough stays: it must come however often they change.
        if self._timer is not None:
            if self._timer_s <= asyncio.get_running_loop().time() + delay_s:
                return
            self._timer.cancel()
        self._arm(delay_s)

    def _arm(self, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer_s = loop.time() + delay_s
        self._timer = loop.call_at(self._timer_s, self._beat)

    def _beat(self) -> None:
        # Armed first: a listener may watch, or stop to.
        self._arm(self._period_s)
        self.look()
        if self._timer is not None:
            self._beaten(self._now_s())

    def _beaten(self, at_s: float) -> None:
        self._beat_s = at_s
        self._due_s = at_s + self._soonest_s

    def _paused(self, now_s: float) -> None:
        told = [
            (listener, paused_ms)
            for listener, after_ms, since_s in self._watching.values()
            if (paused_ms := self._paused_ms(now_s, since_s)) > after_ms
        ]
        if not told:
            return  # Whoever would have heard of it watches only since then.
        self._beaten(now_s)
        self.pauses += 1
        for listener, paused_ms in told:
            listener(paused_ms)

    def _paused_ms(self, now_s: float, since_s: float) -> int:
        return round((now_s - max(self._beat_s, since_s)) * 1_000)
