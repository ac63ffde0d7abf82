"""Processes of this node that are sent events, each through a filter of its own.

A process whose mailbox is full misses events and is told how many, as ``Lagged``, with
the next one for which there is room. Who ends is forgotten.

Bounded by ``SUBSCRIBERS_MAX``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import Busy, InvalidValue
from barrel_p2p.runtime.event_stream import Lagged

__all__ = ["SUBSCRIBERS_MAX", "Subscribers"]

SUBSCRIBERS_MAX: Final = 65_536
"""Processes that one node sends its service events to."""


@final
class _Subscriber:
    __slots__ = ("missed", "wants")

    def __init__(self, wants: Callable[[Any], bool]) -> None:
        self.wants = wants
        self.missed = 0


class Subscribers:
    """Who is sent what.

    Args:
        node: The node's name.
        deliver: Puts a message into a process's mailbox unless that is full; whether
            the process has it, or needs it no more.
        watch: Monitors a process; its end is to be told to ``ended``.
        unwatch: Undoes that.

    Attributes:
        failed: Calls of filters that raised, or did not answer True or False.
    """

    def __init__(
        self,
        node: str,
        *,
        deliver: Callable[[Pid, object], bool],
        watch: Callable[[Pid], None],
        unwatch: Callable[[Pid], None],
    ) -> None:
        self.failed = 0
        self._node = node
        self._deliver = deliver
        self._watch = watch
        self._unwatch = unwatch
        self._by_pid: dict[Pid, _Subscriber] = {}

    def __len__(self) -> int:
        return len(self._by_pid)

    def add(self, pid: object, wants: Callable[[Any], bool]) -> None:
        """Send ``pid`` what ``wants`` lets pass; once more only changes the filter.

        Args:
            pid: A process of this node.
            wants: Called with the subject of each event, such as a service's name.

        Raises:
            InvalidValue: ``pid`` is no process of this node.
            Busy: There are ``SUBSCRIBERS_MAX``.
        """
        if not isinstance(pid, Pid) or pid.node != self._node:
            raise InvalidValue(
                f"{pid!r} is no process of this node, and only those can subscribe",
                hint="subscribe on its own node",
            )
        known = self._by_pid.get(pid)
        if known is not None:
            known.wants = wants
            return
        if len(self._by_pid) >= SUBSCRIBERS_MAX:
            raise Busy(f"SUBSCRIBERS_MAX={SUBSCRIBERS_MAX} processes have subscribed")
        self._by_pid[pid] = _Subscriber(wants)
        self._watch(pid)

    def remove(self, pid: Pid) -> None:
        """Send ``pid`` nothing any more. Idempotent."""
        if self._by_pid.pop(pid, None) is not None:
            self._unwatch(pid)

    def ended(self, pid: Pid) -> None:
        """``pid`` has ended."""
        self._by_pid.pop(pid, None)

    def tell(self, subject: object, event: object) -> None:
        """Send ``event`` to all who want to hear of ``subject``."""
        for pid, subscriber in list(self._by_pid.items()):
            if self._wanted(subscriber, subject):
                self._send(pid, subscriber, event)

    def _wanted(self, subscriber: _Subscriber, subject: object) -> bool:
        try:
            return subscriber.wants(subject) is True
        except Exception:  # noqa: BLE001 -- a filter is somebody else's code
            self.failed += 1
            return False

    def _send(self, pid: Pid, subscriber: _Subscriber, event: object) -> None:
        if subscriber.missed and self._deliver(pid, Lagged(subscriber.missed)):
            subscriber.missed = 0
        if subscriber.missed or not self._deliver(pid, event):
            subscriber.missed += 1
