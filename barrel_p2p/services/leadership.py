"""Terms as blocks of code: entered when elected, cancelled when revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, final

from barrel_p2p.errors import Conflict, LeadershipLost
from barrel_p2p.runtime.process import Process
from barrel_p2p.services.leader_events import Elected, LeaderEvent

if TYPE_CHECKING:
    from barrel_p2p.core.terms import Pid
    from barrel_p2p.services.leader import Leaders

__all__ = ["Term", "terms"]


@final
class Term:
    """One term of leadership: ``async with term:`` runs while it lasts.

    The block is cancelled when the term is revoked, at the ``await`` it stands at or
    comes to next; the cancellation ends with the block, and the code after it goes on.

    Attributes:
        name: What is led.
        fence: Of this term; greater than that of every earlier one.
        lost: Whether it is over.
    """

    def __init__(
        self, name: Any, fence: int, look: Callable[[], None] | None = None
    ) -> None:
        self._look = look  # Whether the node stood still, which ends terms.
        self.name = name
        self.fence = fence
        self.lost = False
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._cancelled = False

    def __repr__(self) -> str:
        return f"<Term {self.fence} of {self.name!r}{', over' if self.lost else ''}>"

    def check(self) -> None:
        """Raise if the term is over.

        Raises:
            LeadershipLost: It is.
        """
        if self._look is not None:
            self._look()
        if self.lost:
            raise LeadershipLost(
                f"the term {self.fence} of {self.name!r:.200} is over",
                hint="wait for the next one",
            )

    async def __aenter__(self) -> Self:
        """Begin.

        Raises:
            LeadershipLost: It is over already.
            Conflict: Some code is in it.
        """
        self.check()
        if self._task is not None:
            raise Conflict(f"{self!r} has been entered")
        self._task = task = asyncio.current_task()
        assert task is not None
        self._cancelling = task.cancelling()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        task, self._task = self._task, None
        if not self._cancelled or task is None:
            return False
        is_cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
        if not is_cancelled:
            # The block ended on its own; the cancellation may still be on its way.
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                is_late = task.uncancel() > self._cancelling
                if is_late:  # Somebody else wants it to end, too.
                    raise
                return False
        return task.uncancel() <= self._cancelling and is_cancelled

    def end(self) -> None:
        """It is over. For whoever made it. Idempotent."""
        if self.lost:
            return
        self.lost = True
        if self._task is not None:
            self._cancelled = True
            self._task.cancel()


@final
class _Seat:
    """Where the terms of one candidate arrive."""

    def __init__(self, name: object, look: Callable[[], None]) -> None:
        self.abandoned = False
        self._name = name
        self._look = look
        self._term: Term | None = None
        self._is_new = False
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    def hear(self, event: LeaderEvent) -> None:
        if self._term is not None:
            self._term.end()
            self._term = None
        if isinstance(event, Elected):
            self._term = Term(self._name, event.fence, self._look)
            self._is_new = True
            self._wake()

    def end(self) -> None:
        self._ended = True
        if self._term is not None:
            self._term.end()
            self._term = None
        self._wake()

    @property
    def awaited(self) -> bool:
        return self._waiter is not None

    async def next(self) -> Term | None:
        """The next term that has not been given; None when there will be none."""
        while not self._ended:
            if self._term is not None and self._is_new:
                self._is_new = False
                return self._term
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def terms(
    leaders: Leaders, name: object, pid: Pid | None, priority: int
) -> AsyncGenerator[Term]:
    """Stand for ``name``, and give each term; stop standing when it is closed.

    Whoever drops it without closing it resigns in the loop's next turn, or before that
    if somebody of this node stands for ``name`` again.

    Args:
        leaders: The room.
        name: A key term.
        pid: The candidate; None makes one for as long as it stands.
        priority: As for ``Leaders.lead``.

    Raises:
        As ``Leaders.lead``, at the first term.
    """
    return _Terms(leaders, name, pid, priority)


@final
class _Terms(AsyncGenerator[Term]):
    """What ``terms`` makes; not a generator, whose end nobody sees but its own task."""

    def __init__(
        self, leaders: Leaders, name: object, pid: Pid | None, priority: int
    ) -> None:
        self._leaders = leaders
        self._name = name
        self._pid = pid
        self._priority = priority
        self._loop: asyncio.AbstractEventLoop | None = None
        self._holder: Process | None = None
        self._seat: _Seat | None = None
        self._closed = False

    async def asend(self, value: None = None) -> Term:
        """The next term."""
        if self._closed:
            raise StopAsyncIteration
        if self._seat is not None and self._seat.awaited:
            raise Conflict(f"somebody waits for a term of {self._name!r:.200} already")
        try:
            seat = self._stand() if self._seat is None else self._seat
            term = await seat.next()
        except (Exception, asyncio.CancelledError):
            self._close()
            raise
        if term is None:
            self._close()
            raise StopAsyncIteration
        return term

    async def athrow(self, *error: Any) -> Term:
        """Close it, and raise ``error``."""
        self._close()
        raise error[0] if len(error) < 2 or error[1] is None else error[1]

    async def aclose(self) -> None:
        """Stand no more. Idempotent."""
        self._close()

    def __del__(self) -> None:
        """Have it closed: this can be any thread, and amidst anything."""
        if self._closed or self._seat is None or self._loop is None:
            return
        self._seat.abandoned = True
        with suppress(RuntimeError):  # The loop is closed, and so is the node.
            self._loop.call_soon_threadsafe(
                _withdraw, self._leaders, self._name, self._seat, self._holder
            )

    def _stand(self) -> _Seat:
        leaders, pid = self._leaders, self._pid
        self._loop = asyncio.get_running_loop()
        if pid is None:
            self._holder = leaders.processes.spawn(_hold)
            pid = self._holder.pid
        seat = self._seat = _Seat(self._name, leaders.look)
        role = leaders.stand(self._name, pid, self._priority, seat=seat)
        if role.fence is not None:
            seat.hear(Elected(self._name, role.fence))
        return seat

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._seat is not None:
            _withdraw(self._leaders, self._name, self._seat, self._holder)


def _withdraw(
    leaders: Leaders, name: object, seat: _Seat, holder: Process | None
) -> None:
    try:
        leaders.withdraw(name, seat=seat)
    finally:
        if holder is not None:
            leaders.processes.end(holder, "normal")


async def _hold(process: Process) -> None:
    while await process.receive() is not None:
        pass
