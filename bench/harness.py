"""What every benchmark shares: quiet samples, statistics and pinning.

Absolute figures from a shared machine mean little, so each program reports ratios of
samples taken in one run, and each sample says how many cores *other* programs used
meanwhile. A sample taken while others used more than ``FOREIGN_MAX`` cores is taken
again, a bounded number of times, and marked when the machine never fell quiet.

Source: Linux proc(5), fields of /proc/stat and /proc/<pid>/stat.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

__all__ = [
    "FOREIGN_MAX",
    "TRIES_MAX",
    "ForeignCpu",
    "Meter",
    "Sample",
    "calib_ns",
    "cores",
    "emit_json",
    "foreign_summary",
    "interleave_quiet",
    "median_of",
    "percentile",
    "pinned",
    "repeat_quiet",
    "rss_bytes",
    "sample_quiet",
]

FOREIGN_MAX = 0.3
"""Cores that other programs may use during a sample we keep without a mark."""

TRIES_MAX = 5
"""How often one sample is taken again before a noisy one is kept and marked."""

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_CALIB_TURNS = 100_000
_CALIB_REPEATS = 7


def calib_ns() -> int:
    """Time a fixed Python loop: nanoseconds for 100,000 turns, best of seven.

    Two results whose ``calib`` differ by more than a few percent come from machines
    (or moments) of different speed.
    """
    best = 1 << 62
    for _ in range(_CALIB_REPEATS):
        total = 0
        start = time.perf_counter_ns()
        for turn in range(_CALIB_TURNS):
            total += turn & 7
        best = min(best, time.perf_counter_ns() - start)
    return best


def percentile(values: Sequence[float], fraction: float) -> float:
    """Return the smallest value that at least ``fraction`` of ``values`` do not exceed.

    Args:
        values: In any order, at least one.
        fraction: 0.0 to 1.0; 0.5 is the (lower) median.

    Raises:
        ValueError: ``values`` is empty or ``fraction`` out of range.
    """
    if not values:
        raise ValueError("percentile of no values")
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"fraction {fraction} is not within 0.0 to 1.0")
    rank = max(1, math.ceil(fraction * len(values)))
    return sorted(values)[rank - 1]


class Meter(Protocol):
    """What ``sample_quiet`` needs to know about the rest of the machine."""

    @property
    def cores(self) -> float:
        """Mean number of cores that others used inside the ``with`` block."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class ForeignCpu:
    """Cores used, inside the ``with`` block, by processes outside our process group.

    Time stolen by a hypervisor counts as used by others. The kernel counts in ticks of
    10 ms, so blocks much shorter than half a second give a coarse answer.
    """

    def __init__(self) -> None:
        self.cores = 0.0
        self.wall_s = 0.0
        self.own_cpu_s = 0.0
        self._start = (0.0, 0.0, 0.0)

    def __enter__(self) -> Self:
        self._start = (time.perf_counter(), _machine_busy_s(), _group_cpu_s())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        wall, busy, own = self._start
        self.wall_s = max(time.perf_counter() - wall, 1e-9)
        self.own_cpu_s = _group_cpu_s() - own
        others_s = _machine_busy_s() - busy - self.own_cpu_s
        self.cores = max(0.0, others_s) / self.wall_s


