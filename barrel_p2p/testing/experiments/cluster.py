"""A simulated cluster of real machines, and how its nodes come to know each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, final

from barrel_p2p.broadcast.machine import Plumtree
from barrel_p2p.broadcast.messages import Gossip
from barrel_p2p.core.effects import Machine
from barrel_p2p.membership.machine import HyParView
from barrel_p2p.replica.machine import ReplicaMachine
from barrel_p2p.testing.overlay.chance import SimRng
from barrel_p2p.testing.overlay.faults import Detection
from barrel_p2p.testing.overlay.graph import Shape, shape
from barrel_p2p.testing.overlay.nodes import SimNode
from barrel_p2p.testing.overlay.replica import Update
from barrel_p2p.testing.overlay.stack import Stack
from barrel_p2p.testing.overlay.traffic import Sent, Traffic, relative_redundancy
from barrel_p2p.testing.overlay.world import World

__all__ = ["ENCODED_ONE_IN", "ROUND_MS", "Arrivals", "Cluster", "Policy"]

ROUND_MS: Final = 10_000
"""A round: ``shuffle_period`` as it is by default."""

ENCODED_ONE_IN: Final = 10
"""Seeds of which one passes every message through its encoding."""

type Policy = Literal["single", "three", "random"]
"""Whom a newcomer contacts: the first node, the first three, or a random one."""

type Arrivals = Literal["at once", "1 % a round"]


@final
class Cluster:
    """A world of real machines with traffic on it.

    Args:
        nodes: How many may ever run.
        seed: Of everything.
        policy: Whom newcomers contact.
        latency_ms: Least and greatest one-way latency of a pair.
        detection: How soon channels notice that their other end is gone.
        is_traced: Keep a hash of all events.
        encodes: Pass every message through its encoding; None: if the seed says so.
        has_replica: See ``Stack``.
        wrap_membership: See ``Stack``.
        wrap_broadcast: See ``Stack``.
        wrap_replica: See ``Stack``.
    """

    def __init__(
        self,
        nodes: int,
        seed: int,
        *,
        policy: Policy = "random",
        latency_ms: tuple[int, int] = (1, 20),
        detection: Detection | None = None,
        is_traced: bool = False,
        encodes: bool | None = None,
        has_replica: bool = False,
        wrap_membership: Callable[[HyParView], Machine] | None = None,
        wrap_broadcast: Callable[[Plumtree], Machine] | None = None,
        wrap_replica: Callable[[ReplicaMachine], Machine] | None = None,
    ) -> None:
        self.traffic = Traffic()
        self.stack = Stack(
            self.traffic,
            has_replica=has_replica,
            wrap_membership=wrap_membership,
            wrap_broadcast=wrap_broadcast,
            wrap_replica=wrap_replica,
        )
        self.world = World(
            nodes,
            seed=seed,
            build=self.stack.build,
            latency_ms=latency_ms,
            detection=detection,
            is_traced=is_traced,
            encodes=seed % ENCODED_ONE_IN == 0 if encodes is None else encodes,
        )
        self.rng = SimRng(seed ^ 0x636C7573746572)
        self._policy: Policy = policy
        self._started: list[int] = []

    def start(self, index: int) -> None:
        """Start a node for the first time, with contacts by the policy."""
        earlier = self._started
        if self._policy == "single":
            contacts = earlier[:1]
        elif self._policy == "three":
            contacts = earlier[:3]
        else:
            contacts = self._one_alive()
        self.stack.contacts[index] = contacts
        earlier.append(index)
        self.world.start(index)

    def _one_alive(self) -> list[int]:
        """A random one of those that are running; nobody if nobody is."""
        earlier, nodes = self._started, self.world.nodes
        for _ in range(10 * len(earlier)):
            index = earlier[self.rng.below(len(earlier))]
            if nodes[index].is_running:
                return [index]
        return []

    def start_all(self, count: int, arrivals: Arrivals = "at once") -> None:
        """Start the nodes 0 to ``count - 1``; returns when the last was started."""
        if arrivals == "at once":
            for index in range(count):
                self.start(index)
            return
        batch = max(1, count // 100)
        for first in range(0, count, batch):
            for index in range(first, min(first + batch, count)):
                self.world.later(self.rng.below(ROUND_MS), _Start(self, index))
            self.world.run_for(ROUND_MS)

    def rounds(self, count: float) -> None:
        """Let that many rounds pass."""
        self.world.run_for(int(count * ROUND_MS))

    def shape(self) -> Shape:
        """The overlay of the nodes that are alive, now."""
        return shape(self.world.running())

    def rounds_until_one(
        self,
        limit: float,
        *,
        step: float = 0.1,
        look: Callable[[float], object] = lambda passed: None,
    ) -> float:
        """Rounds until all who live are one component; infinite if above ``limit``.

        They have to be one at the end of ``limit`` rounds too: to be one for a moment
        is not enough.

        Args:
            limit: Rounds, which all pass.
            step: Rounds between two looks.
            look: Called after each with the rounds that have passed.
        """
        passed, found = 0.0, float("inf")
        while passed < limit - 1e-9:
            self.rounds(step)
            passed += step
            look(passed)
            if not self.shape().is_one:
                found = float("inf")
            elif found == float("inf"):
                found = passed
        return found

    def crash_share(self, share: float, *, spared: Sequence[int] = ()) -> list[SimNode]:
        """End that share of the running processes at once; returns who is left."""
        alive = [node.index for node in self.world.running()]
        doomed = [index for index in alive if index not in spared]
        count = min(len(doomed), round(share * len(alive)))
        self.world.crash(self.rng.sample(doomed, count))
        return self.world.running()

    def send(self, node: SimNode, wait_ms: int) -> tuple[Sent, float]:
        """Broadcast from ``node`` and let ``wait_ms`` pass.

        Returns:
            What became of it, and the redundancy of all that arrived meanwhile.
        """
        before = self.payloads()
        sent = self.traffic.send(node)
        self.world.run_for(wait_ms)
        return sent, self.redundancy(before)

    def update(self, node: SimNode, key: object, value: object) -> None:
        """Let ``node`` write to its replica; None removes the key."""
        node.rooms[1].feed(Update(key, value))

    def payloads(self) -> tuple[int, int]:
        """How many arrived so far, and how many of them were the first copy there."""
        return self.world.received[Gossip], self.traffic.arrived

    def redundancy(self, before: tuple[int, int]) -> float:
        """Relative redundancy of what arrived since ``payloads`` said ``before``."""
        received, arrived = self.payloads()
        return relative_redundancy(received - before[0], arrived - before[1])

    def any_of(self, nodes: Sequence[SimNode]) -> SimNode:
        """One of them, by chance."""
        return nodes[self.rng.below(len(nodes))]

    def digest(self) -> str:
        """The trace hash; empty if none is kept."""
        return "" if self.world.trace is None else self.world.trace.digest()


@final
class _Start:
    def __init__(self, cluster: Cluster, index: int) -> None:
        self._cluster, self._index = cluster, index

    def __call__(self) -> None:
        self._cluster.start(self._index)
