"""Many member machines over a bad network: at rest they agree, and tell it once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrel_p2p.core.members import MemberDead, MemberGone, MemberSuspected, MemberUp
from barrel_p2p.services.member_inputs import LeaseSettings
from tests.member_net import MemberNet, Node, clock_warnings, names
from tests.tools import rounds

SETTLED_MS = 30_000


def living(net: MemberNet) -> list[str]:
    return [name for name, node in net.nodes.items() if node.running]


def assert_told_in_order(node: Node, name: str) -> None:
    """Up, suspected at most once, dead, gone; a wrong verdict lets it start again."""
    state, creation = "unknown", 0
    for _, event in node.events:
        if getattr(event, "node", None) != name:
            continue
        match event:
            case MemberUp(_, life):
                assert state in ("unknown", "dead", "gone"), node.events
                assert life >= creation
                state, creation = "up", life
            case MemberSuspected(_, life, _):
                assert (state, creation) == ("up", life)
            case MemberDead(_, life, _):
                assert (state, creation) == ("up", life)
                state = "dead"
            case MemberGone(_, life):
                assert (state, creation) == ("dead", life)
                state = "gone"


def assert_agreed(net: MemberNet) -> None:
    alive = living(net)
    assert net.agreed(alive) == {tuple(sorted(alive))}
    for name in alive:
        for other in net.nodes:
            assert_told_in_order(net.nodes[name], other)


@pytest.mark.parametrize("seed", range(8))
def test_a_killed_node_is_dead_everywhere_within_its_budget(seed: int) -> None:
    """Next packet, a dial, and ``suspect_ms``: 2.8 s, and gossip."""
    net = MemberNet(12, seed)
    net.run(10_000)
    killed, at = "n05@h", net.now
    net.kill(killed)
    net.run(4_000)
    for name in living(net):
        [when] = net.nodes[name].when(MemberDead, killed)
        assert when - at <= 2_800 + 20 * 5
    assert_agreed(net)


@pytest.mark.parametrize("seed", range(8))
def test_a_silent_host_is_dead_everywhere_within_its_budget(seed: int) -> None:
    """The idle timeout, a dial that fails, ``suspect_ms``: 6.1 s, and gossip."""
    net = MemberNet(12, seed)
    net.run(10_000)
    at = net.now
    net.silence("n05@h")
    net.run(9_000)
    for name in living(net):
        [when] = net.nodes[name].when(MemberDead, "n05@h")
        assert when - at <= 6_100 + 20 * 5
    assert_agreed(net)


def test_leaving_is_known_as_soon_as_gossip_allows() -> None:
    net = MemberNet(12)
    net.run(10_000)
    at = net.now
    net.leave("n03@h")
    net.run(3_000)
    for name in living(net):
        if name != "n03@h":
            [when] = net.nodes[name].when(MemberDead, "n03@h")
            assert when - at <= 6 * 5
            [dead] = net.nodes[name].told(MemberDead, "n03@h")
            assert dead.reason == "left"


def test_idle_nodes_send_one_frame_a_peer_and_period_and_each_lease_once() -> None:
    net = MemberNet(20, degree=2)
    net.run(20_000)
    net.sent.clear()
    net.run(20_000)
    assert net.sent == {"Leases": 20 * 4 * 10}
    assert all(not node.machine.suspects() for node in net.nodes.values())


def test_a_chain_much_longer_than_a_lease_loses_nobody() -> None:
    """Renewals come late at the far end, but as often as at the near one."""
    net = MemberNet(16, degree=1)
    net.unlink("n15@h", "n00@h")
    net.run(200_000)
    for node in net.nodes.values():
        assert [e for _, e in node.events if isinstance(e, MemberDead)] == []
    assert_agreed(net)


def test_a_way_that_becomes_longer_costs_no_member() -> None:
    """The lease runs out far away, is asked for, and found; nobody is declared dead."""
    net = MemberNet(16, degree=1)
    net.run(30_000)
    net.unlink("n15@h", "n00@h")
    net.run(60_000)
    dead = [
        e for n in net.nodes.values() for _, e in n.events if isinstance(e, MemberDead)
    ]
    assert dead == []
    assert_agreed(net)


def test_a_node_four_seconds_slow_is_never_swept() -> None:
    """Stopped again and again for 4 s, shorter than the idle timeout (C9)."""
    net = MemberNet(8)
    net.run(10_000)
    for _ in range(10):
        net.stop("n02@h", 4_000)
        net.run(6_000)
    for node in net.nodes.values():
        assert [e for _, e in node.events if isinstance(e, MemberDead)] == []


def test_a_node_that_wakes_declares_nobody_dead_and_is_taken_back() -> None:
    """Longer than a lease: the others bury it, it buries nobody."""
    net = MemberNet(8)
    net.run(10_000)
    net.stop("n02@h", 20_000)
    net.run(19_000)
    assert net.nodes["n00@h"].machine.is_dead("n02@h")
    net.run(SETTLED_MS)
    sleeper = net.nodes["n02@h"]
    assert [e for _, e in sleeper.events if isinstance(e, MemberDead)] == []
    assert_agreed(net)


def test_a_clock_an_hour_ahead_is_named_by_its_neighbours_and_no_member() -> None:
    """It is refused, and cannot keep a dead node alive either (C9)."""
    net = MemberNet(8)
    net.nodes["n02@h"].wall_offset_ms = 3_600_000
    net.run(SETTLED_MS)
    for name, node in net.nodes.items():
        assert ("n02@h" in node.machine.members()) == (name == "n02@h")
    assert [w.node for w in clock_warnings(net.nodes["n01@h"])] == ["n02@h"]
    net.kill("n05@h")
    net.run(10_000)
    assert all(
        "n05@h" not in node.machine.members()
        for name, node in net.nodes.items()
        if name != "n05@h"
    )
    net.nodes["n02@h"].wall_offset_ms = 0
    net.run(SETTLED_MS)
    assert_agreed(net)


def test_a_clock_that_steps_renews_and_ends_nothing() -> None:
    net = MemberNet(8)
    net.run(10_000)
    for offset in (-7_200_000, 4_000, 0):
        for node in net.nodes.values():
            node.wall_offset_ms = offset
        net.run(8_000)
    for node in net.nodes.values():
        assert [e for _, e in node.events if isinstance(e, MemberDead)] == []


def test_two_halves_bury_and_unbury_each_other_once() -> None:
    net = MemberNet(10)
    net.run(10_000)
    left = names(5)
    net.partition(left)
    net.run(SETTLED_MS)
    assert net.agreed(left) == {tuple(left)}
    net.heal([("n00@h", "n09@h"), ("n04@h", "n05@h")])
    net.run(SETTLED_MS)
    assert_agreed(net)
    for name in left:
        assert len(net.nodes[name].told(MemberDead, "n07@h")) == 1
        assert len(net.nodes[name].told(MemberUp, "n07@h")) == 2


def test_a_node_that_comes_back_in_a_new_life_is_one_member() -> None:
    net = MemberNet(8)
    net.run(10_000)
    net.kill("n04@h")
    net.run(300)
    net.start("n04@h", 2)
    net.link("n04@h", "n00@h")
    net.run(SETTLED_MS)
    assert_agreed(net)
    for name in living(net):
        if name != "n04@h":
            lives = [e.creation for e in net.nodes[name].told(MemberUp, "n04@h")]
            assert lives == [1, 2]
            assert len(net.nodes[name].told(MemberGone, "n04@h")) == 1


ACT = st.tuples(
    st.sampled_from(["kill", "silence", "leave", "stop", "split", "cut", "restart"]),
    st.integers(0, 7),
    st.integers(0, 9_000),
)


@settings(max_examples=rounds(60, whole=3_000), deadline=None)
@given(
    acts=st.lists(ACT, max_size=6),
    seed=st.integers(0, 1 << 16),
    loss=st.sampled_from([0, 20, 150]),
    heartbeat=st.sampled_from([500, 2_000]),
)
def test_whatever_happens_all_agree_at_rest_and_were_told_in_order(
    acts: list[tuple[str, int, int]], seed: int, loss: int, heartbeat: int
) -> None:
    """Loss, copies, overtaking, partitions, crashes, stops, new lives (D1)."""
    net = MemberNet(
        8,
        seed,
        loss=loss,
        twice=50,
        latency=(1, 80),
        settings=LeaseSettings(heartbeat_ms=heartbeat, ttl_ms=3 * heartbeat),
    )
    net.run(5_000)
    for what, who, wait in acts:
        act(net, what, who, wait)
        net.run(wait)
    net.loss = net.twice = 0
    make_whole(net)
    net.run(80_000)
    assert_agreed(net)


def act(net: MemberNet, what: str, who: int, wait: int) -> None:
    every = names(8)
    name, node = every[who], net.nodes[every[who]]
    if what == "restart" and not node.running:
        net.start(name, node.creation + 1)
        for other in (every[(who + 1) % 8], every[(who + 3) % 8]):
            if net.nodes[other].running:
                net.link(name, other)
    elif what == "split":
        net.partition(every[:who])
    elif what == "cut":
        net.unlink(name, every[(who + 1) % 8], "unreachable")
    elif what == "stop":
        net.stop(name, wait)
    elif node.running and what in ("kill", "silence", "leave"):
        getattr(net, what)(name)
        net.run(10)
        node.running = False


def make_whole(net: MemberNet) -> None:
    """Every living node finds two others."""
    alive = living(net)
    net.heal([])
    net.run(2_000)
    for i, name in enumerate(alive):
        for step in (1, 2):
            other = alive[(i + step) % len(alive)]
            if other != name:
                net.unlink(name, other)
                net.link(name, other)


def test_equal_seeds_tell_equal_stories() -> None:
    stories = []
    for _ in range(2):
        net = MemberNet(8, 7, loss=50, twice=50, latency=(1, 80))
        net.run(20_000)
        net.kill("n01@h")
        net.run(20_000)
        stories.append({name: node.events for name, node in net.nodes.items()})
    assert stories[0] == stories[1]


def test_nodes_that_freeze_again_and_again_bury_no_healthy_one() -> None:
    """Two of twenty stand still for 5 s in every 10 s, for five minutes (S8)."""
    net = MemberNet(20, 3)
    frozen = {"n04@h", "n11@h"}
    net.run(10_000)
    for _ in range(30):
        for name in sorted(frozen):
            net.stop(name, 5_000)
        net.run(10_000)
    for node in net.nodes.values():
        dead = [e.node for _, e in node.events if isinstance(e, MemberDead)]
        assert set(dead) <= frozen
        if node.name in frozen:
            assert dead == []
    net.run(SETTLED_MS)
    assert_agreed(net)
