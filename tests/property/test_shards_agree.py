"""Many nodes over a bad network: at rest each partition has one owner, and soon."""

from __future__ import annotations

import pytest

from tests.member_net import names
from tests.shard_net import HEARTBEAT_MS, OVERLAP_MS_MAX, ShardNet, living


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_nodes_partitions_have_one_owner_each_again(seed: int) -> None:
    """C8: nobody owns with another for longer than a lease and two heartbeats."""
    net = ShardNet(8, seed)
    net.run(12_000)
    net.need_one_owner_each(names(8))
    net.kill("n03@h")
    net.run(12_000)
    net.need_one_owner_each(living(net))
    assert net.overlap_ms() <= OVERLAP_MS_MAX


@pytest.mark.parametrize("seed", range(6))
def test_a_node_that_stood_still_owns_with_others_for_a_moment_at_most(
    seed: int,
) -> None:
    """C8, and 20 of the notes: released before anything else, then asked again."""
    net = ShardNet(8, seed)
    net.run(12_000)
    owned = net.shards["n05@h"].owned()
    assert owned
    net.stop("n05@h", 9_000 + 500 * seed)
    net.run(40_000)
    assert net.shards["n05@h"].stats.pauses == 1
    net.need_one_owner_each(names(8))
    assert net.shards["n05@h"].owned() == owned
    assert net.overlap_ms() <= 2 * HEARTBEAT_MS


@pytest.mark.parametrize("seed", range(6))
def test_clocks_that_are_wrong_within_the_skew_change_no_owner(seed: int) -> None:
    """C8, C9: members with clocks up to ``member_skew_ms`` wrong stay members."""
    net = ShardNet(6, seed)
    for number, node in enumerate(net.nodes.values()):
        node.wall_offset_ms = (-4_000, 4_000, 0)[number % 3] // 2
    net.run(15_000)
    net.need_one_owner_each(names(6))
    acquired = {name: net.shards[name].stats.acquired for name in net.nodes}
    net.run(60_000)
    assert acquired == {name: net.shards[name].stats.acquired for name in net.nodes}


@pytest.mark.parametrize("seed", range(6))
def test_a_node_that_comes_takes_its_own_from_the_others_soon(seed: int) -> None:
    """C8."""
    net = ShardNet(8, seed)
    net.run(12_000)
    before = {name: net.shards[name].owned() for name in names(8)}
    net.start("n99@h", 1)
    for other in ("n00@h", "n04@h"):
        net.link("n99@h", other)
    net.run(12_000)
    net.need_one_owner_each(living(net))
    assert net.overlap_ms() <= OVERLAP_MS_MAX
    for name, owned in before.items():
        kept = net.shards[name].owned()
        taken = net.shards["n99@h"].owned()
        assert sorted(set(owned) - set(taken)) == kept
