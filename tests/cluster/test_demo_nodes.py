"""The demo of a pair: what it says is what happened, and it ends well or says so."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.started_node import SECONDS_MAX, Shell

STEPS = ["start", "join", "pins", "find", "calls", "kill"]
ENDLESS = ("demo", "--pair", "--calls", "10000000")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path)
    (tmp_path / "application.py").unlink()
    return shell


def test_every_step_passes_and_names_what_it_saw(shell: Shell, tmp_path: Path) -> None:
    # Settings of the user's own nodes must not reach those of the demo.
    words = ("demo", "--pair", "--json", "--calls", "500")
    done = shell.run(*words, BARREL_P2P_AUTH_TRUST_MODE="strict")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["passed"] is True
    assert [step["step"] for step in told["steps"]] == STEPS
    text = {step["step"]: step["text"] for step in told["steps"]}
    first, second = (
        re.findall(r"process (\d+) runs", text[step])[0] for step in ("start", "join")
    )
    assert first != second
    assert not psutil.pid_exists(int(first))
    join = text["start"].splitlines()[1]
    shown = re.findall(r"#(SHA256:\S{43})$", join)
    assert shown == re.findall(r"a@127.0.0.1 to (\S+)", text["pins"])
    pid = re.findall(r"Pid\(.*?\)", text["find"])
    assert "500 calls by pid" in text["calls"]
    assert f"pid={pid[0]}, reason='noconnection')" in text["kill"]
    assert f"SIGKILL to process {first};" in text["kill"]
    assert list(tmp_path.iterdir()) == []


def test_people_get_a_line_for_each_step(shell: Shell) -> None:
    done = shell.run("demo", "--pair", "--calls", "50")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^(\w+) +ok ", done.stdout, re.M) == STEPS
    assert re.search(r"^ +Down\(ref=Ref\(.*'noconnection'\)$", done.stdout, re.M)
    assert "Every step passed." in done.stdout


@contextmanager
def under_way(shell: Shell) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """The demo while it calls, and its other process."""
    with shell.begin(*ENDLESS) as running:
        try:
            assert running.stdout is not None
            for line in running.stdout:
                if line.startswith("find "):
                    break
            (other,) = psutil.Process(running.pid).children()
            yield running, other
        finally:
            running.kill()


def test_a_step_that_fails_ends_the_demo_and_is_named(
    shell: Shell, tmp_path: Path
) -> None:
    with under_way(shell) as (running, other):
        other.kill()
        said, _ = running.communicate(timeout=SECONDS_MAX)
    assert running.returncode == 1
    assert re.search(r"^calls +FAILED ", said, re.M)
    assert "kill" not in said
    assert "passed" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_both_processes_and_leaves_no_file(
    shell: Shell, tmp_path: Path, number: signal.Signals
) -> None:
    with under_way(shell) as (running, other):
        running.send_signal(number)
        _, said = running.communicate(timeout=SECONDS_MAX)
    assert (running.returncode, said) == (130, "\ndemo: interrupted\n")
    assert not other.is_running()
    assert list(tmp_path.iterdir()) == []


def test_the_first_process_does_not_outlive_a_killed_demo(shell: Shell) -> None:
    with under_way(shell) as (running, other):
        running.kill()
        other.wait(timeout=SECONDS_MAX)
    assert not other.is_running()


def test_the_measurement_of_transports_is_still_there(shell: Shell) -> None:
    words = ("--messages", "100", "--megabytes", "1", "--round-trips", "5", "--json")
    done = shell.run("demo", "--transport", *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verified"] is True


@pytest.mark.parametrize(
    "words",
    [("--pair", "--calls", "0"), ("--calls", "x"), ("--calls", "5"), ("--mesages",)],
)
def test_a_senseless_option_is_refused(shell: Shell, words: tuple[str, ...]) -> None:
    done = shell.here("demo", *words)
    assert (done.returncode, done.stdout) == (2, "")
