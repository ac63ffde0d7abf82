"""The figures that ``bench.messages`` is about, and the bars they are held to.

A ratio compares medians of samples from one run. Whatever was not measured is None, and
so is every ratio and bar that needs it.
"""

from __future__ import annotations

import statistics

from bench.ratios import OURS, Bar, Results, rounded, values_of

__all__ = ["CONTEXT", "ENGINE", "KEYS", "MESSAGE_BARS", "message_ratios"]

ENGINE = "engine"
"""The system whose ``bulk`` step is our own stream without messages."""

KEYS = (
    "call_rtt_p50_vs_tcp_cross",
    "call_rtt_p50_vs_tcp_same_core",
    "call_rtt_p50_vs_casty",
    "call_rtt_p50_vs_grpc",
    "call_rtt_p50_vs_nats",
    "call_rtt_p50_vs_xoscar",
    "calls64_vs_tcp",
    "calls64_vs_casty",
    "calls64_vs_grpc",
    "calls64_vs_nats",
    "calls64_vs_pyzmq",
    "cpu_us_per_call64",
    "oneway_per_s",
    "oneway_vs_tcp_single",
    "oneway_vs_tcp_batched",
    "oneway8_vs_oneway1",
    "big_msgs_vs_bulk",
    "first_message_ms_p50",
    "boot_ms_p50",
    "aged_vs_fresh",
    "disconnect_seen_ms_max",
)
"""Every figure, in the order in which it is printed."""


def _at_least(key: str, limit: float, *, strictly: bool = False) -> Bar:
    return Bar(key, True, None, limit, strictly)


def _at_most(key: str, limit: float, *, strictly: bool = False) -> Bar:
    return Bar(key, False, None, limit, strictly)


MESSAGE_BARS = (
    _at_most("call_rtt_p50_vs_tcp_cross", 1.25),
    _at_most("call_rtt_p50_vs_tcp_same_core", 1.9),
    _at_most("call_rtt_p50_vs_casty", 1.0, strictly=True),
    _at_most("call_rtt_p50_vs_grpc", 1.0, strictly=True),
    _at_most("call_rtt_p50_vs_nats", 1.0, strictly=True),
    _at_most("call_rtt_p50_vs_xoscar", 1.0, strictly=True),
    _at_least("calls64_vs_tcp", 1.5),
    _at_least("calls64_vs_casty", 1.0, strictly=True),
    _at_least("calls64_vs_grpc", 1.0, strictly=True),
    _at_least("calls64_vs_nats", 1.0, strictly=True),
    _at_least("calls64_vs_pyzmq", 1.0, strictly=True),
    _at_least("oneway_vs_tcp_single", 6.0),
    _at_least("oneway_vs_tcp_batched", 0.9),
    _at_least("oneway8_vs_oneway1", 0.9),
    _at_least("big_msgs_vs_bulk", 0.7),
    _at_most("first_message_ms_p50", 15.0),
    _at_most("boot_ms_p50", 250.0),
    _at_least("aged_vs_fresh", 0.9),
    _at_most("aged_vs_fresh", 1.1),
    _at_most("disconnect_seen_ms_max", 1_000.0),
)

CONTEXT: dict[str, dict[str, float | None]] = {
    "erlang_barrel_p2p": {
        "call_p50_us": 226.0,
        "call_p99_us": 492.0,
        "calls64_per_s": 8_450.0,
        "oneway_per_s": 18_000.0,
        "oneway8_per_s": 17_900.0,
        "big_mb_s": 7.0,
        "first_message_ms": 88.0,
        "boot_ms": 260.0,
        "disconnect_seen_ms_at_least": 80_000.0,
    },
    "erlang_distribution_tcp": {
        "call_p50_us": 96.0,
        "call_p99_us": 180.0,
        "calls64_per_s": 44_400.0,
        "oneway_per_s": 314_000.0,
        "oneway8_per_s": 470_000.0,
        "big_mb_s": 2_950.0,
        "first_message_ms": 48.0,
    },
    "erlang_distribution_tls": {
        "call_p50_us": 162.0,
        "call_p99_us": 331.0,
        "calls64_per_s": 60_000.0,
        "oneway_per_s": 292_000.0,
        "big_mb_s": 73.0,
        "first_message_ms": 262.0,
    },
}
"""Measured once on a 2-core machine, not in this run: for orientation only.

``erlang_barrel_p2p`` is the Erlang original (0.1.0 on OTP 27, authenticated, over
QUIC); the other two are stock Erlang distribution, of which TCP is not encrypted.
``first_message_ms`` is its first connect with the handshake. Compare nothing with them
that was measured on another machine.
"""


def message_ratios(results: Results) -> dict[str, float | None]:
    """Every figure of ``KEYS``, in that order; None where a sample is missing."""

    def ours(step: str, key: str) -> float | None:
        return _median(results, step, OURS, key)

    def over(step: str, key: str, peer: str, peer_step: str = "") -> float | None:
        return _quotient(
            ours(step, key), _median(results, peer_step or step, peer, key)
        )

    values = {
        "call_rtt_p50_vs_tcp_cross": over("call_cross", "p50_us", "tcp"),
        "call_rtt_p50_vs_tcp_same_core": over("call_same_core", "p50_us", "tcp"),
        "cpu_us_per_call64": ours("calls64", "cpu_us"),
        "oneway_per_s": ours("oneway", "per_s"),
        "oneway_vs_tcp_single": over("oneway", "per_s", "tcp"),
        "oneway_vs_tcp_batched": over("oneway", "per_s", "tcp", "oneway_batched"),
        "oneway8_vs_oneway1": over("oneway8", "per_s", OURS, "oneway"),
        "big_msgs_vs_bulk": _quotient(
            ours("big", "mb_s"), _median(results, "bulk", ENGINE, "mb_s")
        ),
        "first_message_ms_p50": ours("first_message", "p50_ms"),
        "boot_ms_p50": ours("boot", "p50_ms"),
        "aged_vs_fresh": ours("aged", "aged_vs_fresh"),
        "disconnect_seen_ms_max": _worst(results, "disconnect", "max_ms"),
    }
    for peer in ("casty", "grpc", "nats", "xoscar"):
        values[f"call_rtt_p50_vs_{peer}"] = over("call_cross", "p50_us", peer)
    for peer in ("tcp", "casty", "grpc", "nats", "pyzmq"):
        values[f"calls64_vs_{peer}"] = over("calls64", "per_s", peer)
    return {
        key: None if (value := values[key]) is None else rounded(value) for key in KEYS
    }


def _median(results: Results, step: str, system: str, key: str) -> float | None:
    values = values_of(results, step, system, key)
    return statistics.median(values) if values else None


def _worst(results: Results, step: str, key: str) -> float | None:
    return max(values_of(results, step, OURS, key), default=None)


def _quotient(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours / theirs
