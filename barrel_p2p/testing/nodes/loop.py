"""An asyncio event loop on which time passes only when nothing is left to do.

Every callback belongs to the machine in whose context it was ordered. A machine can be
frozen, so that its callbacks wait, and its clock may run fast or slow: ``time`` is what
that machine's clock shows. Callbacks run in the order of their times, and of being
ordered, so that a run depends on nothing else.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Final

from barrel_p2p.testing.nodes.host import HOST, Host

__all__ = ["CALLBACKS_MAX", "SimLoop", "SimulationError"]

CALLBACKS_MAX: Final = 5_000_000
"""Callbacks of one run; more of them are a loop that makes no progress."""

_TINY_S: Final = 1e-9  # A timer is never early by a rounding error.


class SimulationError(Exception):
    """The simulation itself cannot go on."""


class SimLoop(asyncio.AbstractEventLoop):
    """The loop. ``run`` is the only way to use it.

    Attributes:
        callbacks: How many have run.
        failures: What was told to ``call_exception_handler``, by machines that run.
    """

    def __init__(self) -> None:
        self.callbacks = 0
        self.failures: list[str] = []
        self._nowhere = Context()
        self._true_s = 0.0
        self._order = 0
        self._timers: list[tuple[float, int, Host | None, asyncio.Handle]] = []
        self._ready: deque[tuple[Host | None, asyncio.Handle]] = deque()
        self._held: dict[Host, tuple[list[asyncio.Handle], list[asyncio.Handle]]] = {}
        self._running = False
        self._closed = False

    # What a run does.

    def run[T](self, main: Coroutine[Any, Any, T]) -> T:
        """Run ``main``, and whatever it starts, until it returns.

        Raises:
            SimulationError: Nothing can ever happen any more, or it never ends.
        """
        before = events._get_running_loop()
        events._set_running_loop(self)
        self._running = True
        try:
            task = self.create_task(main)
            while not task.done():
                self._step()
            return task.result()
        finally:
            self._running = False
            events._set_running_loop(before)

    def true_s(self) -> float:
        """Seconds since the start, as no machine's clock shows them."""
        return self._true_s

    def after(
        self, delay_s: float, callback: Callable[..., object], *args: Any
    ) -> asyncio.Handle:
        """Call ``callback`` in ``delay_s`` true seconds, on no machine."""
        handle = asyncio.Handle(callback, args, self, self._nowhere)
        self._push(self._true_s + delay_s, None, handle)
        return handle

    def arrive(self, host: Host, callback: Callable[..., object], *args: Any) -> None:
        """A packet is here: run ``callback`` on ``host`` now, or when it thaws.

        When a machine thaws, packets that have come meanwhile go before its timers.
        """
        if host.frozen:
            self._held[host][0].append(
                asyncio.Handle(callback, args, self, host.context)
            )
        else:
            host.context.run(callback, *args)

    def freeze(self, host: Host) -> None:
        """Nothing runs on ``host`` from now on."""
        host.frozen = True
        self._held.setdefault(host, ([], []))

    def thaw(self, host: Host) -> None:
        """Everything that was due on ``host`` runs now."""
        host.frozen = False
        packets, others = self._held.pop(host, ([], []))
        for handle in (*packets, *others):
            self._ready.append((host, handle))

    # What asyncio asks of a loop.

    def time(self) -> float:
        """What the monotonic clock of the present machine shows, in seconds."""
        host = HOST.get()
        return self._true_s if host is None else self._true_s * host.rate

    def call_soon[*Ts](
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """See ``asyncio``."""
        handle = asyncio.Handle(callback, args, self, context)
        host = HOST.get() if context is None else context.get(HOST)
        self._ready.append((host, handle))
        return handle

    def call_soon_threadsafe[*Ts](
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """As ``call_soon``: there are no threads here."""
        return self.call_soon(callback, *args, context=context)

    def call_later[*Ts](
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See ``asyncio``; seconds of the machine's clock."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at[*Ts](
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See ``asyncio``; seconds of the machine's clock."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        host = HOST.get() if context is None else context.get(HOST)
        rate = 1.0 if host is None else host.rate
        self._push(when / rate + _TINY_S, host, handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """See ``asyncio``."""
        return asyncio.Future(loop=self)

    def create_task[T](
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        """See ``asyncio``."""
        text = None if name is None else str(name)
        work: Any = coro
        return asyncio.Task(work, loop=self, name=text, context=context, **options)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., object], *args: Any
    ) -> asyncio.Future[Any]:
        """Call ``func`` here and now: a thread would be a second source of order."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 -- whoever waits gets it
            done.set_exception(error)
        return done

    def is_running(self) -> bool:
        """See ``asyncio``."""
        return self._running

    def is_closed(self) -> bool:
        """See ``asyncio``."""
        return self._closed

    def close(self) -> None:
        """Forget all that was to come. Idempotent."""
        self._closed = True
        self._timers.clear()
        self._ready.clear()
        self._held.clear()

    def get_debug(self) -> bool:
        """False: it would note real times."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Note what nobody has caught, unless the machine's process is gone."""
        host = HOST.get()
        task = context.get("task") or context.get("future")
        if isinstance(task, asyncio.Task):
            host = task.get_context().get(HOST)
        if host is not None and host.crashed:
            return
        error = context.get("exception")
        where = "the simulation" if host is None else host.name
        self.failures.append(f"{where}: {context.get('message')}: {error!r}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass  # It is skipped when its time has come.

    # Inside.

    def _push(self, at_s: float, host: Host | None, handle: asyncio.Handle) -> None:
        self._order += 1
        heapq.heappush(self._timers, (at_s, self._order, host, handle))

    def _step(self) -> None:
        if self._ready:
            host, handle = self._ready.popleft()
        elif self._timers:
            at_s, _, host, handle = heapq.heappop(self._timers)
            if not handle.cancelled():
                self._true_s = max(self._true_s, at_s)
        else:
            raise SimulationError("nothing is left that could happen")
        if handle.cancelled():
            return
        if host is not None and host.frozen:
            self._held[host][1].append(handle)
            return
        self.callbacks += 1
        if self.callbacks > CALLBACKS_MAX:
            self.callbacks = 0  # For whoever clears up.
            raise SimulationError(f"no end after CALLBACKS_MAX={CALLBACKS_MAX}")
        handle._run()
