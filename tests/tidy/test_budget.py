"""The budget plugin fails a run for the marker that is over, and for no other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.budget import Budget, budgets_s, markers_of

BUDGET_TOML = Path(__file__).parents[1] / "budget.toml"
NONE: frozenset[str] = frozenset()


def test_time_counts_towards_the_directory_and_the_own_markers() -> None:
    nodeid = "tests/unit/core/test_hlc.py::test_x"
    assert markers_of(nodeid, frozenset({"serial", "core"})) == {"unit", "serial"}
    assert markers_of("bench/micro/test_hlc.py::test_x", NONE) == set()


def test_half_over_is_tolerated_and_more_is_named() -> None:
    budget = Budget({"unit": 10.0, "tidy": 10.0})
    budget.add("tests/unit/test_a.py::test_x", NONE, 15.0)
    assert budget.complaints() == []
    budget.add("tests/unit/test_a.py::test_y", NONE, 0.1)
    budget.add("tests/tidy/test_b.py::test_z", NONE, 15.0)
    assert budget.complaints() == [
        "marker unit took 15.1 s, over 1.5 x its budget of 10 s (tests/budget.toml)"
    ]


def test_a_marker_without_a_budget_is_named() -> None:
    budget = Budget({})
    budget.add("tests/unit/test_a.py::test_x", NONE, 0.1)
    assert budget.complaints() == ["marker unit has no line in tests/budget.toml"]


@pytest.mark.parametrize("deep", [False, True])
def test_every_test_directory_has_a_budget(deep: bool) -> None:
    budgets = budgets_s(BUDGET_TOML, deep=deep)
    found = {p.relative_to(BUDGET_TOML.parent).parts[0] for p in _tests()}
    assert found <= budgets.keys()


@pytest.mark.every_loop
async def test_async_tests_run_on_the_loop_they_ask_for(
    request: pytest.FixtureRequest,
) -> None:
    module = type(asyncio.get_running_loop()).__module__
    assert module.split(".")[0] == request.node.callspec.id


def _tests() -> list[Path]:
    return list(BUDGET_TOML.parent.glob("*/**/test_*.py"))
