"""The demo of a cluster: what it says is what happened, and nothing of it stays."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.started_node import SECONDS_MAX, Shell

STEPS = ["start", "join", "converge", "pins", "service", "call", "kill", "heal"]
STEPS += ["again", "elect", "arm", "succeed", "remind", "keep", "recover", "stop"]
DEMO_SECONDS_MAX = 150
"""Ten processes start in it, and a machine may have little time for them."""

pytestmark = pytest.mark.timeout(DEMO_SECONDS_MAX + 10)

NODES = {"n1", "n2", "n3", "n4", "n5"}


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """So long that the nodes' sockets have no room in it, and lie elsewhere."""
    directory = tmp_path / ("long" * 20)
    directory.mkdir()
    return directory


@pytest.fixture
def shell(tmp_path: Path, temporary: Path) -> Iterator[Shell]:
    with tempfile.TemporaryDirectory(prefix="bp-", dir="/tmp") as sockets:
        shell = Shell(tmp_path)
        shell.env |= {"TMPDIR": str(temporary), "XDG_RUNTIME_DIR": sockets}
        yield shell


def left(shell: Shell) -> list[Path]:
    """What lies where the demo puts its files and sockets."""
    places = (Path(shell.env[name]) for name in ("TMPDIR", "XDG_RUNTIME_DIR"))
    return [path for place in places for path in place.iterdir()]


def lines(shell: Shell) -> list[dict[str, Any]]:
    # Settings of the user's own nodes must not reach those of the demo.
    done = shell.run(
        "demo",
        "--json",
        seconds_max=DEMO_SECONDS_MAX,
        BARREL_P2P_AUTH_TRUST_MODE="strict",
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_step_passes_and_the_tables_bear_it_out(shell: Shell) -> None:
    told = lines(shell)
    steps = {line["step"]: line for line in told if line["event"] == "step"}
    assert list(steps) == STEPS
    assert all(step["ok"] and step["ms"] >= 0 for step in steps.values())
    assert told[-1]["event"] == "end"
    assert told[-1]["passed"] is True
    converged, served, killed, healed = (
        {row["node"]: row for row in line["nodes"]}
        for line in told
        if line["event"] == "table"
    )
    assert set(converged) == NODES
    for key in ("process", "port", "fingerprint"):
        assert len({row[key] for row in converged.values()}) == 5, key
    for name, row in converged.items():
        assert row["members"] == 5
        assert 1 <= len(row["active"]) <= 3
        assert not set(row["active"]) & {name, *row["passive"]}
    owner, asker = steps["service"]["node"], steps["call"]["asker"]
    assert owner not in served[asker]["active"]
    assert {str(row["services"]) for row in served.values()} == {
        str([{"name": "greeter", "node": owner}])
    }
    call = steps["call"]
    assert (call["was_peer"], call["had_channel"]) == (False, False)
    assert 0 < call["opened_ms"] <= call["call_ms"] + 1
    assert call["answer"] == f"hello {asker}, this is {owner}@127.0.0.1"
    assert killed[owner]["state"] == "killed"
    assert steps["kill"]["noticed_ms"] <= steps["kill"]["dead_ms"]
    for name in NODES - {owner}:
        assert killed[name]["services"] == []
        assert set(healed[name]["active"]) == NODES - {owner, name}
    for joined in steps["join"]["joins"]:
        shown = converged[joined["node"]]["fingerprint"]
        assert joined["pinned"] == shown
    assert steps["elect"]["candidates"] == 4
    assert steps["arm"]["node"] == steps["elect"]["leader"]
    assert steps["succeed"]["leader"] != steps["elect"]["leader"]
    assert steps["succeed"]["fence"] > steps["elect"]["fence"]
    assert steps["remind"]["node"] not in (owner, steps["elect"]["leader"])
    assert (steps["keep"]["entries"], steps["recover"]["from_disk"]) == (100, 3)
    for row in converged.values():
        assert not psutil.pid_exists(row["process"])
    assert left(shell) == []


def test_people_get_a_line_for_each_step_and_tables(shell: Shell) -> None:
    done = shell.run("demo", seconds_max=DEMO_SECONDS_MAX)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^(\w+) +ok ", done.stdout, re.M) == STEPS
    assert re.search(r"opened a channel on demand in \d+\.\d ms", done.stdout)
    assert len(re.findall(r"^  node +port +key ", done.stdout, re.M)) == 4
    assert "Every step passed." in done.stdout
    assert "\x1b" not in done.stdout


@contextmanager
def under_way(
    shell: Shell,
) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """The demo once its nodes run, and their processes."""
    with shell.begin("demo") as running:
        try:
            assert running.stdout is not None
            for line in running.stdout:
                if line.startswith("start "):
                    break
            nodes = psutil.Process(running.pid).children()
            assert len(nodes) == 5
            yield running, nodes
        finally:
            running.kill()


def test_a_node_that_is_lost_too_early_fails_the_demo(shell: Shell) -> None:
    with under_way(shell) as (running, nodes):
        nodes[0].kill()
        said, _ = running.communicate(timeout=DEMO_SECONDS_MAX)
    assert running.returncode == 1
    assert re.search(r"^\w+ +FAILED ", said, re.M)
    assert "The demo failed after " in said
    assert "passed" not in said
    assert not any(node.is_running() for node in nodes)
    assert left(shell) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_processes_and_leaves_no_file(
    shell: Shell, number: signal.Signals
) -> None:
    with under_way(shell) as (running, nodes):
        running.send_signal(number)
        said, why = running.communicate(timeout=DEMO_SECONDS_MAX)
    assert (running.returncode, why) == (130, "\ndemo: interrupted\n"), said
    assert not any(node.is_running() for node in nodes)
    assert left(shell) == []


def test_no_node_outlives_a_killed_demo(shell: Shell) -> None:
    with under_way(shell) as (running, nodes):
        running.kill()
        gone, left = psutil.wait_procs(nodes, timeout=SECONDS_MAX)
    assert (len(gone), left) == (5, [])
