"""Messages that a process sends itself or others later, as long as it runs.

Bounded by ``TIMERS_PER_PROCESS_MAX`` and ``TIMER_SECONDS_MAX``.

Source: Erlang/OTP, ``erlang:send_after/3``.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import BarrelError, Busy, InvalidValue
from barrel_p2p.runtime.limits import TIMER_SECONDS_MAX, TIMERS_PER_PROCESS_MAX
from barrel_p2p.runtime.switch import Origin, Switch, tell_later

if TYPE_CHECKING:
    from barrel_p2p.runtime.process import Process

__all__ = ["Timers"]

_log = logging.getLogger("barrel_p2p.runtime")


class Timers:
    """The timers of one node's processes.

    Args:
        switch: The node's.
    """

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._of: dict[int, dict[int, asyncio.TimerHandle]] = {}

    def __len__(self) -> int:
        return sum(len(timers) for timers in self._of.values())

    def start(
        self, process: Process, ref: int, delay: float, to: Pid, message: object
    ) -> None:
        """Send ``message`` to ``to`` in ``delay`` seconds.

        Raises:
            InvalidValue: ``delay`` is not within 0 to ``TIMER_SECONDS_MAX``.
            Busy: The process has ``TIMERS_PER_PROCESS_MAX`` timers.
        """
        if not 0 <= delay <= TIMER_SECONDS_MAX:
            raise InvalidValue(
                f"delay={delay!r} is not within 0 to TIMER_SECONDS_MAX="
                f"{TIMER_SECONDS_MAX:.0f} seconds"
            )
        timers = self._of.setdefault(process.pid.id, {})
        if len(timers) >= TIMERS_PER_PROCESS_MAX:
            raise Busy(f"{process!r} has {len(timers)} timers, TIMERS_PER_PROCESS_MAX")
        timers[ref] = self._switch.loop.call_later(
            delay, self._fire, process, ref, to, message
        )

    def cancel(self, process: Process, ref: int) -> bool:
        """Stop a timer; whether it was in time."""
        handle = self._take(process.pid.id, ref)
        if handle is None:
            return False
        handle.cancel()
        return True

    def ended(self, process_id: int) -> None:
        """Stop all timers of a process."""
        for handle in self._of.pop(process_id, {}).values():
            handle.cancel()

    def _take(self, process_id: int, ref: int) -> asyncio.TimerHandle | None:
        timers = self._of.get(process_id)
        handle = None if timers is None else timers.pop(ref, None)
        if not timers:
            self._of.pop(process_id, None)
        return handle

    def _fire(self, process: Process, ref: int, to: Pid, message: object) -> None:
        me = process.pid.id
        self._take(me, ref)
        try:
            if not self._switch.tell(me, to, message):
                process.create_task(
                    _tell(Origin(self._switch, me, process), to, message)
                )
        except BarrelError as error:
            _complain(to, error)


async def _tell(me: Origin, to: Pid, message: object) -> None:
    try:
        await tell_later(me, to, message, False)
    except BarrelError as error:
        _complain(to, error)


def _complain(to: Pid, error: BarrelError) -> None:
    _log.warning(
        "a timer's message to %r was lost: %s", to, error, extra={"event": "timer_lost"}
    )
