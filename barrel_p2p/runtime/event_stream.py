"""Events for plain code: ``async for`` over a bounded queue that says what it lost."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from barrel_p2p.errors import InvalidValue

__all__ = ["EVENTS_MAX", "EventStream", "Lagged"]

EVENTS_MAX = 1 << 20
"""Largest ``maxsize``."""


@dataclass(frozen=True, slots=True)
class Lagged:
    """The reader was too slow: ``missed`` events, the oldest, are gone."""

    missed: int


class EventStream[T]:
    """Events in order, for one reader. Leaving ``async with``, or ``close``, ends it.

    When the queue is full the oldest event goes, and the reader gets ``Lagged`` in its
    place: what happened last matters most.

    Args:
        on_close: Called once when the stream ends.
        maxsize: Events that may wait, 1 to ``EVENTS_MAX``.

    Raises:
        InvalidValue: ``maxsize`` is out of range.
    """

    def __init__(
        self, on_close: Callable[[EventStream[T]], None], *, maxsize: int = 1_024
    ) -> None:
        if not 1 <= maxsize <= EVENTS_MAX:
            raise InvalidValue(f"maxsize={maxsize} is outside 1 to {EVENTS_MAX}")
        self._on_close: Callable[[EventStream[T]], None] | None = on_close
        self._maxsize = maxsize
        self._events: deque[T] = deque()
        self._missed = 0
        self._waiter: asyncio.Future[None] | None = None

    @property
    def room(self) -> int:
        """How many events it takes before the oldest go. For whoever made it."""
        return self._maxsize - len(self._events)

    def put(self, event: T) -> None:
        """Add an event. For whoever made the stream."""
        if self._on_close is None:
            return
        if len(self._events) >= self._maxsize:
            self._events.popleft()
            self._missed += 1
        self._events.append(event)
        self._wake()

    def close(self) -> None:
        """End the stream: what waits can still be read, nothing comes. Idempotent."""
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(self)
        self._wake()

    async def next(self, *, timeout: float | None = None) -> T | Lagged:
        """The next event.

        Args:
            timeout: Seconds; None waits for ever.

        Raises:
            TimeoutError: None came in time.
            StopAsyncIteration: The stream is closed and read to its end.
        """
        async with asyncio.timeout(timeout):
            return await self.__anext__()

    async def until(
        self, wanted: Callable[[T | Lagged], bool], *, timeout: float | None = None
    ) -> T | Lagged:
        """The next event for which ``wanted`` is true; those before it are dropped.

        Raises:
            TimeoutError: None came in time.
            StopAsyncIteration: The stream is closed and read to its end.
        """
        async with asyncio.timeout(timeout):
            while not wanted(event := await self.__anext__()):
                pass
            return event

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T | Lagged:
        while not self._events:
            if self._on_close is None:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._missed:
            missed, self._missed = self._missed, 0
            return Lagged(missed)
        return self._events.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
