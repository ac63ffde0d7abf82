"""What one timestamp costs, beside reading the clock and beside the plain-Python model.

All three are called the same way, through a name, from one timed loop, and the turns of
the three are interleaved, so that a change of the machine's speed meets each of them.
Clocks are the default ones: the model reads ``time.time_ns``, ours ``CLOCK_REALTIME``.
"""

from __future__ import annotations

import json
import statistics
import time
import timeit
from collections.abc import Callable

from barrel_p2p.core.hlc import HLC
from tests.models.hlc import HlcModel

__all__ = ["measure"]

CALLS = 50_000
REPEATS = 15


def measure(*, calls: int = CALLS, repeats: int = REPEATS) -> dict[str, float]:
    """Return nanoseconds a call, the median of ``repeats``, loop overhead included.

    Args:
        calls: Calls in one timed loop, at least 1.
        repeats: Timed loops of each kind, at least 1.

    Returns:
        ``hlc_now_ns`` (ours), ``time_ns_ns`` (``time.time_ns``) and ``hlc_model_ns``.
    """
    contenders: dict[str, Callable[[], object]] = {
        "time_ns_ns": time.time_ns,
        "hlc_now_ns": HLC().now,
        "hlc_model_ns": HlcModel().now,
    }
    timers = {
        name: timeit.Timer("call()", globals={"call": call})
        for name, call in contenders.items()
    }
    taken_ns: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(repeats):
        for name, timer in timers.items():
            taken_ns[name].append(timer.timeit(calls) * 1e9 / calls)
    return {name: statistics.median(taken) for name, taken in taken_ns.items()}


def main() -> None:
    """Print the figures and both ratios as one JSON object."""
    figures = measure()
    ours_ns = figures["hlc_now_ns"]
    ratios = {
        "hlc_now_vs_time_ns": ours_ns / figures["time_ns_ns"],
        "hlc_now_vs_model": figures["hlc_model_ns"] / ours_ns,
    }
    print(json.dumps({key: round(v, 3) for key, v in (figures | ratios).items()}))


if __name__ == "__main__":
    main()
