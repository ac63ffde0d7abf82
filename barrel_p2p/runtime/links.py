"""Links: two processes that end together.

A link that crosses a channel exists on both nodes, and either process may undo it while
the other makes it anew. Each side numbers what it adds (its tag), and UNLINK names the
tags its sender had seen, so it removes those and no later ones. Frames of a pair of
processes arrive in order, hence both nodes come to the same answer, and an exit signal
of a link that was undone finds no link.

Source: Shapiro et al., "A comprehensive study of CRDTs", INRIA RR-7506, 3.3.5 (OR-Set);
Erlang Reference Manual, "Processes", "Links".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from barrel_p2p.core.terms import Pid
from barrel_p2p.runtime.messages import ExitFrame, LinkFrame, UnlinkFrame
from barrel_p2p.runtime.tie_events import Dial, Effect, SendTie, Signal

__all__ = ["Links"]


@dataclass(slots=True)
class _Link:
    own: int  # our tag, 0 for none
    peer: int  # the other side's, 0 for none
    sent: bool  # false while our LINK waits for a channel


class Links:
    """The links of the processes of one node.

    Args:
        pid: The pid of a process of this node.
        alive: Whether a process of this node runs.
        process_max: Links of one process.
        peer_max: Links to processes of one peer.
    """

    def __init__(
        self,
        pid: Callable[[int], Pid],
        alive: Callable[[int], bool],
        *,
        process_max: int,
        peer_max: int,
    ) -> None:
        self._pid = pid
        self._alive = alive
        self._process_max = process_max
        self._peer_max = peer_max
        self._here = pid(0)
        self._of: dict[int, dict[Pid, _Link]] = {}
        self._to_peer: dict[str, dict[tuple[int, Pid], None]] = {}
        self._waiting: dict[str, dict[tuple[int, Pid], None]] = {}
        self._last_tag = 0

    def __len__(self) -> int:
        return sum(len(links) for links in self._of.values())

    def of(self, me: int) -> list[Pid]:
        """Whom process ``me`` is linked to."""
        return list(self._of.get(me, ()))

    def ask(self, me: int, to: Pid, creation: int | None) -> list[Effect]:
        """Process ``me`` links itself to ``to``."""
        if to == self._pid(me) or to in self._of.get(me, ()):
            return []
        if to.node == self._here.node:
            return self._ask_here(me, to)
        if creation is not None and creation != to.creation:
            return [Signal(me, to, "noproc", True)]
        if self._is_full(me) or self._is_peer_full(to.node):
            return [Signal(me, to, "system_limit", True)]
        self._last_tag += 1
        self._add(me, to, _Link(self._last_tag, 0, creation is not None))
        if creation is None:
            self._waiting.setdefault(to.node, {})[me, to] = None
            return [Dial(to.node)]
        return [SendTie(to.node, LinkFrame(self._pid(me), to, self._last_tag))]

    def undo(self, me: int, to: Pid) -> list[Effect]:
        """Process ``me`` undoes its link to ``to``."""
        link = self._remove(me, to)
        if link is None:
            return []
        if to.node == self._here.node:
            self._remove(to.id, self._pid(me))
            return []
        own = link.own if link.sent else 0
        if not own and not link.peer:
            return []
        return [SendTie(to.node, UnlinkFrame(self._pid(me), to, own, link.peer))]

    def on_link(self, message: LinkFrame) -> list[Effect]:
        """A peer's process links itself to one of ours."""
        me, other = message.to.id, message.sender
        if not self._is_ours(message.to):
            return [self._exit_frame(message.to, other, "noproc")]
        link = self._of.get(me, {}).get(other)
        if link is not None:
            link.peer = message.tag
            return []
        if self._is_full(me) or self._is_peer_full(other.node):
            return [self._exit_frame(message.to, other, "system_limit")]
        self._add(me, other, _Link(0, message.tag, True))
        return []

    def on_unlink(self, message: UnlinkFrame) -> list[Effect]:
        """A peer's process undoes what it knew of its link to one of ours."""
        link = self._of.get(message.to.id, {}).get(message.sender)
        if link is None or message.to.creation != self._here.creation:
            return []
        if link.own == message.peer_tag:
            link.own = 0
        if link.peer == message.tag:
            link.peer = 0
        if not link.own and not link.peer:
            self._remove(message.to.id, message.sender)
        return []

    def on_exit(self, message: ExitFrame) -> list[Effect]:
        """A peer's process ended that was linked to one of ours."""
        if message.to.creation != self._here.creation:
            return []
        if self._remove(message.to.id, message.sender) is None:
            return []  # Undone here, while the signal was under way.
        return [Signal(message.to.id, message.sender, message.reason, True)]

    def ended(self, me: int, reason: object) -> list[Effect]:
        """Process ``me`` is no more: tell all it was linked to."""
        effects: list[Effect] = []
        for other in self.of(me):
            link = self._remove(me, other)
            if other.node == self._here.node:
                self._remove(other.id, self._pid(me))
                effects.append(Signal(other.id, self._pid(me), reason, True))
            elif link is not None and (link.sent or link.peer):
                effects.append(self._exit_frame(self._pid(me), other, reason))
        return effects

    def channel_up(self, node: str, creation: int) -> list[Effect]:
        """Send what waited for a channel to ``node``."""
        effects: list[Effect] = []
        for me, to in self._waiting.pop(node, {}):
            link = self._of[me][to]
            if to.creation != creation:
                self._remove(me, to)
                effects.append(Signal(me, to, "noproc", True))
                continue
            link.sent = True
            effects.append(SendTie(node, LinkFrame(self._pid(me), to, link.own)))
        return effects

    def node_lost(self, node: str) -> list[Effect]:
        """End every link to ``node``."""
        effects: list[Effect] = []
        for me, to in list(self._to_peer.get(node, ())):
            self._remove(me, to)
            effects.append(Signal(me, to, "noconnection", True))
        return effects

    def _ask_here(self, me: int, to: Pid) -> list[Effect]:
        if not self._is_ours(to):
            return [Signal(me, to, "noproc", True)]
        if self._is_full(me) or self._is_full(to.id):
            return [Signal(me, to, "system_limit", True)]
        self._add(me, to, _Link(0, 0, True))
        self._add(to.id, self._pid(me), _Link(0, 0, True))
        return []

    def _is_ours(self, pid: Pid) -> bool:
        return pid.creation == self._here.creation and self._alive(pid.id)

    def _is_full(self, me: int) -> bool:
        return len(self._of.get(me, ())) >= self._process_max

    def _is_peer_full(self, node: str) -> bool:
        return len(self._to_peer.get(node, ())) >= self._peer_max

    def _exit_frame(self, ours: Pid, other: Pid, reason: object) -> SendTie:
        return SendTie(other.node, ExitFrame(ours, other, True, reason))

    def _add(self, me: int, to: Pid, link: _Link) -> None:
        self._of.setdefault(me, {})[to] = link
        if to.node != self._here.node:
            self._to_peer.setdefault(to.node, {})[me, to] = None

    def _remove(self, me: int, to: Pid) -> _Link | None:
        links = self._of.get(me)
        link = None if links is None else links.pop(to, None)
        if links is None or link is None:
            return None
        if not links:
            del self._of[me]
        for table in (self._to_peer, self._waiting):
            keys = table.get(to.node)
            if keys is not None:
                keys.pop((me, to), None)
                if not keys:
                    del table[to.node]
        return link
