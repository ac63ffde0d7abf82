"""However frames and losses interleave, both nodes agree on every link and monitor."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.terms import Pid
from barrel_p2p.runtime.messages import LinkFrame, TieFrame, decode, encode
from barrel_p2p.runtime.monitors import number_of
from barrel_p2p.runtime.signals import Signals
from barrel_p2p.runtime.tie_events import (
    ChannelUp,
    DemonitorAsked,
    Dial,
    Effect,
    Ended,
    Event,
    LinkAsked,
    MonitorAsked,
    NodeLost,
    Received,
    SendTie,
    Signal,
    TellDown,
    UnlinkAsked,
)
from barrel_p2p.wire.frames import Frame
from tests.models.signals import SignalsModel

NODES = ("a@h", "b@h", "c@h")
PIDS = [Pid(node, i, 1) for node in NODES for i in (1, 2)]
OLD = Pid("b@h", 1, 9)


class World:
    """Nodes joined by pipes, each of which keeps its order, and no clock."""

    def __init__(self) -> None:
        self.alive = set(PIDS)
        self.told: Counter[tuple[Pid, str, object, str]] = Counter()
        self.pipes: dict[tuple[str, str], deque[TieFrame]] = {}
        self.dials: list[tuple[str, str]] = []
        self.up: set[frozenset[str]] = set()
        self.unreachable: set[frozenset[str]] = set()
        self.last_ref = 0
        # How many links of a process to another nobody has told it to forget.
        self.claims: Counter[tuple[Pid, Pid]] = Counter()
        self.nodes = {name: self._node(name) for name in NODES}

    def _node(self, name: str) -> Signals:
        return Signals(
            name,
            1,
            alive=lambda process: Pid(name, process, 1) in self.alive,
            named=lambda key: None,
        )

    def creation(self, me: str, other: str) -> int | None:
        return 1 if frozenset((me, other)) in self.up else None

    def link(self, me: Pid, to: Pid) -> None:
        self.claims[me, to] += 1
        self.claims[to, me] += 1
        self.feed(me.node, LinkAsked(me.id, to, self.creation(me.node, to.node)))

    def unlink(self, me: Pid, to: Pid) -> None:
        # A link that the other side made and that is under way is none of these yet.
        coming = self.pipes.get((to.node, me.node), ())
        self.claims[me, to] = sum(
            isinstance(m, LinkFrame) and (m.sender, m.to) == (to, me) for m in coming
        )
        waiting = self.nodes[to.node].links._waiting.get(me.node, {})
        self.claims[me, to] += (to.id, me) in waiting
        self.feed(me.node, UnlinkAsked(me.id, to))

    def monitor(self, me: Pid, to: Pid) -> int:
        self.last_ref += 1
        creation = self.creation(me.node, to.node)
        self.feed(me.node, MonitorAsked(me.id, self.last_ref, to, b"", creation))
        return self.last_ref

    def demonitor(self, me: Pid, ref: int) -> None:
        self.feed(me.node, DemonitorAsked(me.id, ref))

    def end(self, pid: Pid, reason: str) -> None:
        self.alive.discard(pid)
        self.feed(pid.node, Ended(pid.id, reason))

    def lose(self, one: str, two: str) -> None:
        self.up.discard(frozenset((one, two)))
        self.pipes.pop((one, two), None)
        self.pipes.pop((two, one), None)
        self.feed(one, NodeLost(two))
        self.feed(two, NodeLost(one))

    def finish_dial(self) -> bool:
        if not self.dials:
            return False
        one, two = self.dials.pop(0)
        if frozenset((one, two)) in self.unreachable:
            self.feed(one, NodeLost(two))
        else:
            self.up.add(frozenset((one, two)))
            self.feed(one, ChannelUp(two, 1))
            self.feed(two, ChannelUp(one, 1))
        return True

    def deliver(self, way: tuple[str, str]) -> bool:
        pipe = self.pipes.get(way)
        if not pipe:
            return False
        kind, flags, body = encode(pipe.popleft())
        message = decode(Frame(kind, flags, body), peer=way[0], creation=1, here=way[1])
        self.feed(way[1], Received(message))
        return True

    def deliver_all(self) -> bool:
        return sum(self.deliver(way) for way in list(self.pipes)) > 0

    def settle(self) -> None:
        while self.finish_dial() or self.deliver_all():
            pass

    def feed(self, node: str, event: Event) -> None:
        for effect in self.nodes[node].handle(event, now_ms=0):
            self.perform(node, effect)

    def perform(self, node: str, effect: Effect) -> None:
        match effect:
            case SendTie(to, message):
                assert frozenset((node, to)) in self.up
                self.pipes.setdefault((node, to), deque()).append(message)
            case Dial(to):
                self.dials.append((node, to))
            case Signal(to, sender, reason, linked):
                assert linked
                me = Pid(node, to, 1)
                self.told[me, "exit", sender, str(reason)] += 1
                if sender in PIDS:
                    assert self.claims[me, sender] > 0, "an exit after unlink"
            case TellDown(to, down):
                ref = number_of(Pid(node, 0, 1), down.ref)
                self.told[Pid(node, to, 1), "down", ref, str(down.reason)] += 1

    def assert_agreement(self) -> None:
        for one in self.alive:
            links = self.nodes[one.node].links.of(one.id)
            assert len(links) == len(set(links))
            for two in links:
                assert two in self.alive
                assert one in self.nodes[two.node].links.of(two.id)


VERBS = (
    ["link"] * 4
    + ["unlink"] * 4
    + ["monitor"] * 3
    + ["demonitor", "end", "lose"]
    + ["deliver"] * 5
    + ["settle"]
)
STEP = st.tuples(
    st.sampled_from(VERBS),
    st.sampled_from(PIDS[:3] * 3 + PIDS),  # Few, so that they meet.
    st.sampled_from([*PIDS[:3] * 3, *PIDS, OLD]),
    st.integers(0, 3),
)
STEPS = st.lists(STEP, min_size=20, max_size=80)


def act(world: World, step: tuple[str, Pid, Pid, int]) -> None:
    verb, me, to, number = step
    if verb == "lose":
        if me.node != to.node:
            world.lose(me.node, to.node)
    elif verb == "deliver":
        world.finish_dial()
        world.deliver((me.node, to.node))
    elif verb == "settle":
        world.settle()
    elif me not in world.alive:
        return
    elif verb == "link":
        world.link(me, to)
    elif verb == "unlink":
        world.unlink(me, to)
    elif verb == "monitor":
        world.monitor(me, to)
    elif verb == "demonitor":
        world.demonitor(me, world.last_ref - number)
    elif verb == "end" and number < 2:
        world.end(me, "done")


@given(STEPS)
def test_both_nodes_agree_once_everything_has_arrived(
    steps: list[tuple[str, Pid, Pid, int]],
) -> None:
    world = World()
    for step in steps:
        act(world, step)
    world.settle()
    world.assert_agreement()
    downs = Counter(ref for _, kind, ref, _ in world.told if kind == "down")
    assert all(count == 1 for count in downs.values())
    for pid in sorted(world.alive, key=repr):
        partners = world.nodes[pid.node].links.of(pid.id)
        before = world.told.copy()
        world.end(pid, "last")
        world.settle()
        fresh = world.told - before
        for other in partners:
            assert fresh[other, "exit", pid, "last"] == 1
    for node in world.nodes.values():
        assert len(node.links) == len(node.monitors) == 0
        assert not any(vars(node.links)[t] for t in ("_of", "_to_peer", "_waiting"))
        assert not any(
            vars(node.monitors)[t]
            for t in ("_of", "_on_node", "_waiting", "_watchers", "_from_peer")
        )


@given(STEPS, st.booleans())
def test_step_by_step_the_nodes_are_one_table(
    steps: list[tuple[str, Pid, Pid, int]], cut: bool
) -> None:
    world, model = World(), SignalsModel()
    model.alive = set(PIDS)
    if cut:
        model.apart = {frozenset(("a@h", "b@h"))}
        world.unreachable = model.apart
    for verb, me, to, number in steps:
        act(world, (verb, me, to, number))
        if verb == "lose" and me.node != to.node:
            model.lose(me.node, to.node)
        elif me in model.alive:
            if verb == "link":
                model.link(me, to)
            elif verb == "unlink":
                model.unlink(me, to)
            elif verb == "monitor":
                model.monitor(me, world.last_ref, to)
            elif verb == "demonitor":
                model.demonitor(me, world.last_ref - number)
            elif verb == "end" and number < 2:
                model.end(me, "done")
        world.settle()
        assert world.told == model.told


@pytest.mark.parametrize("first", [True, False])
def test_crossed_unlinks_and_links_leave_the_same_on_both_sides(first: bool) -> None:
    world, one, two = World(), PIDS[0], PIDS[2]
    world.link(one, two)
    world.settle()
    for me, to in ((one, two), (two, one)):
        world.unlink(me, to)
        if first or me == two:
            world.link(me, to)
    world.settle()
    world.assert_agreement()
    assert world.nodes["a@h"].links.of(one.id) == [two]
