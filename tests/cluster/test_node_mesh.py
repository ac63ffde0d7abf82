"""Nodes as real processes: they know each other by key, and all of them can talk."""

from __future__ import annotations

import stat
from itertools import permutations
from pathlib import Path

from tests.cluster.node_process import NodeProcess, node_process, node_processes

NAMES = ["a@127.0.0.1", "b@127.0.0.1", "c@127.0.0.1"]


async def calls_on_all_pairs(nodes: list[NodeProcess]) -> None:
    for one, other in permutations(nodes, 2):
        said = f"{one.name} to {other.name}"
        assert await one.ask("call", to=other.name, content=said) == said


async def test_three_nodes_with_keys_form_a_mesh(tmp_path: Path) -> None:
    """AUC-01, AUC-02, AUC-03, AUC-04, AUC-06, AUC-07, AUC-10."""
    async with node_processes(tmp_path, *NAMES) as nodes:
        for one in nodes:
            others = [name for name in NAMES if name != one.name]
            await one.until("nodes", others)
        await calls_on_all_pairs(nodes)
        keys = {one.name: await one.ask("keys") for one in nodes}
        for one in nodes:
            told = keys[one.name]
            assert told["auth_enabled"] is True
            assert told["trust_mode"] == "tofu"
            assert told["public_key"] == one.public_key.hex()
            assert len(one.public_key) == 32
            assert told["trusted"] == {
                other.name: other.public_key.hex()
                for other in nodes
                if other is not one
            }
            directory = tmp_path / one.name / "keys"
            assert (directory / "node.pub").read_bytes() == one.public_key
            assert stat.S_IMODE((directory / "node.key").stat().st_mode) == 0o600
            assert len(list((directory / "trusted").glob("*.pub"))) == 2
        assert len({told["public_key"] for told in keys.values()}) == 3


async def test_a_node_that_left_joins_again_with_the_same_key(tmp_path: Path) -> None:
    """AUC-12: by a disconnect, and by a new life of its process."""
    async with node_processes(tmp_path, *NAMES[:2]) as (a, b):
        async with node_process(tmp_path, NAMES[2]) as c:
            for other in (a, b):
                await c.ask("connect", ref=other.ref)
            await c.ask("disconnect", name=a.name)
            await a.until("nodes", [b.name])
            assert await c.ask("connect", ref=a.ref) == a.name
            await calls_on_all_pairs([a, b, c])
            await c.stop()
            await a.until("nodes", [b.name])
            await b.until("nodes", [a.name])
            last = [e for e in await a.ask("events") if e[1] == c.name][-1]
            assert last[:3] == ["NodeDown", c.name, "shutdown"]
        async with node_process(tmp_path, NAMES[2]) as again:
            assert again.public_key == c.public_key
            assert again.creation > c.creation
            for other in (a, b):
                await again.ask("connect", ref=other.ref)
            await calls_on_all_pairs([a, b, again])


async def test_nodes_that_read_one_cookie_file_meet_and_others_do_not(
    tmp_path: Path,
) -> None:
    """AUC-15."""
    files = []
    for name in ("shared", "other"):
        files.append(tmp_path / name)
        files[-1].write_text(f"the {name} cookie of a cluster")
        files[-1].chmod(0o600)
    shared, other = map(str, files)
    async with (
        node_processes(tmp_path, *NAMES[:2], dist_cookie_file=shared) as (a, b),
        node_process(tmp_path, NAMES[2], dist_cookie_file=other) as c,
    ):
        await calls_on_all_pairs([a, b])
        for one, another in ((c, a), (b, c)):
            refused = await one.ask("connect", ref=another.ref)
            assert refused["error"] == "CookieMismatch"
        assert await a.ask("nodes") == [b.name]
        assert await c.ask("nodes") == []
        for one in (a, b, c):
            pins = (await one.ask("keys"))["trusted"]
            assert len(pins) == (0 if one is c else 1)


async def test_five_nodes_talk_on_all_pairs_and_round_a_ring(tmp_path: Path) -> None:
    """QUI-23."""
    names = [*NAMES, "d@127.0.0.1", "e@127.0.0.1"]
    async with node_processes(tmp_path, *names) as nodes:
        for one in nodes:
            await one.until("nodes", [name for name in names if name != one.name])
        await calls_on_all_pairs(nodes)
        token = 0
        for one, following in zip(nodes, nodes[1:] + nodes[:1], strict=True):
            token = await one.ask("call", to=following.name, content=token + 1)
        assert token == len(nodes)
        for one in nodes:
            kinds = await one.ask("kinds")
            assert sorted(kinds) == [["NodeUp", n] for n in names if n != one.name]
