"""A network of member machines with a shard machine beside each."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any

from barrel_p2p.core.effects import CancelTimer, Effect, Publish, SetTimer
from barrel_p2p.core.inputs import TimerFired
from barrel_p2p.services.member_inputs import ClockAhead, LeaseSettings
from barrel_p2p.services.shard_events import Acquired, Released
from barrel_p2p.services.shard_inputs import (
    Begin,
    Heard,
    Paused,
    Settle,
    ShardSettings,
)
from barrel_p2p.services.shard_machine import ShardMachine
from tests.member_net import MemberNet, Node

__all__ = ["HEARTBEAT_MS", "OVERLAP_MS_MAX", "SIZE", "TTL_MS", "ShardNet", "living"]

TTL_MS, HEARTBEAT_MS = 6_000, 2_000
OVERLAP_MS_MAX = TTL_MS + 2 * HEARTBEAT_MS
SIZE = 64


class ShardNet(MemberNet):
    """A network of members, with a shard machine beside each, and who owned what when.

    Attributes:
        spans: Partition to (from, to, node), of the lives that ran meanwhile.
    """

    def __init__(self, count: int, seed: int, **settings: Any) -> None:
        self.shards: dict[str, ShardMachine] = {}
        self.spans: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
        self._since: dict[tuple[str, int], int] = {}
        self._seeds: dict[str, int] = {}
        super().__init__(count, seed, settings=LeaseSettings(), **settings)

    def start(self, name: str, creation: int) -> Node:
        self.shards[name] = ShardMachine(
            name, SIZE, settings=ShardSettings(ttl_ms=TTL_MS, grace_ms=500)
        )
        self._tell(name, Begin((name,), waits=True))
        return super().start(name, creation)

    def stop(self, name: str, for_ms: int) -> None:
        super().stop(name, for_ms)

        def resumed() -> None:
            self._tell(name, Paused())
            heard = self.nodes[name].machine.heard
            self.after(600, lambda: self._listen(name, heard))

        self._end_spans(name)  # It can do no harm meanwhile.
        self.after(for_ms, resumed)

    def kill(self, name: str) -> None:
        super().kill(name)
        self._end_spans(name)

    def _end_spans(self, name: str) -> None:
        for (node, partition), since in list(self._since.items()):
            if node == name:
                del self._since[node, partition]
                self.spans[partition].append((since, self.now, name))

    def overlap_ms(self) -> int:
        """For how long a partition had two owners that ran, at most."""
        longest = 0
        now = [(p, (at, self.now, node)) for (node, p), at in self._since.items()]
        for partition in range(SIZE):
            spans = self.spans[partition] + [s for p, s in now if p == partition]
            for i, (start, end, node) in enumerate(spans):
                for start2, end2, node2 in spans[:i]:
                    if node != node2:
                        longest = max(longest, min(end, end2) - max(start, start2))
        return longest

    def need_one_owner_each(self, among: list[str]) -> None:
        owned = [p for name in among for p in self.shards[name].owned()]
        assert sorted(owned) == list(range(SIZE))
        assert len({tuple(self.shards[name].ring.owners) for name in among}) == 1

    def _perform(self, node: Node, effect: Effect) -> None:
        super()._perform(node, effect)
        if isinstance(effect, Publish) and not isinstance(effect.event, ClockAhead):
            self._tell(node.name, effect.event)
            self.after(0, lambda: self._tell(node.name, Settle()))

    def _listen(self, name: str, heard: int) -> None:
        if self.shards[name].seeded:
            return
        if self.nodes[name].machine.heard != heard:
            self._tell(name, Heard())
            self._tell(name, Settle())
        self.after(100, lambda: self._listen(name, heard))

    def _tell(self, name: str, event: object) -> None:
        node = self.nodes.get(name) if hasattr(self, "nodes") else None
        if node is not None and (not node.running or node.stopped_until > self.now):
            return
        for effect in self.shards[name].handle(event, now_ms=self.now):
            match effect:
                case Publish(Acquired(partition)):
                    self._since[name, partition] = self.now
                case Publish(released):
                    assert isinstance(released, Released)
                    since = self._since.pop((name, released.partition), self.now)
                    span = since, self.now, name
                    self.spans[released.partition].append(span)
                case SetTimer("seed", delay_ms):
                    token = self._seeds[name] = self._seeds.get(name, 0) + 1
                    self.after(delay_ms, partial(self._seed, name, token))
                case CancelTimer("seed"):
                    self._seeds[name] = self._seeds.get(name, 0) + 1

    def _seed(self, name: str, token: int) -> None:
        if self._seeds[name] == token:
            self._tell(name, TimerFired("seed"))


def living(net: ShardNet) -> list[str]:
    """The names of the nodes that run."""
    return [name for name, node in net.nodes.items() if node.running]
