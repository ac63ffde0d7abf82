"""What must hold of a cluster after the last fault, in words where it does not.

Each check looks at the nodes that run, from outside, without asking any of them to do
anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from barrel_p2p.node.parts import Parts
from barrel_p2p.testing.nodes.watch import Watch
from barrel_p2p.testing.nodes.world import World

__all__ = [
    "TIMERS_MAX",
    "hlc_faults",
    "problems",
    "service_faults",
    "table_faults",
    "urgent_problems",
]

TIMERS_MAX: Final = 256
"""Timers of one room of one node, at rest."""

_TABLE_MAX: Final = 4  # What names nodes holds at most so many rows for each machine.


def problems(world: World) -> list[str]:
    """Everything that does not hold at this moment; empty when all does."""
    return [*urgent_problems(world), *service_faults(world)]


def urgent_problems(world: World) -> list[str]:
    """The same for what is repaired soon, whatever clocks and syncs do."""
    watches = [world.watches[index] for index in world.running()]
    return [*_views(watches), *_members(watches)]


def _views(watches: list[Watch]) -> Iterator[str]:
    views = {w.node.name: w.node.active_view() for w in watches}
    channels = {w.node.name: w.node.nodes() for w in watches}
    for name, peers in views.items():
        for peer in peers:
            if peer not in views:
                yield f"{name} has {peer} as a peer, which does not run"
            elif name not in views[peer]:
                yield f"{name} has {peer} as a peer, but not the other way round"
            if peer not in channels[name]:
                yield f"{name} has {peer} as a peer without a channel"
        if len(set(peers)) != len(peers) or name in peers:
            yield f"{name} has the view {peers}"
    reached = _reached(views)
    if len(reached) != len(views):
        yield f"{sorted(set(views) - reached)} are not connected with the others"


def _reached(views: dict[str, list[str]]) -> set[str]:
    reached: set[str] = set()
    border = list(views)[:1]
    while border:
        name = border.pop()
        if name not in reached and name in views:
            reached.add(name)
            border.extend(views[name])
    return reached


def _members(watches: list[Watch]) -> Iterator[str]:
    alive = sorted(w.node.name for w in watches)
    lives = {w.node.name: w.node.life for w in watches}
    for watch in watches:
        node = watch.node
        if node.members() != alive:
            yield f"{node.name} holds {node.members()} for members, not {alive}"
            continue
        known = {name: node.parts.members.life(name) for name in alive}
        if known != lives:
            yield f"{node.name} knows the lives {known}, not {lives}"


def service_faults(world: World) -> Iterator[str]:
    """What of that concerns services: who is found, and as what."""
    watches = [world.watches[index] for index in world.running()]
    wanted = {
        (name, watch.node.name): registration
        for watch in watches
        for name, registration in watch.registrations.items()
    }
    for watch in watches:
        node = watch.node
        found = {
            (str(name), entry.node): (entry.pid, entry.meta)
            for name in node.list_services()
            for entry in node.lookup(name)
        }
        for key in sorted(wanted.keys() | found.keys()):
            if wanted.get(key) != found.get(key):
                yield (
                    f"{node.name} finds {found.get(key)} as {key[0]!r} of {key[1]}, not"
                    f" {wanted.get(key)}"
                )


def hlc_faults(watch: Watch, highest_wall_ms: int) -> Iterator[str]:
    """Whether a node's clock leads further ahead than it may.

    Args:
        watch: The node.
        highest_wall_ms: What its wall clock has shown at most.
    """
    hlc = watch.node.parts.hlc
    before, after = hlc.now(), hlc.now()
    if not before < after:
        yield f"{watch.node.name} stamped {after} after {before}"
    ahead_ms = after.wall_ms - highest_wall_ms
    if ahead_ms > hlc.max_drift_ms:
        yield f"{watch.node.name} stamps {ahead_ms} ms ahead of its own clock"


def table_faults(world: World) -> Iterator[str]:
    """Whether something has grown that must not grow with time."""
    machines = len(world.machines)
    for index in world.running():
        watch = world.watches[index]
        for what, size, bound in _tables(watch.node.parts, machines):
            if size > bound:
                yield f"{watch.node.name} has {size} {what}, of at most {bound}"


def _tables(parts: Parts, machines: int) -> Iterator[tuple[str, int, int]]:
    nodes = _TABLE_MAX * machines
    yield "channels", len(parts.channels.nodes()), machines
    yield "passive peers", len(parts.membership.passive_view()), machines
    yield "failed frames", parts.channels.dispatcher.failed, 0
    yield "failed listeners", parts.broadcast.listener_failures, 0
    yield "failed replica callbacks", parts.replicas.stats()["callbacks_failed"], 0
    yield "places", len(parts.whereabouts._places), nodes
    yield "dials", len(parts.channels.dialer._dials), machines
    rooms = ("membership", "broadcast", "members", "replicas")
    for name in rooms:
        runner = getattr(parts, name)._runner
        yield f"timers of {name}", len(runner._timers), TIMERS_MAX
        yield f"tasks of {name}", len(runner._tasks), TIMERS_MAX
