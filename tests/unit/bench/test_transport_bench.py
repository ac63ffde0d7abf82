"""The transport benchmark runs real pairs of processes and prints one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.ratios import BARS
from bench.transport import FULL, QUICK, main, table

ROOT = Path(__file__).parents[3]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.transport", "--quick", "--repeats=1", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_a_quick_run_of_two_floors_prints_every_key() -> None:
    done = run("--json", "--only=rtt", "--peers=udp,tcp")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert {"calib", "foreign_cpu", "versions", "bars"} <= result.keys()
    assert {bar.key for bar in BARS} <= result.keys()
    assert {"python", "uvloop", "picoquic", "aioquic"} <= result["versions"].keys()
    assert result["errors"] == {}
    assert result["systems"].keys() == {"udp", "tcp"}
    for steps in result["systems"].values():
        assert steps.keys() == {"rtt_pinned", "rtt_cross"}
        assert all(0 < lap["p50_us"] <= lap["p99_us"] for lap in steps.values())
    assert result["rtt_p50_vs_udp_pinned"] is None
    assert "rtt_pinned" in table(result)


def test_bytes_are_counted_and_hashed_over_a_real_stream() -> None:
    done = run("--only=msgs,bulk", "--peers=tcp")
    assert (done.returncode, done.stderr) == (0, "")
    assert {"msgs_single", "msgs_batched", "bulk"} <= set(done.stdout.split())


@pytest.mark.parametrize("wrong", ["--peers=smtp", "--only=lunch"])
def test_an_unknown_name_is_refused_with_those_that_are_known(
    wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([wrong])
    assert "is none of" in capsys.readouterr().err


def test_quick_and_full_runs_take_the_same_steps() -> None:
    assert [step.name for step in QUICK] == [step.name for step in FULL]
    for quick, full in zip(QUICK, FULL, strict=True):
        assert quick.work.size < full.work.size
        assert quick.cpus == full.cpus
