"""What ``bench.state`` promises is what it prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.state import PARTS
from tests.tree import ROOT

STORE_KEYS = {
    "persisted_put_1_per_s",
    "persisted_put_8_per_s",
    "persisted_put_64_per_s",
    "persisted_put_64_vs_sqlite",
    "persisted_put_64_vs_lmdb",
    "recovery_1m_s",
}


def test_a_quick_run_prints_the_figures_of_the_store(tmp_path: Path) -> None:
    words = ["--quick", "--json", "--only", "persisted,recovery", "--dir"]
    command = [sys.executable, "-m", "bench.state", *words, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result.keys() >= STORE_KEYS
    assert all(result[key] is None or result[key] > 0 for key in STORE_KEYS)
    assert list(tmp_path.iterdir()) == []


def test_a_quick_run_prints_the_figures_of_placement_and_reminders(
    tmp_path: Path,
) -> None:
    words = ["--quick", "--json", "--only", "placement,reminders", "--dir"]
    command = [sys.executable, "-m", "bench.state", *words, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["place_100_members_per_s"] > 0
    assert result["remind_64_per_s"] > 0
    assert result["reminder_late_p99_ms"] > 0
    assert (result["reminders_missed"], result["reminders_duplicate"]) == (0, 0)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_part_is_a_usage_error() -> None:
    command = [sys.executable, "-m", "bench.state", "--only", "nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"choose from {','.join(PARTS)}" in done.stderr
