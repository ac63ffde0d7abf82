"""The agenda, plainly: one heap of calls by their time and then by their coming."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from barrel_p2p.errors import InvalidValue

__all__ = ["ScheduleModel"]

type _Call = Callable[[object, object], object]


class ScheduleModel:
    """Calls to be made, and what time it is."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.events = 0
        self._came = 0
        self._calls: list[tuple[int, int, _Call, object, object]] = []

    def at(self, when_ms: int, call: _Call, a: object, b: object) -> None:
        if when_ms < self.now_ms:
            raise InvalidValue(f"an event at {when_ms} ms, and it is {self.now_ms} ms")
        self._came += 1
        heapq.heappush(self._calls, (when_ms, self._came, call, a, b))

    def run_until(self, end_ms: int) -> int:
        made = 0
        while self._calls and self._calls[0][0] <= end_ms:
            self.now_ms, _, call, a, b = heapq.heappop(self._calls)
            call(a, b)
            made += 1
        self.now_ms = max(self.now_ms, end_ms)
        self.events += made
        return made

    def __len__(self) -> int:
        return len(self._calls)
