"""The benchmark of the overlay measures what it says, and its page says all of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from bench.overlay import BARS, PARTS
from tests.tree import ROOT

PAGE = (ROOT / "docs/reference/benchmarks.md").read_text()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.overlay", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.cluster
def test_a_quick_run_prints_one_object_with_its_figures() -> None:
    done = run("--json", "--quick", "--only", "reg_visible,join20,ormap")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["reg_visible_2_p50_ms"] > 0
    assert result["reg_visible_5_p99_ms"] >= result["reg_visible_5_p50_ms"]
    assert result["join20_full_views_ms"] >= result["join20_connected_ms"]
    assert result["join20_oneway_links"] == result["join20_bcast_lost"] == 0
    assert result["ormap_delta_100k_us"] > 0
    assert isinstance(result["missed"], list)
    assert {"calib", "foreign_cpu", "quick"} <= set(result)


def test_an_unknown_part_is_refused_with_those_there_are() -> None:
    done = run("--only", "weather")
    assert done.returncode == 2
    assert all(name in done.stderr for name in PARTS)


def test_the_page_names_every_bar() -> None:
    named = " ".join(re.findall(r"`([a-z0-9_]+)`", PAGE))
    missing = [
        bar.key
        for bar in BARS
        if bar.key not in named and not bar.key.endswith(("_p99_ms", "_max"))
    ]
    assert missing == []
