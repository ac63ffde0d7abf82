"""Who is told of a room's events: processes of this node, and readers of streams.

An event reaches a process as the object itself, in its mailbox. One whose mailbox is
full misses events, and is told how many by ``Lagged`` as soon as there is room.
Bounded by ``SUBSCRIBERS_MAX`` processes; the streams are their readers' own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import Busy, InvalidValue, NoProc
from barrel_p2p.runtime.event_stream import EventStream, Lagged
from barrel_p2p.runtime.switch import Switch

__all__ = ["SUBSCRIBERS_MAX", "Filter", "Subscriptions"]

SUBSCRIBERS_MAX: Final = 65_536

type Filter = Callable[[Any], bool]
"""Whether a subscriber wants an event. One that raises wants none."""


def everything(event: object) -> bool:
    """Whether a subscriber without a filter wants ``event``."""
    return True


class Subscriptions:
    """The subscribers of one room.

    Args:
        switch: Finds the mailboxes of this node's processes.
        on_empty: Called whenever the last subscriber has gone.
    """

    def __init__(
        self, switch: Switch, *, on_empty: Callable[[], None] | None = None
    ) -> None:
        self._switch = switch
        self._on_empty = on_empty
        self._processes: dict[int, Filter] = {}
        self._missed: dict[int, int] = {}
        self._streams: dict[EventStream[Any], Filter] = {}

    def __len__(self) -> int:
        return len(self._processes) + len(self._streams)

    def add(self, pid: Pid, wanted: Filter = everything) -> None:
        """Tell the process ``pid`` from now on; again replaces its filter.

        Raises:
            InvalidValue: ``pid`` is none, of another node, or of an earlier life of
                this one.
            NoProc: There is no such process.
            Busy: ``SUBSCRIBERS_MAX`` processes are told already.
        """
        switch = self._switch
        if not isinstance(pid, Pid):
            raise InvalidValue(f"{pid!r} is no Pid")
        if pid.node != switch.name or pid.creation != switch.creation:
            raise InvalidValue(
                f"{pid!r} is no process of {switch.name}",
                hint="subscribe on the node that the process runs on",
            )
        if switch.box_of(pid.id) is None:
            raise NoProc(f"{pid!r} is no process")
        if pid.id not in self._processes and len(self._processes) >= SUBSCRIBERS_MAX:
            self._forget_ended()
            if len(self._processes) >= SUBSCRIBERS_MAX:
                raise Busy(
                    f"SUBSCRIBERS_MAX={SUBSCRIBERS_MAX} processes have subscribed"
                )
        self._processes[pid.id] = wanted

    def remove(self, pid: Pid) -> None:
        """Tell ``pid`` no more. Idempotent."""
        self._remove(pid.id)

    def stream(self, maxsize: int, wanted: Filter = everything) -> EventStream[Any]:
        """A stream of the events from now on.

        Raises:
            InvalidValue: ``maxsize`` is out of range.
        """
        stream: EventStream[Any] = EventStream(self._forget, maxsize=maxsize)
        self._streams[stream] = wanted
        return stream

    def tell(self, event: object) -> None:
        """Tell everyone who wants it."""
        for stream, wanted in list(self._streams.items()):
            if _wants(wanted, event):
                stream.put(event)
        for process, wanted in list(self._processes.items()):
            if _wants(wanted, event):
                self._tell_process(process, event)

    def room(self) -> int:
        """How many events the subscriber with the most room could take now; 0 if there
        is none that runs. Those with filters count like the others.
        """
        self._forget_ended()
        rooms = [stream.room for stream in self._streams]
        for process in self._processes:
            box = self._switch.box_of(process)
            if box is not None and not box.full:
                rooms.append(max(box.limit - len(box), 1))
        return max(rooms, default=0)

    def close(self) -> None:
        """End the streams, and forget the processes. Idempotent."""
        for stream in list(self._streams):
            stream.close()
        for process in list(self._processes):
            self._remove(process)

    def _tell_process(self, process: int, event: object) -> None:
        box = self._switch.box_of(process)
        if box is None:
            self._remove(process)
            return
        missed = self._missed.get(process, 0)
        if box.full:
            self._missed[process] = missed + 1
            return
        if missed:
            del self._missed[process]
            box.offer(Lagged(missed))
        box.offer(event)

    def _forget_ended(self) -> None:
        for process in list(self._processes):
            if self._switch.box_of(process) is None:
                self._remove(process)

    def _remove(self, process: int) -> None:
        self._missed.pop(process, None)
        if self._processes.pop(process, None) is not None:
            self._look_empty()

    def _forget(self, stream: EventStream[Any]) -> None:
        if self._streams.pop(stream, None) is not None:
            self._look_empty()

    def _look_empty(self) -> None:
        if self._on_empty is not None and not len(self):
            self._on_empty()


def _wants(wanted: Filter, event: object) -> bool:
    try:
        return bool(wanted(event))
    except Exception:  # noqa: BLE001 -- a filter is somebody else's code
        return False
