"""Hold two bench results against each other: ``python -m bench.compare OLD NEW``.

Only ratios are compared, because absolute figures of two runs say more about the
machine than about the code. Ends with status 1 when a ratio of NEW is worse than OLD's
by more than the tolerance, or is missing from NEW; with 2 when a file cannot be used.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HIGHER_IS_BETTER", "LOWER_IS_BETTER", "Change", "compare", "main"]

HIGHER_IS_BETTER = frozenset(
    {
        "bulk_vs_aiopquic",
        "bulk_vs_aioquic",
        "bulk_vs_tls",
        "bulk_vs_tcp",
        "msgs_vs_aiopquic_single",
        "msgs_vs_aiopquic_batched",
        "terms_small_vs_msgspec",
        "terms_small_vs_msgpack",
        "terms_small_vs_pickle",
        "terms_big_vs_pickle",
        "calls64_vs_tcp",
        "calls64_vs_casty",
        "calls64_vs_grpc",
        "calls64_vs_nats",
        "calls64_vs_pyzmq",
        "oneway_vs_tcp_single",
        "oneway_vs_tcp_batched",
        "oneway8_vs_oneway1",
        "big_msgs_vs_bulk",
        "aged_vs_fresh",
    }
)

LOWER_IS_BETTER = frozenset(
    {
        "rtt_p50_vs_udp_pinned",
        "rtt_p50_vs_udp_cross",
        "rtt_p50_vs_aiopquic_pinned",
        "rtt_p99_vs_p50",
        "handshake_p50_vs_tls",
        "hlc_now_vs_time_ns",
        "call_rtt_p50_vs_tcp_cross",
        "call_rtt_p50_vs_tcp_same_core",
        "call_rtt_p50_vs_casty",
        "call_rtt_p50_vs_grpc",
        "call_rtt_p50_vs_nats",
        "call_rtt_p50_vs_xoscar",
        # Not a ratio, but bytes are the same on every machine.
        "idle_conn_bytes",
    }
)

TOLERANCE = 0.15


@dataclass(frozen=True, slots=True)
class Change:
    """One ratio in both results.

    Attributes:
        key: Its name.
        old: Its earlier value.
        new: Its later value, or None if the later run did not measure it.
        gain: How much better it became, as a fraction; negative when worse.
    """

    key: str
    old: float
    new: float | None
    gain: float

    def is_regression(self, tolerance: float) -> bool:
        """Whether it is worse by more than ``tolerance``, or gone."""
        return self.new is None or self.gain < -tolerance


def compare(old: Mapping[str, object], new: Mapping[str, object]) -> list[Change]:
    """Return every ratio that ``old`` measured, in its order."""
    changes = []
    for key in old:
        if key not in HIGHER_IS_BETTER | LOWER_IS_BETTER:
            continue
        before, after = _number(old, key), _number(new, key)
        if before is None:
            continue
        changes.append(Change(key, before, after, _gain(key, before, after)))
    return changes


def _gain(key: str, before: float, after: float | None) -> float:
    if after is None:
        return 0.0
    if key in HIGHER_IS_BETTER:
        return after / before - 1
    return before / after - 1


def _number(result: Mapping[str, object], key: str) -> float | None:
    value = result.get(key)
    if isinstance(value, int | float) and value > 0:
        return float(value)
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Compare two files and print every ratio."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare", description="Compare the ratios of two results."
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, help="fraction, default 0.15"
    )
    args = parser.parse_args(argv)
    try:
        old, new = _read(args.old), _read(args.new)
    except (OSError, ValueError) as error:
        print(f"bench.compare: {error}", file=sys.stderr)
        return 2
    changes = compare(old, new)
    for change in changes:
        worse = change.is_regression(args.tolerance)
        after = "missing" if change.new is None else f"{change.new:.4g}"
        verdict = "WORSE" if worse else ""
        print(f"{change.key:28} {change.old:>10.4g} {after:>10} {verdict}".rstrip())
    if not changes:
        print(f"bench.compare: {args.old} holds no ratio", file=sys.stderr)
        return 2
    return 1 if any(change.is_regression(args.tolerance) for change in changes) else 0


def _read(path: Path) -> Mapping[str, object]:
    result = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(result, dict):
        raise ValueError(f"{path} holds no JSON object")
    return result


if __name__ == "__main__":
    sys.exit(main())
