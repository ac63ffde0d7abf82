"""Registries on a bad network: at rest all show what each owner says, told in order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from barrel_p2p.core.ormap import Delta
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.errors import AlreadyRegistered
from barrel_p2p.services.registry_inputs import HIDDEN_MS
from barrel_p2p.services.service_events import (
    ServiceDown,
    ServiceRegistered,
    ServiceUnregistered,
)
from tests.registry_bench import RegistryBench, connect
from tests.tools import rounds

NODES = ["a@h", "b@h", "c@h", "d@h"]
SERVICES = ["cart", ("user", 1)]


class Cluster:
    """Four registries, and what is still on its way between them."""

    def __init__(self, seed: int, loss: int) -> None:
        self.rng = SeededRng(seed)
        self.loss = loss
        self.benches = [RegistryBench(node, 1, i) for i, node in enumerate(NODES)]
        self.seen = [0] * len(NODES)
        self.dead: set[tuple[int, int]] = set()
        self.moving: list[tuple[int, Delta]] = []
        connect(*self.benches)

    def act(self, what: str, who: int, name: int, other: int) -> None:
        bench, service = self.benches[who], SERVICES[name]
        if what == "register":
            try:
                bench.register(service, other + 1, load=len(bench.told))
            except AlreadyRegistered:
                assert bench.machine.own(service) is not None
        elif what == "unregister":
            bench.unregister(service)
        elif what == "down":
            bench.down(other + 1, ("crash", other))
        elif what == "restart":
            self.restart(who)
        elif who != other:
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
        """A new life, which knows nothing; the others see it at once, or bury it."""
        old = self.benches[who]
        new = self.benches[who] = RegistryBench(old.node, old.creation + 1, who)
        new.now, new.wall = old.now, old.wall + 1
        self.seen[who] = 0
        for i, bench in enumerate(self.benches):
            if i == who:
                continue
            if (i, who) not in self.dead:
                bench.dead(old.node, old.creation, "restarted")
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
        """Everyone is alive, and compares with everyone."""
        for who, other in sorted(self.dead):
            about = self.benches[other]
            self.benches[who].up(about.node, about.creation)
        self.dead.clear()
        self.loss = 0
        for _ in range(4):
            self.deliver(100)
            self.wait(2_000)
            for one in self.benches:
                for peer in self.benches:
                    if one is not peer:
                        one.take_all(peer)
            self.collect()


def truth(cluster: Cluster) -> dict[object, dict[str, object]]:
    said: dict[object, dict[str, object]] = {name: {} for name in SERVICES}
    for bench in cluster.benches:
        for name in SERVICES:
            own = bench.machine.own(name)
            if own is not None:
                said[name][bench.node] = own
    return said


def assert_told_in_order(bench: RegistryBench) -> None:
    """A service comes before it goes, and goes before it comes again."""
    there: set[tuple[object, str]] = set()
    for event in bench.events:
        key = (event.name, event.node)
        if isinstance(event, ServiceRegistered):
            assert key not in there, bench.events
            there.add(key)
        else:
            assert isinstance(event, ServiceUnregistered | ServiceDown)
            assert key in there, bench.events
            there.remove(key)
    shown = {
        (entry.name, entry.node)
        for name in SERVICES
        for entry in bench.machine.lookup(name)
    }
    assert there == shown


ACT = st.tuples(
    st.sampled_from(
        ["register"] * 4
        + ["unregister", "down", "dead", "gone", "up", "restart", "wait", "deliver"]
    ),
    st.integers(0, 3),
    st.integers(0, 1),
    st.integers(0, 3),
)


@settings(max_examples=rounds(150, whole=20_000), deadline=None)
@given(
    st.lists(ACT, max_size=40), st.integers(0, 1 << 16), st.sampled_from([0, 30, 100])
)
def test_at_rest_every_node_shows_what_each_owner_says(
    acts: list[tuple[str, int, int, int]], seed: int, loss: int
) -> None:
    """Loss, copies, any order, deaths that are wrong, new lives (D1)."""
    cluster = Cluster(seed, loss)
    for what, who, name, other in acts:
        if what == "wait":
            cluster.wait((1 + other) * HIDDEN_MS // 3)
        elif what == "deliver":
            cluster.deliver(25 * (1 + other))
        else:
            cluster.act(what, who, name, other)
    cluster.settle()
    said = truth(cluster)
    for bench in cluster.benches:
        for service in SERVICES:
            found = {entry.node: entry for entry in bench.machine.lookup(service)}
            assert found == said[service]
        assert_told_in_order(bench)
        assert bench.machine.entries.digest() == (
            cluster.benches[0].machine.entries.digest()
        )
