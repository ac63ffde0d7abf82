"""Elections on simulated nodes: who leads, with which fence, and what writers may do.

Candidates of some names stand on every node. While they lead they write to a resource
that lies outside the cluster, each write with its fence and at any time later. What
must never be is noted with its time, as everywhere in the simulator.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from random import Random
from typing import Final, final

from barrel_p2p.errors import BarrelError, FencedOut
from barrel_p2p.services.fence_guard import FenceGuard
from barrel_p2p.services.leader_events import Elected, LeaderEvent, Revoked
from barrel_p2p.services.leadership import Term
from barrel_p2p.testing.nodes.stages import SimNode
from barrel_p2p.testing.nodes.watch import Watch
from barrel_p2p.testing.nodes.world import World

__all__ = ["SPREAD_S", "Leading", "Resource"]

SPREAD_S: Final = 4.0
"""True seconds after which a fence is known to all who stay connected."""

_LOOK_S: Final = 0.2
_STEP_S: Final = (0.05, 0.6)
_LATE_S: Final = 4.0
_STAND: Final = 0.6
_PAUSE_SLACK_MS: Final = 500


@final
class Resource:
    """What leaders write to: it takes no write whose fence is below an earlier one.

    Attributes:
        accepted: Fences of the writes that it took, in order.
        stale: Writes that came with a fence below one that was taken.
    """

    def __init__(self) -> None:
        self.accepted: list[int] = []
        self.stale = 0
        self._guard = FenceGuard()

    def write(self, fence: int) -> None:
        """A write arrives."""
        highest = self._guard.highest
        try:
            self._guard.check(fence, again=True)
        except FencedOut:
            self.stale += 1
            return
        self.accepted.append(fence)
        if fence < highest:
            raise AssertionError(f"{fence} was taken after {highest}")

    @property
    def went_back(self) -> bool:
        """Whether a write was taken after one with a greater fence."""
        return self.accepted != sorted(self.accepted)


@final
class Leading:
    """Candidates, leaders and resources of one world.

    Args:
        world: Where.
        names: How many names there are to lead.

    Attributes:
        names: They.
        resources: By name.
        terms: How many began.
        revoked: How many ended otherwise than by a crash or a resignation.
        faults: What must not be, by goal: ``C1`` a fence that is not above an earlier
            one, ``C3`` a leader that acted after it stood still.
        elected_s: When each name's last term began.
    """

    def __init__(self, world: World, names: int) -> None:
        self.names = [f"name {number}" for number in range(names)]
        self.resources = {name: Resource() for name in self.names}
        self.terms = self.revoked = 0
        self.faults: dict[str, list[str]] = {"C1": [], "C3": []}
        self.elected_s: dict[str, float] = {}
        self._world = world
        self._random = Random(world.seed ^ 0x6C656164)
        self._known: dict[Watch, None] = {}
        self._fences: dict[tuple[str, int], str] = {}
        self._frozen_s: dict[int, float] = {}
        self._seen: deque[_Look] = deque()
        self._standing: dict[tuple[Watch, str], asyncio.Task[None]] = {}

    async def run(self, until_s: float) -> None:
        """Let candidates come and go until a true time."""
        while self._world.loop.true_s() < until_s:
            await asyncio.sleep(self._random.expovariate(1 / 0.5))
            running = self._awake()
            if running:
                watch = self._world.watches[self._random.choice(running)]
                self._toggle(watch, self._random.choice(self.names))

    async def look(self) -> None:
        """Look again and again who knows what, and put candidates on new nodes."""
        while True:
            self._look()
            await asyncio.sleep(_LOOK_S)

    def leaders(self, name: str) -> list[int]:
        """Machines whose candidate leads ``name`` now."""
        world = self._world
        return [i for i in world.running() if _fence(world.node(i), name) is not None]

    def problems(self) -> list[str]:
        """What does not hold of a cluster at rest: one leads, and all know who."""
        found = []
        for name in self.names:
            found += self._problems(name)
        return found

    def _problems(self, name: str) -> list[str]:
        world = self._world
        nodes = [world.node(i) for i in world.running()]
        standing = {
            node.name: [(c.node, c.priority) for c in node.candidates(name)]
            for node in nodes
        }
        wanted = next(iter(standing.values()))
        if any(seen != wanted for seen in standing.values()):
            return [f"{name}: the candidates differ: {standing}"]
        leading = [node.name for node in nodes if _fence(node, name) is not None]
        if leading != [node for node, _ in wanted[:1]]:
            return [f"{name}: {leading} lead, of the candidates {wanted}"]
        marks = {node.name: node.high_water(name) for node in nodes}
        age_s = world.loop.true_s() - self.elected_s.get(name, 0.0)
        if leading and age_s > SPREAD_S:
            (leader,) = (node for node in nodes if node.name == leading[0])
            fence = _fence(leader, name)
            if any(mark != fence for mark in marks.values()):
                return [f"{name}: {leader.name} has {fence}, and they know {marks}"]
        return []

    # Candidates.

    def _toggle(self, watch: Watch, name: str) -> None:
        task = self._standing.pop((watch, name), None)
        if task is not None and not task.done():
            task.cancel()
            return
        index = watch.node.machine.index
        work = self._stand(watch, name, self._random.choice((0, 0, 0, 1)))
        self._standing[watch, name] = self._world.spawn(index, work)

    async def _stand(self, watch: Watch, name: str, priority: int) -> None:
        try:
            terms = watch.node.leadership(name, priority=priority)
            async with aclosing(terms):
                async for term in terms:
                    async with term:
                        await self._lead(watch, name, term)
        except (BarrelError, asyncio.CancelledError):
            return  # The node stops, or is of a cluster no more.

    async def _lead(self, watch: Watch, name: str, term: Term) -> None:
        began_s = self._world.loop.true_s()
        while True:
            await asyncio.sleep(self._random.uniform(*_STEP_S))
            self._need_awake(watch, name, term, began_s)
            self._write(name, term.fence)

    def _write(self, name: str, fence: int) -> None:
        # Soon, mostly; but a write may lie somewhere until others lead.
        late_s = _LATE_S * self._random.random() ** 4
        self._world.loop.after(late_s, self.resources[name].write, fence)

    def _need_awake(self, watch: Watch, name: str, term: Term, began_s: float) -> None:
        """Whoever stood still for longer than others wait must know it by now."""
        index = watch.node.machine.index
        since_s = self._frozen_s.get(index)
        if since_s is None or since_s < began_s:
            return
        still_ms = (self._world.loop.true_s() - since_s) * 1_000
        limit_ms = watch.node.parts.leaders.pause_ms + _PAUSE_SLACK_MS
        if still_ms * watch.node.machine.clock.rate > limit_ms:
            self.faults["C3"].append(
                f"{watch.node.name} led {name} by {term} after {still_ms:.0f} ms"
            )

    # What is told.

    def _told(self, watch: Watch, event: LeaderEvent) -> None:
        if isinstance(event, Revoked):
            self.revoked += 1
            return
        name, fence, node = str(event.name), event.fence, watch.node.name
        self.terms += 1
        self.elected_s[name] = self._world.loop.true_s()
        other = self._fences.setdefault((name, fence), node)
        if other != node:
            self.faults["C1"].append(f"{name}: {other} and {node} both got {fence}")
        self._need_greater(watch, event)

    def _need_greater(self, watch: Watch, event: Elected) -> None:
        """A fence is above all that was known in its component, and had time to spread.

        Who is frozen, or was connected for a shorter time, has told nobody.
        """
        index, now_s = watch.node.machine.index, self._world.loop.true_s()
        if not self._seen or self._seen[0].at_s > now_s - SPREAD_S:
            return
        together = set(self._seen[-1].component_of(index))
        for seen in self._seen:
            together &= set(seen.component_of(index))
        name = str(event.name)
        for other in sorted(together):
            mark = self._seen[0].marks.get(other, {}).get(name, 0)
            if mark >= event.fence:
                self.faults["C1"].append(
                    f"{now_s:.3f} s: {watch.node.name} leads {name} with {event.fence},"
                    f" and machine {other} has known {mark}"
                )

    # Looking.

    def _awake(self) -> list[int]:
        world = self._world
        return [i for i in world.running() if not world.machines[i].host.frozen]

    def _look(self) -> None:
        world = self._world
        now_s = world.loop.true_s()
        for index in world.running():
            watch = world.watches[index]
            if world.machines[index].host.frozen:
                self._frozen_s.setdefault(index, now_s)
                continue
            self._frozen_s.pop(index, None)
            if watch not in self._known:
                self._known[watch] = None
                self._follow(watch)
        self._seen.append(_Look(world, self._awake(), self.names))
        while len(self._seen) > 1 and self._seen[1].at_s <= now_s - SPREAD_S:
            self._seen.popleft()

    def _follow(self, watch: Watch) -> None:
        leaders = watch.node.parts.leaders
        leaders.listen(lambda event: self._told(watch, event))
        for name in self.names:
            if self._random.random() < _STAND:
                self._toggle(watch, name)


@final
class _Look:
    """Who was connected, and knew which fences, at one moment."""

    def __init__(self, world: World, awake: list[int], names: list[str]) -> None:
        self.at_s = world.loop.true_s()
        self.marks = {
            index: {name: world.node(index).high_water(name) or 0 for name in names}
            for index in awake
        }
        self._components = _components(world, awake)

    def component_of(self, index: int) -> list[int]:
        """The machines that could hear each other, with ``index``."""
        for component in self._components:
            if index in component:
                return component
        return []


def _fence(node: SimNode, name: str) -> int | None:
    """Its fence, if it leads. A node itself would first see whether it stood still."""
    return node.parts.leaders._machine.fence(name)


def _components(world: World, awake: list[int]) -> list[list[int]]:
    """Machines that are peers of each other, with nothing between them that is cut."""
    names = {world.node(index).name: index for index in awake}
    ways: dict[int, list[int]] = {index: [] for index in awake}
    for index in awake:
        for peer in world.node(index).active_view():
            other = names.get(peer)
            if (
                other is None
                or world.node(index).name not in world.node(other).active_view()
            ):
                continue
            pair = world.machines[index], world.machines[other]
            if not (world.network.is_cut(*pair) or world.network.is_cut(*pair[::-1])):
                ways[index].append(other)
    found: list[list[int]] = []
    left = dict.fromkeys(awake)
    while left:
        border, component = [next(iter(left))], []
        while border:
            index = border.pop()
            if index in left:
                del left[index]
                component.append(index)
                border.extend(ways[index])
        found.append(component)
    return found
