"""Links and monitors, plainly: one table for all nodes, and everything happens at once.

True of real nodes whenever whatever was sent has arrived before the next step.
"""

from __future__ import annotations

from collections import Counter

from barrel_p2p.core.terms import Pid

__all__ = ["SignalsModel"]

Told = tuple[Pid, str, object, str]


class SignalsModel:
    """Who lives, who is tied to whom, and what processes were told since last asked."""

    def __init__(self) -> None:
        self.alive: set[Pid] = set()
        self.apart: set[frozenset[str]] = set()  # pairs of nodes without a channel
        self.links: set[frozenset[Pid]] = set()
        self.monitors: dict[int, tuple[Pid, Pid]] = {}
        self.told: Counter[Told] = Counter()

    def link(self, me: Pid, to: Pid) -> None:
        if me == to or frozenset((me, to)) in self.links:
            return
        reason = self._absence(me, to)
        if reason is None:
            self.links.add(frozenset((me, to)))
        else:
            self.told[me, "exit", to, reason] += 1

    def unlink(self, me: Pid, to: Pid) -> None:
        self.links.discard(frozenset((me, to)))

    def monitor(self, me: Pid, ref: int, to: Pid) -> None:
        reason = self._absence(me, to)
        if reason is None:
            self.monitors[ref] = (me, to)
        else:
            self.told[me, "down", ref, reason] += 1

    def demonitor(self, me: Pid, ref: int) -> None:
        if self.monitors.get(ref, (None,))[0] == me:
            del self.monitors[ref]

    def end(self, pid: Pid, reason: str) -> None:
        self.alive.discard(pid)
        for pair in [pair for pair in self.links if pid in pair]:
            self.links.discard(pair)
            (other,) = pair - {pid}
            self.told[other, "exit", pid, reason] += 1
        for ref, (me, to) in list(self.monitors.items()):
            if pid in (me, to):
                del self.monitors[ref]
                if me != pid:
                    self.told[me, "down", ref, reason] += 1

    def lose(self, first: str, second: str) -> None:
        """The channel between two nodes ends, and comes back when it is wanted."""
        cut = {first, second}
        for pair in [pair for pair in self.links if {p.node for p in pair} == cut]:
            self.links.discard(pair)
            one, two = pair
            self.told[one, "exit", two, "noconnection"] += 1
            self.told[two, "exit", one, "noconnection"] += 1
        for ref, (me, to) in list(self.monitors.items()):
            if {me.node, to.node} == cut:
                del self.monitors[ref]
                self.told[me, "down", ref, "noconnection"] += 1

    def _absence(self, me: Pid, to: Pid) -> str | None:
        if frozenset((me.node, to.node)) in self.apart:
            return "noconnection"
        return None if to in self.alive else "noproc"
