"""Figures of messages come from medians of one run, and unknown ones stay unknown."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.compare import HIGHER_IS_BETTER, LOWER_IS_BETTER
from bench.message_ratios import CONTEXT, KEYS, MESSAGE_BARS, message_ratios
from bench.ratios import bar_report

EXPECTED_KEYS = [
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
]
NO_RATIOS = {"first_message_ms_p50", "boot_ms_p50", "disconnect_seen_ms_max"}


def samples(key: str, *values: float) -> list[dict[str, float]]:
    return [{key: value} for value in values]


def test_nothing_measured_is_nothing_known() -> None:
    found = message_ratios({})
    assert list(found) == list(KEYS) == EXPECTED_KEYS
    assert set(found.values()) == {None}
    assert {bar["pass"] for bar in bar_report(found, MESSAGE_BARS)} == {None}


def test_a_round_trip_is_compared_per_placement() -> None:
    found = message_ratios(
        {
            "call_cross": {
                "barrel": samples("p50_us", 90, 100, 900),
                "tcp": samples("p50_us", 80),
                "casty": samples("p50_us", 200),
                "grpc": samples("p50_us", 400),
                "nats": samples("p50_us", 300, 500),
                "xoscar": samples("p50_us", 250),
            },
            "call_same_core": {
                "barrel": samples("p50_us", 30),
                "tcp": samples("p50_us", 20),
            },
        }
    )
    assert found["call_rtt_p50_vs_tcp_cross"] == 1.25
    assert found["call_rtt_p50_vs_tcp_same_core"] == 1.5
    assert found["call_rtt_p50_vs_casty"] == 0.5
    assert found["call_rtt_p50_vs_grpc"] == 0.25
    assert found["call_rtt_p50_vs_nats"] == 0.25
    assert found["call_rtt_p50_vs_xoscar"] == 0.4


def test_rates_of_calls_are_compared_with_every_peer() -> None:
    calls = {
        "barrel": [{"per_s": 200.0, "cpu_us": 4.5}],
        "tcp": samples("per_s", 100),
        "casty": samples("per_s", 50),
        "grpc": samples("per_s", 5),
        "nats": samples("per_s", 25),
        "pyzmq": samples("per_s", 400),
    }
    found = message_ratios({"calls64": calls})
    names = ("tcp", "casty", "grpc", "nats", "pyzmq")
    assert [found[f"calls64_vs_{name}"] for name in names] == [2, 4, 40, 8, 0.5]
    assert found["cpu_us_per_call64"] == 4.5


def test_one_sender_is_compared_with_single_and_with_batched_writes() -> None:
    found = message_ratios(
        {
            "oneway": {"barrel": samples("per_s", 200), "tcp": samples("per_s", 25)},
            "oneway_batched": {"tcp": samples("per_s", 160)},
            "oneway8": {"barrel": samples("per_s", 180), "tcp": samples("per_s", 1)},
        }
    )
    assert found["oneway_per_s"] == 200
    assert found["oneway_vs_tcp_single"] == 8
    assert found["oneway_vs_tcp_batched"] == 1.25
    assert found["oneway8_vs_oneway1"] == 0.9


def test_big_messages_are_compared_with_our_own_stream() -> None:
    found = message_ratios(
        {
            "big": {"barrel": samples("mb_s", 750), "tcp": samples("mb_s", 3_000)},
            "bulk": {"engine": samples("mb_s", 1_000)},
        }
    )
    assert found["big_msgs_vs_bulk"] == 0.75


def test_the_worst_disconnect_of_all_samples_counts() -> None:
    found = message_ratios(
        {
            "disconnect": {"barrel": samples("max_ms", 5, 90, 7)},
            "boot": {"barrel": samples("p50_ms", 100, 200, 120)},
            "first_message": {"barrel": samples("p50_ms", 9, 1, 4)},
            "aged": {"barrel": samples("aged_vs_fresh", 0.97)},
        }
    )
    assert found["disconnect_seen_ms_max"] == 90
    assert found["boot_ms_p50"] == 120
    assert found["first_message_ms_p50"] == 4
    assert found["aged_vs_fresh"] == 0.97


@pytest.mark.parametrize(
    ("key", "value", "passes"),
    [
        ("call_rtt_p50_vs_tcp_cross", 1.25, [True]),
        ("call_rtt_p50_vs_tcp_cross", 1.26, [False]),
        ("call_rtt_p50_vs_grpc", 1.0, [False]),
        ("call_rtt_p50_vs_grpc", 0.99, [True]),
        ("calls64_vs_nats", 1.0, [False]),
        ("calls64_vs_nats", 1.01, [True]),
        ("oneway_vs_tcp_single", 6.0, [True]),
        ("aged_vs_fresh", 1.0, [True, True]),
        ("aged_vs_fresh", 0.89, [False, True]),
        ("aged_vs_fresh", 1.11, [True, False]),
    ],
)
def test_a_bar_is_met_on_its_own_side(
    key: str, value: float, passes: list[bool]
) -> None:
    report = bar_report({key: value}, MESSAGE_BARS)
    assert [bar["pass"] for bar in report if bar["key"] == key] == passes


def test_every_bar_is_about_a_figure_that_is_printed() -> None:
    assert {bar.key for bar in MESSAGE_BARS} <= set(KEYS)
    unbarred = set(KEYS) - {bar.key for bar in MESSAGE_BARS}
    assert unbarred == {"cpu_us_per_call64", "oneway_per_s"}


def test_bars_and_comparison_agree_on_what_is_better() -> None:
    for bar in MESSAGE_BARS:
        if bar.key not in NO_RATIOS | {"aged_vs_fresh"}:
            better = HIGHER_IS_BETTER if bar.at_least else LOWER_IS_BETTER
            assert bar.key in better


def test_what_was_measured_elsewhere_is_context_only() -> None:
    assert CONTEXT.keys() == {
        "erlang_barrel_p2p",
        "erlang_distribution_tcp",
        "erlang_distribution_tls",
    }
    assert not set(KEYS) & {key for figures in CONTEXT.values() for key in figures} - {
        "oneway_per_s"
    }


@given(st.lists(st.floats(1, 1e9), min_size=1), st.lists(st.floats(1, 1e9), min_size=1))
def test_a_ratio_is_that_of_the_medians(ours: list[float], peers: list[float]) -> None:
    systems = {"barrel": samples("per_s", *ours), "tcp": samples("per_s", *peers)}
    found = message_ratios({"oneway": systems})["oneway_vs_tcp_single"]
    exact = statistics.median(ours) / statistics.median(peers)
    assert found is not None
    assert abs(found / exact - 1) < 0.001
