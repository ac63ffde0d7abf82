"""Elections on a bad network: at rest one leads, all know it, no fence went back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from barrel_p2p.core.ormap import Delta
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.errors import AlreadyCandidate
from barrel_p2p.services.leader_events import Elected, Revoked
from tests.leader_bench import LeaderBench, connect
from tests.tools import rounds

NODES = ["a@h", "b@h", "c@h", "d@h"]


class Cluster:
    """Four nodes with perhaps a candidate each, and what is on its way between them."""

    def __init__(self, seed: int, loss: int) -> None:
        self.rng = SeededRng(seed)
        self.loss = loss
        self.benches = [LeaderBench(node, 1) for node in NODES]
        self.ended: list[LeaderBench] = []
        self.seen = [0] * len(NODES)
        self.dead: set[tuple[int, int]] = set()
        self.moving: list[tuple[int, Delta]] = []
        connect(*self.benches)

    def act(self, what: str, who: int, other: int) -> None:
        bench = self.benches[who]
        match what:
            case "stand":
                try:
                    bench.stand(priority=other // 2)
                except AlreadyCandidate:
                    assert len(bench.machine.candidates("n")) > 0
            case "withdraw":
                bench.withdraw()
            case "end":
                bench.ended()
            case "pause":
                bench.paused()
            case "peer":
                bench.peer(NODES[other])
            case "caught":
                bench.caught()
            case "clock":
                bench.wall += (other - 1) * 9_000
            case "restart":
                self.restart(who)
            case _ if who != other:
                self.verdict(what, who, other)
        self.collect()

    def verdict(self, what: str, who: int, other: int) -> None:
        bench, about = self.benches[who], self.benches[other]
        if what == "dead" and (who, other) not in self.dead:
            bench.dead(about.node, about.creation)
            self.dead.add((who, other))
        elif what == "gone" and (who, other) in self.dead:
            bench.gone(about.node, about.creation)
        elif what == "up" and (who, other) in self.dead:
            bench.up(about.node, about.creation)
            self.dead.discard((who, other))

    def restart(self, who: int) -> None:
        """A new life; its clock goes on where the last one stood."""
        old = self.benches[who]
        new = self.benches[who] = LeaderBench(old.node, old.creation + 1)
        stamp = old.machine.entries.clock.now()
        new.now, new.wall = old.now, max(old.wall, stamp.wall_ms) + 1
        self.ended.append(old)
        self.seen[who] = 0
        for i, bench in enumerate(self.benches):
            if i == who:
                continue
            if (i, who) not in self.dead:
                bench.dead(old.node, old.creation)
            bench.gone(old.node, old.creation)
            bench.up(new.node, new.creation)
            new.up(bench.node, bench.creation)
            self.dead -= {(i, who), (who, i)}

    def collect(self) -> None:
        for i, bench in enumerate(self.benches):
            for delta in bench.told[self.seen[i] :]:
                for to in range(len(NODES)):
                    for _ in range(1 + (self.rng.below(10) == 0)):
                        if to != i and self.rng.below(100) >= self.loss:
                            self.moving.append((to, delta))
            self.seen[i] = len(bench.told)

    def deliver(self, share: int) -> None:
        """Some of what is on its way arrives, in any order."""
        for _ in range(len(self.moving) * share // 100):
            to, delta = self.moving.pop(self.rng.below(len(self.moving)))
            self.benches[to].take(delta)
            self.collect()

    def wait(self, ms: int) -> None:
        for bench in self.benches:
            bench.wait(ms)
        self.collect()

    def settle(self) -> None:
        """Everyone is alive, its clock is right, and compares with everyone."""
        for who, other in sorted(self.dead):
            about = self.benches[other]
            self.benches[who].up(about.node, about.creation)
        self.dead.clear()
        self.loss = 0
        latest = max(bench.wall for bench in self.benches)
        for bench in self.benches:
            bench.wall = latest
        for _ in range(6):
            self.deliver(100)
            self.wait(7_000)
            for one in self.benches:
                for peer in self.benches:
                    if one is not peer:
                        one.take_all(peer)
            self.collect()


def need_order(bench: LeaderBench) -> None:
    """Terms of one node follow each other, each above what was before it."""
    leads = False
    for event in bench.events:
        assert isinstance(event, Elected | Revoked)
        assert isinstance(event, Elected) != leads
        leads = isinstance(event, Elected)
    fences = bench.elected()
    assert fences == sorted(set(fences))
    assert leads == (bench.fence is not None)


def need_one_leader(cluster: Cluster) -> None:
    benches = cluster.benches
    standing = [b for b in benches if b.machine._own]
    lists = [bench.machine.candidates("n") for bench in benches]
    assert all(one == lists[0] for one in lists)
    assert {one.node for one in lists[0]} == {bench.node for bench in standing}
    leading = [bench.node for bench in benches if bench.fence is not None]
    assert leading == [one.node for one in lists[0][:1]]
    assert {bench.leader for bench in benches} == {leading[0] if leading else None}
    if leading:
        fence = next(b.fence for b in benches if b.fence is not None)
        known = [f for b in (*benches, *cluster.ended) for f in b.elected()]
        # A life that has ended may have told nobody of its last term.
        told = [f for b in benches for f in b.elected()]
        assert fence == max(told)
        assert len(known) == len(set(known))
        assert {bench.machine.high_water("n") for bench in benches} == {fence}


STEP = st.one_of(
    st.tuples(
        st.sampled_from(
            [
                *("stand", "stand", "stand", "withdraw", "end", "pause", "peer"),
                *("caught", "clock", "restart", "dead", "dead", "gone", "up"),
            ]
        ),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    st.tuples(st.just("deliver"), st.integers(0, 100), st.just(0)),
    st.tuples(st.just("wait"), st.integers(1, 9_000), st.just(0)),
)


@settings(max_examples=rounds(60, whole=3_000), deadline=None)
@given(
    st.integers(0, 1 << 32),
    st.sampled_from([0, 30, 80]),
    st.lists(STEP, min_size=1, max_size=60),
)
def test_at_rest_one_leads_and_all_know_it(
    seed: int, loss: int, steps: list[tuple[str, int, int]]
) -> None:
    """C1 and C4 of the machine alone, whatever order word arrives in."""
    cluster = Cluster(seed, loss)
    for what, who, other in steps:
        if what == "deliver":
            cluster.deliver(who)
        elif what == "wait":
            cluster.wait(who)
        else:
            cluster.act(what, who, other)
    cluster.settle()
    need_one_leader(cluster)
    for bench in (*cluster.benches, *cluster.ended):
        need_order(bench)


@settings(max_examples=rounds(40, whole=1_000), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-9_000, 9_000)), max_size=30))
def test_a_fence_is_above_all_that_its_node_has_heard_of(
    steps: list[tuple[int, int]],
) -> None:
    """C1: every takeover is heard by the next one; clocks go anywhere in between."""
    benches = [LeaderBench(node, 1) for node in NODES]
    last = 0
    for who, step in steps:
        bench = benches[who]
        bench.wall += step
        for other in benches:
            if other is not bench:
                bench.take_all(other)
        bench.stand()
        assert bench.fence is not None
        assert bench.fence > last
        last = bench.fence
        bench.withdraw()
