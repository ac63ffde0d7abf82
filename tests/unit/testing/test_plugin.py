"""pytest finds the plugin by its entry point, and tests of users use its fixtures."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.tree import ROOT

SECONDS_MAX = 60

TESTS = """
import pytest
from barrel_p2p import NotStarted

kept = []

{mark}
async def test_a_cluster_forms(cluster, eventually):
    nodes = await cluster(2, active_size=2)
    kept.extend(nodes)
    pid = await nodes[0].start_service_holder("s")
    assert await eventually(lambda: nodes[1].lookup("s"))

def test_its_nodes_were_stopped():
    for node in kept:
        with pytest.raises(NotStarted):
            node.members()
    assert len(kept) == 2

{mark}
async def test_two_clusters_and_a_cut(cluster, partition):
    await cluster(1)
    async with cluster(2, join=False) as (a, b):
        with partition(a, b):
            pass
        assert await a.connect(b) == b.name

{mark}
async def test_a_failing_test_leaves_no_node(cluster):
    kept[:] = await cluster(2)
    raise ZeroDivisionError

def test_its_nodes_were_stopped_too():
    for node in kept:
        with pytest.raises(NotStarted):
            node.members()

def test_the_clock(fake_clock):
    fake_clock.advance(1_000)
    assert fake_clock.now_ms() == 1_000
"""

BY_HAND = """
import asyncio

def test_with_a_block(cluster):
    async def body():
        async with cluster(2) as nodes:
            assert len(nodes) == 2
    asyncio.run(body())

def test_without_a_block(cluster):
    async def body():
        await cluster(1)
    asyncio.run(body())
"""

LAZY = """
import sys

def test_nothing_was_imported():
    assert "barrel_p2p.testing.plugin" in sys.modules
    heavy = ("asyncio", "cffi", "barrel_p2p.node", "barrel_p2p.testing.clusters")
    assert [name for name in heavy if name in sys.modules] == []
"""


def run_pytest(
    folder: Path, text: str, *options: str, env: dict[str, str] | None = None
) -> tuple[dict[str, int], str]:
    """A run of its own with the plugin; how many tests ended how, and what it said."""
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    alone = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *options, "--rootdir", str(folder), str(folder)],
        cwd=folder,
        env=os.environ | alone | (env or {}),
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    words = done.stdout.splitlines()[-1].strip("= ").split(" in ")[0].split(", ")
    counts = {w.split()[1]: int(w.split()[0]) for w in words if w[0].isdigit()}
    return counts, done.stdout + done.stderr


PLUGIN = ("-p", "barrel_p2p.testing.plugin")
ASYNCIO = ("-p", "pytest_asyncio.plugin")
SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")


@pytest.mark.parametrize(
    ("mode", "mark"),
    [
        ("auto", ""),
        ("strict", "@pytest.mark.asyncio(loop_scope='module')"),
    ],
)
def test_tests_of_users_have_clusters(mode: str, mark: str, tmp_path: Path) -> None:
    text = TESTS.format(mark=mark)
    counts, said = run_pytest(
        tmp_path, text, *PLUGIN, *ASYNCIO, *SCOPE, "-o", f"asyncio_mode={mode}"
    )
    assert counts == {"failed": 1, "passed": 5}, said
    assert "ZeroDivisionError" in said


def test_the_example_of_the_page_passes(tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/test-your-cluster.md").read_text()
    example = page.partition("`test_registry.py`:\n\n```python\n")[2]
    counts, said = run_pytest(
        tmp_path,
        example.partition("```\n")[0],
        *(*PLUGIN, *ASYNCIO, *SCOPE, "-o", "asyncio_mode=auto"),
    )
    assert counts == {"passed": 2}, said


def test_without_another_plugin_nodes_are_stopped_by_a_block_or_missed(
    tmp_path: Path,
) -> None:
    counts, said = run_pytest(tmp_path, BY_HAND, *PLUGIN, "-W", "ignore")
    assert counts == {"passed": 2, "error": 1}, said
    assert "stop them in the test, with 'async with cluster(...) as nodes'" in said


def test_pytest_loads_it_by_its_entry_point_and_it_imports_no_node(
    tmp_path: Path,
) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (entry,) = declared["project"]["entry-points"]["pytest11"].items()
    installed = tmp_path / "site" / "asked_for-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Name: asked-for\nVersion: 1\n")
    text = f"[pytest11]\n{entry[0]} = {entry[1]}\n"
    (installed / "entry_points.txt").write_text(text)
    tests = tmp_path / "tests"
    tests.mkdir()
    counts, said = run_pytest(
        tests,
        LAZY,
        *("-p", entry[0]),
        env={"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}"},
    )
    assert counts == {"passed": 1}, said
