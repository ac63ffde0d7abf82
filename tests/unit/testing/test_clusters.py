"""A cluster for tests is real, agreed when it is handed over, and gone afterwards."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from barrel_p2p import Conflict, InvalidValue, Node, NotStarted
from barrel_p2p.testing import TEST_SETTINGS, Cluster, cluster


async def test_the_nodes_agree_when_the_block_begins_and_are_stopped_at_its_end(
    tmp_path: Path,
) -> None:
    async with cluster(5, active_size=2, directory=tmp_path) as nodes:
        names = [f"n{number}@127.0.0.1" for number in range(5)]
        assert [node.name for node in nodes] == names
        by_name = dict(zip(names, nodes, strict=True))
        for node in nodes:
            assert node.members() == names
            assert 1 <= len(node.active_view()) <= 2
            for peer in node.active_view():
                assert node.name in by_name[peer].active_view()
            assert node.address.host == "127.0.0.1"
            assert node.config.idle_timeout_ms == TEST_SETTINGS["idle_timeout_ms"]
        assert len({node.address.port for node in nodes}) == 5
    for node in nodes:
        with pytest.raises(NotStarted):
            node.members()


async def test_nodes_that_do_not_join_know_nobody(tmp_path: Path) -> None:
    async with cluster(2, join=False, directory=tmp_path) as nodes:
        assert [node.members() for node in nodes] == [[n.name] for n in nodes]
        assert [node.nodes() for node in nodes] == [[], []]


async def test_two_clusters_cannot_mix(tmp_path: Path) -> None:
    one, other = cluster(1, directory=tmp_path / "1"), cluster(1, directory=tmp_path)
    async with one as (a,), other as (b,):
        with pytest.raises(Conflict, match="itself"):
            await a.connect(b)  # They have one name.
        assert a.config.dist_cookie != b.config.dist_cookie


async def test_a_node_that_the_test_stops_stays_stopped(tmp_path: Path) -> None:
    async with cluster(2, directory=tmp_path) as (a, b):
        await b.stop()
        assert a.members()
    with pytest.raises(NotStarted):
        a.members()


def test_without_a_directory_nothing_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def directories() -> list[str]:
        async with cluster(1):
            return sorted(entry.name for entry in os.scandir(tmp_path))

    (made,) = asyncio.run(directories())
    assert made.startswith("barrel-p2p-cluster-")
    assert list(tmp_path.iterdir()) == []


async def test_a_cluster_that_does_not_form_says_who_saw_whom(tmp_path: Path) -> None:
    made = cluster(2, directory=tmp_path, timeout=0.0)
    seen = r"2 nodes were not one cluster .* n0@127\.0\.0\.1 has the members .*; n1@"
    with pytest.raises(AssertionError, match=seen):
        await made
    for node in made.nodes:
        with pytest.raises(NotStarted):
            node.members()


@pytest.mark.parametrize("count", [0, -1, 101])
def test_a_count_out_of_range_is_refused(count: int) -> None:
    with pytest.raises(InvalidValue, match="NODES_MAX=100"):
        cluster(count)


async def test_a_cluster_is_started_once(tmp_path: Path) -> None:
    made: Cluster = cluster(1, directory=tmp_path)
    (node,) = await made
    assert isinstance(node, Node)
    with pytest.raises(Conflict):
        await made
    await asyncio.gather(made.stop(), made.stop())


def test_the_package_is_imported_without_pytest_and_without_nodes() -> None:
    code = (
        "import sys, barrel_p2p.testing as t; t.FakeClock;"
        "print([n for n in ('pytest', 'asyncio', 'barrel_p2p.node.node', 'cffi')"
        " if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "[]\n", done.stderr
