"""Virtual time: what happens when, one list of calls for each millisecond.

Most events fall into a millisecond that has others already, so adding one is a lookup
and an append; only a new millisecond enters the heap. Events of one millisecond run in
the order in which they were added, which makes a run a function of its seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import final

from barrel_p2p.errors import InvalidValue

__all__ = ["Call", "Schedule"]

type Call = Callable[[object, object], object]


@final
class Schedule:
    """An agenda and its clock.

    Attributes:
        now_ms: Virtual milliseconds since the run began.
        events: How many calls were made.
        buckets: Millisecond to its calls. ``at`` is the way in; code that adds millions
            of events a run may append to a list that is there.
    """

    __slots__ = ("_times", "buckets", "events", "now_ms")

    def __init__(self) -> None:
        self.now_ms = 0
        self.events = 0
        self.buckets: dict[int, list[tuple[Call, object, object]]] = {}
        self._times: list[int] = []

    def at(self, when_ms: int, call: Call, a: object, b: object) -> None:
        """Make ``call(a, b)`` at ``when_ms``, after all that was added for then.

        Args:
            when_ms: Not before ``now_ms``.
            call: What to call; it may add further events, also for this millisecond.
            a: Its first argument.
            b: Its second argument.

        Raises:
            InvalidValue: ``when_ms`` is over.
        """
        bucket = self.buckets.get(when_ms)
        if bucket is not None:
            bucket.append((call, a, b))
            return
        if when_ms < self.now_ms:
            raise InvalidValue(f"an event at {when_ms} ms, and it is {self.now_ms} ms")
        self.buckets[when_ms] = [(call, a, b)]
        heapq.heappush(self._times, when_ms)

    def run_until(self, end_ms: int) -> int:
        """Make all calls up to and including ``end_ms``, which it is afterwards.

        Returns:
            How many calls that were.
        """
        times, buckets = self._times, self.buckets
        made = 0
        while times and times[0] <= end_ms:
            # The list stays in `buckets` while it runs, so that calls added for this
            # millisecond join it and the loop reaches them.
            self.now_ms = times[0]
            bucket = buckets[self.now_ms]
            for call, a, b in bucket:
                call(a, b)
            made += len(bucket)
            del buckets[heapq.heappop(times)]
        self.now_ms = max(self.now_ms, end_ms)
        self.events += made
        return made

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self.buckets.values())
