"""Stores survive kills, failing flushes and flipped bits; a store that lies does not.

The whole loops are goals: ``make state-faults``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from barrel_p2p.storage.database import Database
from barrel_p2p.storage.rows import encode_row
from barrel_p2p.wire.terms import key_bytes
from tests.faults import crash_points, flips, power
from tests.faults.goals import GOALS, Outcome
from tests.faults.run import goal, said
from tests.faults.writing import NODE, STORE, Acknowledged, entry_of, wrong_in
from tests.tools import require_root, require_tool
from tests.tree import ROOT

DRAWN = 60


def ran(*words: str) -> list[dict[str, Any]]:
    """The lines that a rig prints. Rigs fork, which this process must not."""
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_p1_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    (done,) = ran("tests.faults.kills", str(tmp_path), "20", "3")
    assert done["wrong"] == []
    assert done["acknowledged"] > 20


def test_p4_a_failed_flush_ends_acknowledgements(tmp_path: Path) -> None:
    require_tool("gcc")
    outcome = crash_points.p4(False, tmp_path)
    assert outcome.passed, outcome.note


def test_p5_full_and_read_only_disks_are_survived() -> None:
    require_root("mounting file systems")
    (line,) = ran("tests.faults.run", "P5")
    assert (line["goal"], line["pass"]) == ("P5", True), line


@pytest.mark.parametrize("logged", [False, True])
def test_p6_flipped_bits_are_told(tmp_path: Path, logged: bool) -> None:
    shelf, random = flips.Shelf(tmp_path, logged=logged), Random(5)
    whole = shelf.log_bytes or shelf.file_bytes
    for bit in random.sample(range(len(whole) * 8), DRAWN):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        file, log = (shelf.file_bytes, bytes(data)) if logged else (bytes(data), b"")
        assert shelf.wrong_with(file, log, lost_max=int(logged)) is None, bit


def test_the_check_of_flips_sees_a_store_that_lost_a_write(tmp_path: Path) -> None:
    shelf = flips.Shelf(tmp_path, logged=True)
    assert shelf.wrong_with(shelf.file_bytes, b"", lost_max=1) is not None


@pytest.mark.deep
def test_p2_power_cuts_lose_nothing_and_a_store_without_flushes_does(
    tmp_path: Path,
) -> None:
    require_root("mounting file systems")
    outcome = power.p2(False, tmp_path)
    assert outcome.passed, outcome.note


def test_every_goal_is_where_the_table_says() -> None:
    assert all(callable(goal(name)) for name in GOALS)


def test_the_check_of_kills_sees_a_lost_and_an_invented_write(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    database, _ = Database.open(path, store=STORE, node=NODE)
    database.commit([], [encode_row(key_bytes(5), entry_of(5, 7))])
    database.close()
    assert wrong_in(path, Acknowledged(last={5: 7})) is None
    assert "was acknowledged" in str(wrong_in(path, Acknowledged(last={5: 8})))
    assert "was acknowledged" in str(wrong_in(path, Acknowledged(last={6: 1})))
    database, _ = Database.open(path, store=STORE, node=NODE)
    database.commit([], [encode_row(key_bytes(6), entry_of(5, 8))])
    database.close()
    assert wrong_in(path, Acknowledged()) is not None


def test_an_unknown_goal_is_a_usage_error() -> None:
    command = [sys.executable, "-m", "tests.faults.run", "P0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no such goal: P0" in done.stderr


def test_a_line_says_what_was_reached() -> None:
    line = said("P1", Outcome(0, "0 lost", 3, True, seed=1), seconds=1.26)
    assert line == {
        "goal": "P1",
        "figure": 0,
        "target": "0 lost",
        "seed": 1,
        "n": 3,
        "pass": True,
        "seconds": 1.3,
    }
