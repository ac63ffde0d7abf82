"""The codec benchmark compares like with like and prints one JSON object."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from bench.codec import BARS, codecs, ratios, table, values

ROOT = Path(__file__).parents[3]
KEYS = [
    "terms_small_vs_msgspec",
    "terms_small_vs_msgpack",
    "terms_small_vs_pickle",
    "terms_big_vs_pickle",
    "hlc_now_vs_time_ns",
]


def test_a_quick_run_prints_every_key() -> None:
    command = [sys.executable, "-m", "bench.codec", "--json", "--quick"]
    done = subprocess.run(
        [*command, "--repeats=1", "--turns=1"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert {*KEYS, "calib", "foreign_cpu", "bars"} <= result.keys()
    assert all(result[key] > 0 for key in KEYS)
    assert {bar["key"] for bar in result["bars"]} == {bar.key for bar in BARS}
    assert all(bar.key in table(result) for bar in BARS)


def test_ratios_are_the_peer_s_time_over_ours() -> None:
    times = {
        value: {(c.name, op): 1.0 for c in codecs() for op in ("encode", "decode")}
        for value in values()
    }
    times["small"]["msgspec", "encode"] = 5.0
    found = ratios(times)
    assert found["terms_small_vs_msgspec"] == 3.0
    assert found["terms_big_vs_msgspec"] == found["terms_small_vs_pickle"] == 1.0


def test_values_have_the_sizes_they_are_named_for() -> None:
    sizes = {
        (name, codec.name): len(codec.encode(value))
        for name, value in values().items()
        for codec in codecs()
    }
    assert 150 <= sizes["small", "msgpack"] <= 250
    assert 3_000 <= sizes["big", "msgpack"] <= sizes["big", "terms"] <= 6_000


@pytest.mark.parametrize("name", ["terms", "pickle"])
def test_terms_and_pickle_give_the_same_value_back(name: str) -> None:
    (codec,) = (codec for codec in codecs() if codec.name == name)
    for value in values().values():
        assert codec.decode(codec.encode(value)) == value
        assert pickle.dumps(codec.decode(codec.encode(value)))
