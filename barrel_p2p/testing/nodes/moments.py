"""What must hold of a node at every moment, whatever befalls it.

The rooms of a node agree with each other as soon as a callback is over: they are told
in that callback. What is asked of a node is what it has told. Numbers only grow, and
nobody stays suspected, or dead, for longer than it may.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Final, final

from barrel_p2p.testing.nodes.watch import Watch
from barrel_p2p.testing.nodes.world import World

__all__ = ["LATE_MS", "Moments"]

LATE_MS: Final = 600
"""How late a timer may be: later, and the node takes itself for the one that stood
still. With the grain of verdicts."""


@final
class Moments:
    """Looks at all nodes of a world, again and again.

    Args:
        world: The nodes; those on frozen machines are left in peace.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._before: dict[str, tuple[Watch, dict[str, int]]] = {}
        # Whoever leaves puts the leases of others back, to hear of them again.
        self._leases: dict[str, tuple[int, dict[str, tuple[int, int]]]] = {}

    def faults(self) -> Iterator[str]:
        """Everything that does not hold at this moment."""
        world = self._world
        for index in world.running():
            if world.machines[index].host.frozen:
                continue
            watch = world.watches[index]
            for looked in (_views, _asked, _members, _services, self._numbers):
                for what in looked(watch):
                    yield f"{watch.node.name} {what}"

    def _numbers(self, watch: Watch) -> Iterator[str]:
        name, parts = watch.node.name, watch.node.parts
        numbers = {
            **{f"its {key}": n for key, n in asdict(parts.members.stats()).items()},
            **{f"its {k}": n for k, n in asdict(parts.membership.counters).items()},
            **{f"its replicas' {k}": n for k, n in parts.replicas.stats().items()},
            "its lease": parts.members._machine.seq,
        }
        leases = {
            node: (member.creation, member.seq)
            for node, member in parts.members._machine._members.items()
        }
        known, before = self._before.get(name, (watch, {}))
        if known is watch:
            for key, number in numbers.items():
                if number < before.get(key, 0):
                    yield f"counts {key} back from {before[key]} to {number}"
            leaves, had = self._leases.get(name, (0, {}))
            for node, lease in leases.items():
                if leaves == watch.leaves and lease < had.get(node, lease):
                    yield f"takes the lease of {node} back from {had[node]} to {lease}"
        self._before[name] = watch, numbers
        self._leases[name] = watch.leaves, leases


def _views(watch: Watch) -> Iterator[str]:
    node = watch.node
    parts = node.parts
    active, passive = node.active_view(), node.passive_view()
    channels = node.nodes()
    for name in active:
        if name not in channels:
            yield f"has {name} as a peer without a channel"
    if len(set(active)) != len(active) or node.name in active + passive:
        yield f"has the views {active} and {passive}"
    if len(active) > node.config.active_size:
        yield f"has {len(active)} peers"
    if both := [name for name in active if name in passive]:
        yield f"has {both} in both views"
    if parts.members._machine._left != parts.membership._machine.has_left:
        yield "has left for one room and not for another"
    counters = parts.membership.counters
    if counters.peer_up - counters.peer_down != len(active):
        yield f"counts {counters} and has the peers {active}"
    tree = parts.broadcast.stats()
    if tree["eager_peers"] + tree["lazy_peers"] != len(active):
        yield f"has {tree} in its tree and the peers {active}"
    for room, peers in (
        ("tree", [*parts.broadcast._machine.eager, *parts.broadcast._machine.lazy]),
        ("replicas", parts.replicas._machine.neighbours()),
        ("members", list(parts.members._machine._peers)),
    ):
        if sorted(peers) != sorted(active):
            yield f"has {peers} for its {room} and the peers {active}"


def _asked(watch: Watch) -> Iterator[str]:
    """A request is sent over a channel, or the other side cannot answer."""
    channels = watch.node.nodes()
    for name, entry in watch.node.parts.membership._machine._links.pending.items():
        if entry.asked and name not in channels:
            yield f"waits for an answer of {name} without a channel"


def _members(watch: Watch) -> Iterator[str]:
    node, settings = watch.node, watch.node.config
    members, suspects = node.members(), node.suspects()
    if members != sorted(watch.members):
        yield f"has the members {members} and was told of {sorted(watch.members)}"
    for name, life in watch.members.items():
        if node.parts.members.life(name) != life:
            yield f"has another life of {name} than {life}"
    if astray := [name for name in suspects if name not in watch.suspected]:
        yield f"suspects {astray}, of whom nothing was told"
    now_ms = node.machine.clock.now_ms()
    for name in suspects:
        since_ms = max(watch.suspected.get(name, now_ms), watch.awake_ms)
        if now_ms - since_ms > settings.suspect_ms + LATE_MS:
            yield f"suspects {name} for {now_ms - since_ms} ms"
    for name, (life, since_ms) in watch.dead.items():
        over_ms = max(since_ms + settings.member_ttl_ms, watch.awake_ms)
        if now_ms - over_ms > LATE_MS:
            yield f"holds life {life} of {name} for dead for {now_ms - since_ms} ms"


def _services(watch: Watch) -> Iterator[str]:
    node = watch.node
    found = [entry for name in node.list_services() for entry in node.lookup(name)]
    told = sorted(watch.services)
    if sorted((str(entry.name), entry.node) for entry in found) != told:
        yield f"finds {found} and was told of {told}"
    for entry in found:
        if watch.members.get(entry.node) != entry.pid.creation:
            yield f"finds {entry} of what is no member"
