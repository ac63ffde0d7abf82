"""Who on this node hears the broadcasts of a topic: processes, and readers of streams.

A topic is kept, and listened to, while somebody is subscribed to it. The last to go
takes it along, whether it said so, closed its stream, or ended.

Bounded by the subscribers: nothing is kept of a topic that has none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from barrel_p2p.broadcast.messages import Delivery
from barrel_p2p.core.events import Event
from barrel_p2p.core.terms import Pid
from barrel_p2p.runtime.event_stream import EventStream
from barrel_p2p.runtime.processes import Processes
from barrel_p2p.runtime.subscriptions import Subscriptions
from barrel_p2p.runtime.typed import read

__all__ = ["Broadcasted", "Listen", "Topics"]

type Listen = Callable[[str, Callable[[Delivery], None]], Callable[[], None]]
"""Begins to call a listener with the broadcasts of a topic; the result ends that."""


@final
@dataclass(frozen=True, slots=True)
class Broadcasted(Event):
    """A broadcast has reached this node.

    Args:
        topic: Whom it is for.
        payload: What was broadcast.
        message_id: The same on every node.
        own: Whether it began here.
    """

    topic: str
    payload: Any
    message_id: bytes
    own: bool


class Topics:
    """The topics of one node that have subscribers.

    Args:
        processes: The node's.
        listen: Where broadcasts come from.
    """

    def __init__(self, processes: Processes, listen: Listen) -> None:
        self._switch = processes.switch
        self._listen = listen
        self._topics: dict[str, _Topic] = {}
        self._topics_of: dict[int, dict[str, None]] = {}  # by number of the process
        processes.listen(self._ended)

    def __len__(self) -> int:
        return len(self._topics)

    def stream(self, topic: str, maxsize: int) -> EventStream[Broadcasted]:
        """A stream of the broadcasts of ``topic`` from now on.

        Raises:
            InvalidValue: ``topic`` or ``maxsize`` is out of range.
        """
        found = self._topic(topic)
        try:
            return found.subscribers.stream(maxsize)
        finally:
            self._drop_unheard(topic)

    def add(self, topic: str, pid: Pid) -> None:
        """Send the broadcasts of ``topic`` to the process ``pid``. Twice is once.

        Raises:
            InvalidValue: ``topic`` is out of range, or ``pid`` is of another node.
            NoProc: There is no such process.
            Busy: Too many have subscribed.
        """
        found = self._topic(topic)
        try:
            found.subscribers.add(pid)
            self._topics_of.setdefault(pid.id, {})[topic] = None
        finally:
            self._drop_unheard(topic)

    def remove(self, topic: str, pid: Pid) -> None:
        """Send it no more. Idempotent."""
        topics = self._topics_of.get(pid.id)
        if topics is None or pid != self._switch.pid(pid.id) or topic not in topics:
            return
        del topics[topic]
        if not topics:
            del self._topics_of[pid.id]
        found = self._topics.get(topic)
        if found is not None:
            found.subscribers.remove(pid)

    def close(self) -> None:
        """End all streams, and hear nothing any more. Idempotent."""
        self._topics_of.clear()
        for found in list(self._topics.values()):
            found.subscribers.close()

    def _topic(self, topic: str) -> _Topic:
        found = self._topics.get(topic)
        if found is None:
            subscribers = Subscriptions(
                self._switch, on_empty=lambda: self._drop_unheard(topic)
            )

            def hear(delivery: Delivery) -> None:
                payload = read(delivery.payload, self._switch.name)
                subscribers.tell(
                    Broadcasted(
                        delivery.topic, payload, delivery.message_id, delivery.own
                    )
                )

            found = _Topic(subscribers, self._listen(topic, hear))
            self._topics[topic] = found
        return found

    def _drop_unheard(self, topic: str) -> None:
        found = self._topics.get(topic)
        if found is not None and not len(found.subscribers):
            del self._topics[topic]
            found.forget()

    def _ended(self, process: int) -> None:
        pid = self._switch.pid(process)
        for topic in self._topics_of.pop(process, ()):
            found = self._topics.get(topic)
            if found is not None:
                found.subscribers.remove(pid)


@final
@dataclass(frozen=True, slots=True)
class _Topic:
    subscribers: Subscriptions
    forget: Callable[[], None]
