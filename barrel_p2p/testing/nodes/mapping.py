"""Replicated maps on simulated nodes: what is written, and what has to be read then.

Each node has three maps. In ``own``, which persists, every node writes keys of its own;
so what each key holds at rest is known. In ``shared`` all write the same keys, so that
writes supersede each other. In ``here``, whose entries go with their writers, every
node says in which life it is. Removed keys stop travelling after ``HORIZON_MS``, less
than what most faults last: nodes come back that were away for longer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, final

from barrel_p2p.errors import BarrelError, NoSuchMap, StorageError
from barrel_p2p.runtime.event_stream import EventStream
from barrel_p2p.services.map_events import MapEvent, MapPut, MapRemove
from barrel_p2p.testing.nodes.stages import SimNode
from barrel_p2p.testing.nodes.watch import Watch
from barrel_p2p.testing.nodes.world import World

__all__ = ["HORIZON_MS", "MAPS", "Mapping"]

HORIZON_MS: Final = 3_000
"""How long a tombstone travels at least."""

MAPS: Final = ("own", "shared", "here")

_KEYS: Final = 4
_PAUSE_S: Final = 0.15
_LOOK_S: Final = 0.2
_DISK_S: Final = (0.1, 4.0)
_EVENTS_MAX: Final = 1 << 16


@final
@dataclass(slots=True)
class _History:
    """What one node has tried with one key of its own, in order; None removes it."""

    tried: list[int | None] = field(default_factory=lambda: [None])
    since: int = 0  # the last one that was acknowledged; first, that there is nothing
    busy: bool = False

    def may_be(self, value: object) -> bool:
        """Whether the key can hold ``value`` at rest."""
        return value in self.tried[self.since :]


@final
class Mapping:
    """The maps of one world.

    Args:
        world: Where.

    Attributes:
        acknowledged: Writes that were.
        superseded: Of those to ``shared``, how many gave way to a write of another node
            that had not seen them.
        revived: Removed keys that were told again to who came with their values.
    """

    def __init__(self, world: World) -> None:
        self.acknowledged = self.superseded = self.revived = 0
        self._world = world
        self._random = Random(world.seed ^ 0x6D617073)
        self._histories: dict[tuple[str, int], _History] = {}
        self._views: dict[Watch, dict[str, dict[Any, Any]]] = {}
        self._seen: dict[str, dict[int, None]] = {}  # node -> values of shared
        self._last: dict[int, tuple[int, str]] = {}  # key of shared -> value, writer
        self._turn = 0

    async def look(self) -> None:
        """Open the maps of every life that begins, again and again."""
        while True:
            for index in self._world.running():
                watch = self._world.watches[index]
                if watch not in self._views:
                    self._views[watch] = {}
                    self._world.spawn(index, self._open(watch))
            await asyncio.sleep(_LOOK_S)

    async def run(self, until_s: float) -> None:
        """Write here and there until a true time."""
        while self._world.loop.true_s() < until_s:
            await asyncio.sleep(self._random.expovariate(1 / _PAUSE_S))
            running = self._world.running()
            if running:
                self._act(self._random.choice(running))

    async def disks(self, until_s: float) -> None:
        """Let disks fail, or be full, for a while, one after the other."""
        while self._world.loop.true_s() < until_s - _DISK_S[1]:
            await asyncio.sleep(self._random.expovariate(1 / _DISK_S[1]))
            machine = self._random.choice(self._world.machines)
            machine.disk.fault = self._random.choice(("broken", "full"))
            await asyncio.sleep(self._random.uniform(*_DISK_S))
            machine.disk.fault = None
            if machine.index in self._world.watches:
                node = self._world.node(machine.index)
                self._world.spawn(machine.index, _mend(node))

    def problems(self) -> list[str]:
        """What does not hold of a cluster at rest; empty when all does."""
        watches = [self._world.watches[i] for i in self._world.running()]
        late = [w.node.name for w in watches if len(self._views.get(w, {})) < len(MAPS)]
        if late:
            return [f"{late} have not opened their maps"]
        found = []
        for name in MAPS:
            found += self._differences(name, watches)
            found += [f for w in watches for f in self._unread(name, w)]
        for watch in watches:
            found += self._own_faults(watch)
        wanted = {watch.node.name: watch.node.life for watch in watches}
        found += [
            f"{w.node.name} has {here} in here, not {wanted}"
            for w in watches
            if (here := dict(w.node.map("here").items())) != wanted
        ]
        return found

    def count(self) -> None:
        """Take what the lives that run have counted."""
        for index in self._world.running():
            for name in MAPS:
                owner = self._world.node(index).parts.maps.owner(name)
                self.revived += 0 if owner is None else owner.removed.revived

    # Maps.

    async def _open(self, watch: Watch) -> None:
        node = watch.node
        for name in MAPS:
            made = await node.new_map(
                name,
                persist=name == "own",
                prune_on_peer_down=name == "here",
                tombstone_ttl_ms=HORIZON_MS,
                scan_ms=200,
            )
            view = self._views[watch][name] = {}
            stream = made.changes(snapshot=True, maxsize=_EVENTS_MAX)
            self._world.spawn(node.machine.index, self._follow(watch, stream, view))
        await node.map_put("here", node.name, node.life)

    async def _follow(
        self, watch: Watch, stream: EventStream[MapEvent], view: dict[Any, Any]
    ) -> None:
        async for event in stream:
            match event:
                case MapPut("shared", key, value):
                    view[key] = value
                    self._seen.setdefault(watch.node.name, {})[value] = None
                case MapPut(_, key, value):
                    view[key] = value
                case MapRemove(_, key):
                    if view.pop(key, None) is None:
                        self._world.complain(f"{event} told of what was not there")
                case _:
                    self._world.complain(f"a reader was told {event}")

    # Writing.

    def _act(self, index: int) -> None:
        watch = self._world.watches[index]
        if len(self._views.get(watch, {})) < len(MAPS):
            return
        key = self._random.randrange(_KEYS)
        if self._random.random() < 0.5:
            self._world.spawn(index, self._write_shared(watch, key))
            return
        history = self._histories.setdefault((watch.node.name, key), _History())
        if not history.busy:
            self._world.spawn(index, self._write_own(watch.node, key, history))

    async def _write_own(self, node: SimNode, key: int, history: _History) -> None:
        self._turn += 1
        value = None if self._random.random() < 0.4 else self._turn
        history.tried.append(value)
        history.busy = True
        at = len(history.tried) - 1
        try:
            if value is None:
                await node.map_remove("own", (node.name, key))
            else:
                await node.map_put("own", (node.name, key), value)
        except BarrelError:
            return
        finally:
            history.busy = False
        self.acknowledged += 1
        history.since = at

    async def _write_shared(self, watch: Watch, key: int) -> None:
        self._turn += 1
        value, name = self._turn, watch.node.name
        before = self._last.get(key)
        try:
            await watch.node.map_put("shared", key, value)
        except BarrelError:
            return
        self.acknowledged += 1
        self._last[key] = (value, name)
        if before is not None and before[1] != name:
            self.superseded += before[0] not in self._seen.get(name, {})

    # Looking.

    def _differences(self, name: str, watches: list[Watch]) -> list[str]:
        owners = [(w.node.name, w.node.parts.maps.owner(name)) for w in watches]
        digests = {node: o.entries.digest() for node, o in owners if o is not None}
        if len(set(digests.values())) == 1:
            return []
        held = {
            node: {e.key: (e.stamp, e.node, e.value) for e in _entries(owner)}
            for node, owner in owners
        }
        first = next(iter(held.values()))
        differ = {
            node: sorted(set(map(str, of.items())) ^ set(map(str, first.items())))
            for node, of in held.items()
            if of != first
        }
        return [f"the copies of {name} differ: {differ}"]

    def _unread(self, name: str, watch: Watch) -> list[str]:
        shown = dict(watch.node.map(name).items())
        view = self._views[watch][name]
        if shown == view:
            return []
        return [f"{watch.node.name} shows {shown} of {name}, and told {view}"]

    def _own_faults(self, watch: Watch) -> list[str]:
        shown = dict(watch.node.map("own").items())
        found = []
        running = [self._world.node(i).name for i in self._world.running()]
        for (node, key), history in self._histories.items():
            if node not in running:
                continue  # What it has acknowledged lies on its disk, and comes back.
            value = shown.get((node, key))
            if not history.may_be(value):
                wanted = history.tried[history.since :]
                found.append(
                    f"{watch.node.name} has {value} for key {key} of {node}, not one of"
                    f" {wanted}"
                )
        return found


async def _mend(node: SimNode) -> None:
    try:
        await node.map("own").reopen()
    except (NoSuchMap, StorageError):
        return  # It is not open yet, or cannot be read.


def _entries(owner: Any) -> list[Any]:
    return [] if owner is None else list(owner.entries.snapshot().values())
