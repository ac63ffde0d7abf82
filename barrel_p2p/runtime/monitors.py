"""Monitors: one process is told, once, that another has ended.

A monitor across a channel has a half on each node: the watcher's, by its ref, and the
target's, by watcher and ref. Refs are never used again, so a DOWN that crosses a
DEMONITOR finds nothing.

Source: Erlang Reference Manual, "Processes", "Monitors".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from barrel_p2p.core.events import Down
from barrel_p2p.core.names import At
from barrel_p2p.core.terms import Pid, Ref
from barrel_p2p.errors import WireError
from barrel_p2p.runtime.messages import (
    DemonitorFrame,
    DownFrame,
    MonitorFrame,
    MonitorNameFrame,
)
from barrel_p2p.runtime.tie_events import (
    Dial,
    Effect,
    MonitorAsked,
    SendTie,
    TellDown,
)

__all__ = ["Monitors", "number_of", "ref_of"]

_WORD = (1 << 32) - 1


def ref_of(here: Pid, number: int) -> Ref:
    """The reference for ``number``, 0 to 2**64 - 1, of this life of a node."""
    return Ref(here.node, here.creation, (number >> 32, number & _WORD))


def number_of(here: Pid, ref: Ref) -> int | None:
    """The number in a reference of this life of the node; None for any other."""
    if (ref.node, ref.creation, len(ref.words)) != (here.node, here.creation, 2):
        return None
    high, low = ref.words
    return high << 32 | low


@dataclass(frozen=True, slots=True)
class _Monitor:
    owner: int
    target: Pid | At
    name: bytes
    watched: int  # the process of this node, 0 if it is another's


class Monitors:
    """The monitors of the processes of one node, and those that peers have on them.

    Args:
        pid: The pid of a process of this node.
        alive: Whether a process of this node runs.
        named: The process of this node that has a local name, by its ``key_bytes``.
        process_max: Monitors that one process may have.
        peer_max: Monitors that the processes of one peer may have here.
    """

    def __init__(
        self,
        pid: Callable[[int], Pid],
        alive: Callable[[int], bool],
        named: Callable[[bytes], int | None],
        *,
        process_max: int,
        peer_max: int,
    ) -> None:
        self._pid = pid
        self._alive = alive
        self._named = named
        self._process_max = process_max
        self._peer_max = peer_max
        self._here = pid(0)
        self._by_ref: dict[int, _Monitor] = {}
        self._of: dict[int, dict[int, None]] = {}
        self._on_node: dict[str, dict[int, None]] = {}
        self._waiting: dict[str, dict[int, None]] = {}
        # By the process of this node that is watched: who is told, under which ref.
        self._watchers: dict[int, dict[tuple[Pid, int], None]] = {}
        self._from_peer: dict[str, dict[tuple[Pid, int], int]] = {}

    def __len__(self) -> int:
        return len(self._by_ref) + sum(len(refs) for refs in self._from_peer.values())

    def ask(self, event: MonitorAsked) -> list[Effect]:
        """A process of this node monitors another."""
        target, ref = event.target, event.ref
        if len(self._of.get(event.me, ())) >= self._process_max:
            return [self._down(event.me, ref, target, "system_limit")]
        if target.node == self._here.node:
            return self._ask_here(event)
        if event.creation is not None and not _fits(target, event.creation):
            return [self._down(event.me, ref, target, "noproc")]
        monitor = _Monitor(event.me, target, event.name, 0)
        self._add(ref, monitor)
        if event.creation is None:
            self._waiting.setdefault(target.node, {})[ref] = None
            return [Dial(target.node)]
        return [self._request(ref, monitor)]

    def undo(self, me: int, ref: int) -> list[Effect]:
        """Process ``me`` undoes its monitor ``ref``."""
        monitor = self._by_ref.get(ref)
        if monitor is None or monitor.owner != me:
            return []
        waited = ref in self._waiting.get(monitor.target.node, ())
        self._remove(ref, monitor)
        if monitor.watched:
            self._forget(monitor.watched, self._pid(me), ref)
            return []
        if waited:
            return []
        # A name's request went out for process 0, and its end must not overtake it.
        node = monitor.target.node
        to = monitor.target if isinstance(monitor.target, Pid) else Pid(node, 0, 0)
        return [SendTie(node, DemonitorFrame(self._pid(me), to, ref))]

    def on_monitor(self, message: MonitorFrame | MonitorNameFrame) -> list[Effect]:
        """A peer's process monitors one of ours.

        Raises:
            WireError: It has a monitor with this ref already. Nothing has changed.
        """
        sender, ref = message.sender, message.ref
        watched = self._watched(message)
        if watched is None:
            ours = self._here if isinstance(message, MonitorNameFrame) else message.to
            return [SendTie(sender.node, DownFrame(ours, sender, ref, "noproc"))]
        known = self._from_peer.setdefault(sender.node, {})
        if (sender, ref) in known:
            raise WireError(
                f"monitor {ref} of {sender!r} was made twice", peer=sender.node
            )
        if len(known) >= self._peer_max:
            down = DownFrame(self._pid(watched), sender, ref, "system_limit")
            return [SendTie(sender.node, down)]
        known[sender, ref] = watched
        self._watchers.setdefault(watched, {})[sender, ref] = None
        return []

    def on_demonitor(self, message: DemonitorFrame) -> list[Effect]:
        """A peer's process has lost interest."""
        watched = self._from_peer.get(message.sender.node, {}).get(
            (message.sender, message.ref)
        )
        if watched is not None:
            self._forget(watched, message.sender, message.ref)
        return []

    def on_down(self, message: DownFrame) -> list[Effect]:
        """What one of ours monitored at a peer has ended."""
        monitor = self._by_ref.get(message.ref)
        if (
            monitor is None
            or monitor.target.node != message.sender.node
            or self._pid(monitor.owner) != message.to
        ):
            return []  # Undone meanwhile, or it was never this peer's to say.
        self._remove(message.ref, monitor)
        return [self._down(monitor.owner, message.ref, monitor.target, message.reason)]

    def ended(self, me: int, reason: object) -> list[Effect]:
        """Process ``me`` is no more: undo its monitors, tell its watchers."""
        effects: list[Effect] = []
        for ref in list(self._of.get(me, ())):
            effects += self.undo(me, ref)
        for watcher, ref in list(self._watchers.get(me, ())):
            self._forget(me, watcher, ref)
            if watcher.node == self._here.node:
                monitor = self._by_ref[ref]
                self._remove(ref, monitor)
                effects.append(self._down(watcher.id, ref, monitor.target, reason))
            else:
                down = DownFrame(self._pid(me), watcher, ref, reason)
                effects.append(SendTie(watcher.node, down))
        return effects

    def channel_up(self, node: str, creation: int) -> list[Effect]:
        """Send what waited for a channel to ``node``."""
        effects: list[Effect] = []
        for ref in self._waiting.pop(node, {}):
            monitor = self._by_ref[ref]
            if _fits(monitor.target, creation):
                effects.append(self._request(ref, monitor))
            else:
                self._remove(ref, monitor)
                effects.append(self._down(monitor.owner, ref, monitor.target, "noproc"))
        return effects

    def node_lost(self, node: str) -> list[Effect]:
        """Fire what was monitored on ``node``; forget who watched from there."""
        effects: list[Effect] = []
        for ref in list(self._on_node.get(node, ())):
            monitor = self._by_ref[ref]
            self._remove(ref, monitor)
            effects.append(
                self._down(monitor.owner, ref, monitor.target, "noconnection")
            )
        for (watcher, ref), watched in list(self._from_peer.get(node, {}).items()):
            self._forget(watched, watcher, ref)
        self._from_peer.pop(node, None)
        return effects

    def _ask_here(self, event: MonitorAsked) -> list[Effect]:
        target = event.target
        watched: int | None
        if isinstance(target, At):
            watched = self._named(event.name)
        else:
            watched = target.id if self._is_ours(target) else None
        if watched is None:
            return [self._down(event.me, event.ref, target, "noproc")]
        self._add(event.ref, _Monitor(event.me, target, event.name, watched))
        watchers = self._watchers.setdefault(watched, {})
        watchers[self._pid(event.me), event.ref] = None
        return []

    def _is_ours(self, pid: Pid) -> bool:
        return pid.creation == self._here.creation and self._alive(pid.id)

    def _watched(self, message: MonitorFrame | MonitorNameFrame) -> int | None:
        if isinstance(message, MonitorNameFrame):
            return self._named(message.name)
        return message.to.id if self._is_ours(message.to) else None

    def _request(self, ref: int, monitor: _Monitor) -> SendTie:
        me, target = self._pid(monitor.owner), monitor.target
        if isinstance(target, Pid):
            return SendTie(target.node, MonitorFrame(me, target, ref))
        return SendTie(target.node, MonitorNameFrame(me, monitor.name, ref))

    def _down(self, to: int, ref: int, target: Pid | At, reason: object) -> TellDown:
        return TellDown(to, Down(ref_of(self._here, ref), target, reason))

    def _add(self, ref: int, monitor: _Monitor) -> None:
        self._by_ref[ref] = monitor
        self._of.setdefault(monitor.owner, {})[ref] = None
        if not monitor.watched:
            self._on_node.setdefault(monitor.target.node, {})[ref] = None

    def _remove(self, ref: int, monitor: _Monitor) -> None:
        del self._by_ref[ref]
        _drop(self._of, monitor.owner, ref)
        _drop(self._on_node, monitor.target.node, ref)
        _drop(self._waiting, monitor.target.node, ref)

    def _forget(self, watched: int, watcher: Pid, ref: int) -> None:
        _drop(self._watchers, watched, (watcher, ref))
        _drop(self._from_peer, watcher.node, (watcher, ref))


def _fits(target: Pid | At, creation: int) -> bool:
    return isinstance(target, At) or target.creation == creation


def _drop[K, E](
    table: dict[K, dict[E, None]] | dict[K, dict[E, int]], key: K, entry: E
) -> None:
    # Take an entry out, and its inner table too when that was the last one.
    inner = table.get(key)
    if inner is not None:
        inner.pop(entry, None)
        if not inner:
            del table[key]
