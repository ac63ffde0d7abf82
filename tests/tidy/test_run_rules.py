"""A run fails for what it should fail for: a missing tool in CI, a budget, a part."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests import tools
from tests.tree import ROOT

RUN_WITH_BUDGET = """
import sys
import pytest
from tests.budget import Budget
sys.exit(pytest.main(["-q", "tests"], plugins=[Budget({"unit": float(sys.argv[1])})]))
"""

SHOW_TIMEOUTS = """
import sys
import pytest
class Show:
    def pytest_collection_finish(self, session):
        for item in session.items:
            print("timeout", getattr(item.get_closest_marker("timeout"), "args", None))
sys.exit(pytest.main(["-q", "--collect-only", sys.argv[1]], plugins=[Show()]))
"""


@pytest.fixture
def run_tests(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    path = ROOT / ".ci" / "run_tests.py"
    spec = importlib.util.spec_from_file_location("run_tests", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_missing_tool_skips_here_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tools, "CI", False)
    with pytest.raises(pytest.skip.Exception, match="needs the program no-such-tool"):
        tools.require_tool("no-such-tool")
    monkeypatch.setattr(tools, "CI", True)
    with pytest.raises(pytest.fail.Exception, match="needs the program no-such-tool"):
        tools.require_tool("no-such-tool")
    assert Path(tools.require_tool("sh")).name == "sh"


def test_long_loops_run_whole_in_a_deep_run_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tools, "DEEP", False)
    assert tools.rounds(20, whole=200) == 20
    monkeypatch.setattr(tools, "DEEP", True)
    assert tools.rounds(20, whole=200) == 200


@pytest.mark.parametrize(("deep", "seconds"), [("0", "None"), ("1", "(900,)")])
def test_a_deep_run_gives_every_test_the_time_for_whole_loops(
    deep: str, seconds: str
) -> None:
    command = [sys.executable, "-c", SHOW_TIMEOUTS, "tests/tidy/test_layers.py"]
    env = {"PYTHONPATH": str(ROOT), "BARREL_P2P_DEEP": deep}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert f"timeout {seconds}" in done.stdout.splitlines(), done.stdout


@pytest.mark.parametrize(("budget_s", "code"), [("100", 0), ("0.000001", 1)])
def test_a_run_over_budget_fails_though_its_tests_pass(
    tmp_path: Path, budget_s: str, code: int
) -> None:
    file = tmp_path / "tests" / "unit" / "test_x.py"
    file.parent.mkdir(parents=True)
    file.write_text("def test_x():\n    sum(range(10_000))\n")
    command = [sys.executable, "-c", RUN_WITH_BUDGET, budget_s]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert done.returncode == code, done.stdout.decode()
    assert (b"marker unit took" in done.stdout) == bool(code)
    assert b"1 passed" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("together", "alone", "verdict"),
    [(0, 0, 0), (0, 5, 0), (5, 0, 0), (5, 5, 5), (1, 0, 1), (0, 1, 1), (2, 5, 2)],
)
def test_a_failing_part_fails_the_run_and_an_empty_one_does_not(
    run_tests: ModuleType, tmp_path: Path, together: int, alone: int, verdict: int
) -> None:
    fake = tmp_path / "python"
    fake.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *"not serial"*) exit {together};; esac\n'
        f'case "$*" in *serial*) exit {alone};; esac\n'
        "exit 99\n"
    )
    fake.chmod(0o755)
    assert run_tests.run(fake, []) == verdict