def _machine_busy_s() -> float:
    with Path("/proc/stat").open(encoding="ascii") as stat:
        ticks = [int(field) for field in stat.readline().split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_SECOND


def _group_cpu_s() -> float:
    """CPU seconds of our process group, children that were waited for included.

    Without those a process that ends inside a block would take its time away from the
    sum and hand it to the others.
    """
    group = os.getpgrp()
    ticks = 0
    for process in Path("/proc").glob("[1-9]*"):
        fields = _stat_fields(process)
        if fields is not None and int(fields[2]) == group:
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICKS_PER_SECOND


def _stat_fields(process: Path) -> list[str] | None:
    """Fields of its ``stat`` from ``state`` on, or None once the process is gone."""
    try:
        stat = (process / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command name is in parentheses and may hold spaces and parentheses.
    return stat.rpartition(")")[2].split()


@dataclass(frozen=True, slots=True)
class Sample[T]:
    """One measured value and how quiet the machine was.

    Attributes:
        value: What was measured, in the least disturbed of the tries.
        foreign: Cores that others used during that try.
        quiet: Whether that was within the limit; False marks a doubtful value.
        tries: How many were made.
    """

    value: T
    foreign: float
    quiet: bool
    tries: int


def sample_quiet[T](
    fn: Callable[[], T],
    *,
    foreign_max: float = FOREIGN_MAX,
    tries: int = TRIES_MAX,
    meter: Callable[[], Meter] = ForeignCpu,
) -> Sample[T]:
    """Call ``fn`` until others used at most ``foreign_max`` cores meanwhile.

    Raises:
        ValueError: ``tries`` is less than 1.
    """
    if tries < 1:
        raise ValueError(f"tries={tries} leaves nothing to measure, at least 1")
    made = 0
    best: tuple[T, float] | None = None
    while made < tries and (best is None or best[1] > foreign_max):
        made += 1
        with meter() as used:
            value = fn()
        if best is None or used.cores < best[1]:
            best = (value, used.cores)
    assert best is not None
    return Sample(*best, quiet=best[1] <= foreign_max, tries=made)


def repeat_quiet[T](
    fn: Callable[[], T],
    repeats: int,
    foreign_max: float = FOREIGN_MAX,
    *,
    tries: int = TRIES_MAX,
    meter: Callable[[], Meter] = ForeignCpu,
) -> list[Sample[T]]:
    """Return ``repeats`` samples of ``fn``, each as ``sample_quiet`` takes it."""
    return [
        sample_quiet(fn, foreign_max=foreign_max, tries=tries, meter=meter)
        for _ in range(repeats)
    ]


def interleave_quiet[K, T](
    variants: Mapping[K, Callable[[], T]],
    repeats: int,
    foreign_max: float = FOREIGN_MAX,
    *,
    tries: int = TRIES_MAX,
    meter: Callable[[], Meter] = ForeignCpu,
) -> dict[K, list[Sample[T]]]:
    """Sample every variant once a round, for ``repeats`` rounds.

    Slow drift of the machine then falls on all variants alike, which is what makes
    their ratio worth more than their values.
    """
    samples: dict[K, list[Sample[T]]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, fn in variants.items():
            taken = sample_quiet(fn, foreign_max=foreign_max, tries=tries, meter=meter)
            samples[name].append(taken)
    return samples


def median_of(samples: Sequence[Sample[float]]) -> float:
    """Median of the samples' values."""
    return statistics.median(sample.value for sample in samples)


def foreign_summary[T](samples: Sequence[Sample[T]]) -> dict[str, float | int]:
    """Cores others used over ``samples``: mean, worst, and how many are marked."""
    if not samples:
        return {"mean": 0.0, "worst": 0.0, "samples": 0, "not_quiet": 0}
    loads = [sample.foreign for sample in samples]
    return {
        "mean": round(statistics.fmean(loads), 3),
        "worst": round(max(loads), 3),
        "samples": len(samples),
        "not_quiet": sum(not sample.quiet for sample in samples),
    }


def cores() -> list[int]:
    """Cores this process may run on, in order."""
    return sorted(os.sched_getaffinity(0))


@contextmanager
def pinned(cpus: Sequence[int] | None) -> Iterator[None]:
    """Run the block, and every process started inside it, on ``cpus`` only.

    None leaves the affinity alone. Threads started earlier keep theirs.
    """
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def rss_bytes(pid: int) -> int:
    """Resident bytes of a process, as the kernel counts them.

    Raises:
        OSError: There is no such process.
    """
    statm = Path(f"/proc/{pid}/statm").read_text(encoding="ascii")
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def emit_json(result: Mapping[str, object]) -> None:
    """Print ``result`` as the one JSON object on stdout."""
    json.dump(result, sys.stdout, indent=1, sort_keys=False)
    sys.stdout.write("\n")
    sys.stdout.flush()
