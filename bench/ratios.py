"""The ratios that ``bench.transport`` is about, and the bars they are held to.

A ratio compares medians of samples from one run. Whatever was not measured is None, and
so is every ratio and bar that needs it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "BARS",
    "OURS",
    "Bar",
    "Results",
    "bar_report",
    "medians",
    "ratios",
    "rounded",
    "values_of",
]

type Results = Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]
"""Step name, then system name, to the figures of its samples."""

OURS = "barrel"


@dataclass(frozen=True, slots=True)
class Bar:
    """A limit on one ratio: for the median of five runs, and for any single run.

    Attributes:
        key: The ratio.
        at_least: Whether it must not be below the limit; else, not above.
        five_runs: The limit for the median of five runs, if there is one.
        single_run: The limit for any single run, if there is one.
        strictly: Whether a ratio at the very limit misses it.
    """

    key: str
    at_least: bool
    five_runs: float | None
    single_run: float | None
    strictly: bool = False

    @property
    def comparison(self) -> str:
        """``<``, ``<=``, ``>=`` or ``>``."""
        return (">" if self.at_least else "<") + ("" if self.strictly else "=")

    def is_met(self, value: float, limit: float) -> bool:
        """Whether ``value`` keeps to ``limit``."""
        if value == limit:
            return not self.strictly
        return (value > limit) == self.at_least


BARS = (
    Bar("bulk_vs_aiopquic", True, 3.5, 3.0),
    Bar("bulk_vs_aioquic", True, 30.0, 15.0),
    Bar("bulk_vs_tls", True, 1.0, 1.0),
    Bar("bulk_vs_tcp", True, None, 0.17),
    Bar("rtt_p50_vs_udp_pinned", False, 1.7, 1.9),
    Bar("rtt_p50_vs_udp_cross", False, 1.25, 1.3),
    Bar("rtt_p50_vs_aiopquic_pinned", False, None, 0.5),
    Bar("rtt_p99_vs_p50", False, 3.5, 3.5),
    Bar("msgs_vs_aiopquic_single", True, 1.8, 1.5),
    Bar("msgs_vs_aiopquic_batched", True, 4.0, 3.5),
    Bar("handshake_p50_vs_tls", False, 0.8, 0.8),
    Bar("handshakes_per_s", True, 1_000.0, 1_100.0),
    Bar("idle_conn_bytes", False, 65_536.0, 25_000.0),
)


def medians(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """System name, then step name, to the median of each of its figures."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for step, systems in results.items():
        for system, samples in systems.items():
            if samples:
                found.setdefault(system, {})[step] = {
                    key: rounded(statistics.median(sample[key] for sample in samples))
                    for key in samples[0]
                }
    return found


def ratios(results: Results) -> dict[str, float | None]:
    """Every ratio of ``BARS``, in that order; None where a sample is missing."""

    def over(
        step: str,
        key: str,
        peer: str,
        pick: Callable[[Sequence[float]], float] = statistics.median,
    ) -> float | None:
        ours = values_of(results, step, OURS, key)
        theirs = values_of(results, step, peer, key)
        if not ours or not theirs:
            return None
        return statistics.median(ours) / pick(theirs)

    values = {
        "bulk_vs_aiopquic": over("bulk", "mb_s", "aiopquic"),
        # Its connections are now and then several times slower: take its best.
        "bulk_vs_aioquic": over("bulk", "mb_s", "aioquic", max),
        "bulk_vs_tls": over("bulk", "mb_s", "tls"),
        "bulk_vs_tcp": over("bulk", "mb_s", "tcp"),
        "rtt_p50_vs_udp_pinned": over("rtt_pinned", "p50_us", "udp"),
        "rtt_p50_vs_udp_cross": over("rtt_cross", "p50_us", "udp"),
        "rtt_p50_vs_aiopquic_pinned": over("rtt_pinned", "p50_us", "aiopquic"),
        "rtt_p99_vs_p50": _tail(results),
        "msgs_vs_aiopquic_single": over("msgs_single", "per_s", "aiopquic"),
        "msgs_vs_aiopquic_batched": over("msgs_batched", "per_s", "aiopquic"),
        "handshake_p50_vs_tls": over("handshake", "p50_us", "tls"),
        "handshakes_per_s": _median(results, "handshake", "concurrent_per_s"),
        "idle_conn_bytes": _larger_side(results),
    }
    return {
        bar.key: None if (value := values[bar.key]) is None else rounded(value)
        for bar in BARS
    }


def bar_report(
    found: Mapping[str, float | None], bars: Sequence[Bar] = BARS
) -> list[dict[str, object]]:
    """Each bar with its value and whether it passes: true, false, or None (unknown)."""
    report: list[dict[str, object]] = []
    for bar in bars:
        value = found.get(bar.key)
        for kind, limit in (("five runs", bar.five_runs), ("single", bar.single_run)):
            if limit is None:
                continue
            passes = None
            if value is not None:
                passes = bar.is_met(value, limit)
            report.append(
                {
                    "key": bar.key,
                    "for": kind,
                    "op": bar.comparison,
                    "limit": limit,
                    "value": value,
                    "pass": passes,
                }
            )
    return report


def values_of(results: Results, step: str, system: str, key: str) -> list[float]:
    """One figure of every sample of a system in a step; empty if there is none."""
    return [sample[key] for sample in results.get(step, {}).get(system, ())]


def _median(results: Results, step: str, key: str) -> float | None:
    values = values_of(results, step, OURS, key)
    return statistics.median(values) if values else None


def _tail(results: Results) -> float | None:
    """p99 over p50 of each sample; the worse of the two placements."""
    tails = []
    for step in ("rtt_pinned", "rtt_cross"):
        samples = results.get(step, {}).get(OURS, ())
        if samples:
            tails.append(statistics.median(s["p99_us"] / s["p50_us"] for s in samples))
    return max(tails, default=None)


def _larger_side(results: Results) -> float | None:
    sides = (
        _median(results, "idle", "client_bytes"),
        _median(results, "idle", "server_bytes"),
    )
    return max((side for side in sides if side is not None), default=None)


def rounded(value: float) -> float:
    """Four significant digits: more would pretend."""
    return float(f"{value:.4g}")
