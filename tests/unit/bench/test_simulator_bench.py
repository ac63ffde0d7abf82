"""The benchmark of the simulator measures every part of its run."""

from __future__ import annotations

import json

import pytest

from bench import simulator


def test_every_part_has_a_figure() -> None:
    figures = simulator.measure(nodes=20)
    rates = [name for name in figures if name.endswith("events_per_s")]
    assert len(rates) == 5
    assert all(value > 0 for value in figures.values())


def test_it_prints_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulator.main(["--nodes", "10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["events"] > 0
