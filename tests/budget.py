"""Seconds of test time per marker, and the plugin that holds a run to them.

``budget.toml`` is the promise; the sum over a marker's tests may exceed it by half
before the run fails, because machines differ. A marker without a line there fails
too: a kind of test without a budget is how a fast suite becomes a slow one.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

__all__ = ["Budget", "budgets_s", "markers_of"]

OVERRUN_MAX = 1.5
EXTRA = frozenset({"deep", "erlang", "serial"})


def budgets_s(path: Path, *, deep: bool) -> dict[str, float]:
    """Read the budget in seconds of every marker, for a fast or a deep run."""
    tables = tomllib.loads(path.read_text())
    return {str(k): float(v) for k, v in tables["deep" if deep else "fast"].items()}


def markers_of(nodeid: str, keywords: frozenset[str]) -> set[str]:
    """The markers a test's time counts towards: its directory's and its own."""
    parts = nodeid.split("::")[0].split("/")
    directory = {parts[1]} if len(parts) > 2 and parts[0] == "tests" else set()
    return directory | (keywords & EXTRA)


class Budget:
    """Add up the time of each marker; fail the run when one is far over."""

    def __init__(self, budgets: dict[str, float]) -> None:
        self._budgets = budgets
        self._used_s: defaultdict[str, float] = defaultdict(float)

    def complaints(self) -> list[str]:
        """One line for each marker that is over, or that has no budget."""
        lines = []
        for marker, used_s in sorted(self._used_s.items()):
            budget_s = self._budgets.get(marker)
            if budget_s is None:
                lines.append(f"marker {marker} has no line in tests/budget.toml")
            elif used_s > budget_s * OVERRUN_MAX:
                lines.append(
                    f"marker {marker} took {used_s:.1f} s, over {OVERRUN_MAX} x its"
                    f" budget of {budget_s:g} s (tests/budget.toml)"
                )
        return lines

    def add(self, nodeid: str, keywords: frozenset[str], duration_s: float) -> None:
        """Count ``duration_s`` towards every marker of the test."""
        for marker in markers_of(nodeid, keywords):
            self._used_s[marker] += duration_s

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.add(report.nodeid, frozenset(report.keywords), report.duration)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.OK and self.complaints():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        used = ", ".join(f"{m} {s:.1f} s" for m, s in sorted(self._used_s.items()))
        if used:
            terminalreporter.write_line(f"test time: {used}")
        for line in self.complaints():
            terminalreporter.write_line(f"over budget: {line}", red=True)
