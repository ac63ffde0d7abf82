"""The demo, shortened: two real processes, real certificates, every way to end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.tree import ROOT

DEMO = [sys.executable, "-m", "barrel_p2p.cli.demo"]
SHORT = [*DEMO, "--messages", "3000", "--megabytes", "3", "--round-trips", "50"]
ENDLESS = [*SHORT, "--round-trips", "10000000", "--json"]
SECONDS_MAX = 50
FIGURES = {"rtt_p50_us", "rtt_p99_us", "messages_per_s", "stream_mb_per_s"}
RATIOS = {"rtt_p50_vs_tcp", "rtt_p99_vs_tcp", "messages_vs_tcp", "stream_vs_tcp"}


@pytest.fixture
def strict(tmp_path: Path) -> dict[str, str]:
    """Any warning of either process is an error; temporary files are ours to see."""
    strictness = {"PYTHONWARNINGS": "error", "PYTHONPATH": str(ROOT)}
    return os.environ | strictness | {"TMPDIR": str(tmp_path)}


def demo(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=SECONDS_MAX
    )


def test_every_hash_matches_and_json_is_all_there_is_on_stdout(
    strict: dict[str, str], tmp_path: Path
) -> None:
    done = demo([*SHORT, "--json"], strict)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["verified"] is True
    assert (told["messages"], told["stream_bytes"]) == (3_000, 3_000_000)
    assert told["round_trips"] == 50
    for transport in ("quic", "tcp"):
        assert told[transport].keys() == FIGURES | {"verified"}
        assert all(told[transport][figure] > 0 for figure in FIGURES)
    assert {key for key in told if key.endswith("_vs_tcp")} == RATIOS
    assert done.stderr.count("same hash at both ends") == 4
    assert "Warning" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_table_says_what_goes_on_and_how_it_compares(
    strict: dict[str, str],
) -> None:
    done = demo(SHORT, strict)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3,000 messages over QUIC ... " in done.stdout
    assert re.search(r"stream, MB/s +[\d,]+ +[\d,]+ +\d+\.\d\d  more", done.stdout)
    assert "Every hash matched at both ends." in done.stdout


@pytest.mark.parametrize("what", ["messages", "stream"])
def test_one_changed_byte_fails_the_demo(strict: dict[str, str], what: str) -> None:
    done = demo([*SHORT, "--json", "--corrupt", what], strict)
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert told["verified"] is told["quic"]["verified"] is told["tcp"]["verified"]
    assert told["verified"] is False
    assert done.stderr.count("THE HASHES DIFFER") == 2
    assert done.stderr.endswith("demo: what arrived is not what was sent\n")


@pytest.mark.parametrize("number", ["0", "-1", "1e6", "", "9999999999999"])
def test_a_senseless_number_is_refused_with_its_range(number: str) -> None:
    done = demo([*DEMO, f"--messages={number}"], dict(os.environ))
    assert done.returncode == 2
    assert "is no integer from 1 to 1,000,000,000" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_both_processes_and_leaves_no_file(
    strict: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    with subprocess.Popen(
        ENDLESS, env=strict, stderr=subprocess.PIPE, text=True
    ) as running:
        second = second_process(running)
        os.kill(running.pid, number)
        _, said = running.communicate(timeout=SECONDS_MAX)
    assert said.endswith("demo: interrupted\n")
    assert running.returncode == 130
    assert not second.is_running()
    assert list(tmp_path.iterdir()) == []


def test_the_second_process_does_not_outlive_a_killed_demo(
    strict: dict[str, str],
) -> None:
    with subprocess.Popen(
        ENDLESS, env=strict, stderr=subprocess.PIPE, text=True
    ) as running:
        second = second_process(running)
        running.kill()
        second.wait(timeout=SECONDS_MAX)
    assert not second.is_running()


def test_an_extension_that_is_not_built_is_one_line(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "barrel_p2p",
        tmp_path / "barrel_p2p",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    done = subprocess.run(DEMO, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"demo: the extension barrel_p2p\.\w+\._\w+ is not built: run `make setup`\n",
        done.stderr,
    )


def second_process(running: subprocess.Popen[str]) -> psutil.Process:
    """The process the demo has started, once the two are connected."""
    assert running.stderr is not None
    for line in running.stderr:
        if started := re.match(r"process (\d+) listens .* ms, certificate", line):
            return psutil.Process(int(started.group(1)))
    pytest.fail("the demo ended before its processes were connected")
