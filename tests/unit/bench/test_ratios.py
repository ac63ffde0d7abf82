"""Ratios come from medians of one run, and unknown ones stay unknown."""

from __future__ import annotations

import statistics

from hypothesis import given
from hypothesis import strategies as st

from bench.compare import HIGHER_IS_BETTER, LOWER_IS_BETTER
from bench.ratios import BARS, bar_report, medians, ratios

KEYS = [
    "bulk_vs_aiopquic",
    "bulk_vs_aioquic",
    "bulk_vs_tls",
    "bulk_vs_tcp",
    "rtt_p50_vs_udp_pinned",
    "rtt_p50_vs_udp_cross",
    "rtt_p50_vs_aiopquic_pinned",
    "rtt_p99_vs_p50",
    "msgs_vs_aiopquic_single",
    "msgs_vs_aiopquic_batched",
    "handshake_p50_vs_tls",
    "handshakes_per_s",
    "idle_conn_bytes",
]


def rates(*values: float) -> list[dict[str, float]]:
    return [{"mb_s": value} for value in values]


def laps(*pairs: tuple[float, float]) -> list[dict[str, float]]:
    return [{"p50_us": p50, "p99_us": p99} for p50, p99 in pairs]


def test_nothing_measured_is_nothing_known() -> None:
    found = ratios({})
    assert list(found) == KEYS
    assert set(found.values()) == {None}
    assert {bar["pass"] for bar in bar_report(found)} == {None}
    assert medians({}) == {}


def test_bulk_is_compared_by_medians_and_with_the_best_of_aioquic() -> None:
    bulk = {
        "barrel": rates(90, 100, 900),
        "aiopquic": rates(20, 25, 30),
        "aioquic": rates(1, 2, 4),
        "tcp": [],
    }
    found = ratios({"bulk": bulk})
    assert found["bulk_vs_aiopquic"] == 4.0
    assert found["bulk_vs_aioquic"] == 25.0
    assert found["bulk_vs_tcp"] is None
    assert medians({"bulk": bulk})["barrel"] == {"bulk": {"mb_s": 100.0}}
    assert "tcp" not in medians({"bulk": bulk})


def test_latency_is_compared_per_placement_and_the_worse_tail_counts() -> None:
    found = ratios(
        {
            "rtt_pinned": {
                "barrel": laps((30, 60), (20, 60), (40, 60)),
                "udp": laps((10, 0), (20, 0), (30, 0)),
                "aiopquic": laps((60, 0), (60, 0), (60, 0)),
            },
            "rtt_cross": {"barrel": laps((50, 150)), "udp": laps((50, 0))},
        }
    )
    assert found["rtt_p50_vs_udp_pinned"] == 1.5
    assert found["rtt_p50_vs_udp_cross"] == 1.0
    assert found["rtt_p50_vs_aiopquic_pinned"] == 0.5
    assert found["rtt_p99_vs_p50"] == 3.0


def test_the_larger_side_of_a_connection_counts() -> None:
    sides = {"client_bytes": 10.0, "server_bytes": 20.0}
    assert ratios({"idle": {"barrel": [sides]}})["idle_conn_bytes"] == 20.0


def test_a_bar_is_met_on_its_own_side_and_at_its_limit() -> None:
    found = {"bulk_vs_tls": 1.0, "handshake_p50_vs_tls": 0.81, "bulk_vs_tcp": None}
    report = {(bar["key"], bar["for"]): bar["pass"] for bar in bar_report(found)}
    assert report["bulk_vs_tls", "single"] is True
    assert report["handshake_p50_vs_tls", "five runs"] is False
    assert report["bulk_vs_tcp", "single"] is None
    assert ("bulk_vs_tcp", "five runs") not in report


def test_bars_and_comparison_agree_on_what_is_better() -> None:
    for bar in BARS:
        if bar.key != "handshakes_per_s":
            better = HIGHER_IS_BETTER if bar.at_least else LOWER_IS_BETTER
            assert bar.key in better


@given(st.lists(st.floats(1, 1e9), min_size=1), st.lists(st.floats(1, 1e9), min_size=1))
def test_a_ratio_is_that_of_the_medians(ours: list[float], peers: list[float]) -> None:
    found = ratios({"bulk": {"barrel": rates(*ours), "tls": rates(*peers)}})
    exact = statistics.median(ours) / statistics.median(peers)
    assert found["bulk_vs_tls"] is not None
    assert abs(found["bulk_vs_tls"] / exact - 1) < 0.001
