"""A replicated map as programs hold it: read like a dict, written with ``await``.

Reading costs what a dict's method costs, and never waits. Of two writes to a key that
do not know of each other the later one stays, by the hybrid logical clocks of their
writers; the other was acknowledged, and is superseded.

Source: Barrel P2P documentation, "Replicated maps".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterator
from typing import Any, Final, final

from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import NoSuchMap, NotStarted
from barrel_p2p.runtime.event_stream import EVENTS_MAX, EventStream
from barrel_p2p.runtime.subscriptions import Subscriptions
from barrel_p2p.runtime.switch import Switch
from barrel_p2p.services.map_events import MapEvent, MapPut
from barrel_p2p.services.map_options import MapOptions
from barrel_p2p.services.map_owner import MapOwner
from barrel_p2p.services.map_stats import MapStats

__all__ = ["ReplicatedMap", "no_such_map"]

_BURST: Final = 64
"""Writes after which a writer lets others run, though nothing made it wait."""


def _anything(value: object) -> bool:
    return True


@final
class ReplicatedMap[K: Hashable, V]:
    """One map of this node; ``Node.new_map`` opens it.

    Values are shared with all who read them: do not change what is returned.

    Args:
        owner: Its entries.
        room: Waits until gossip has room for what is written.
        switch: Finds the processes of this node.

    Attributes:
        name: Its name, the same on every node that has it.
    """

    __slots__ = (
        "__weakref__",
        "_burst",
        "_end",
        "_owner",
        "_room",
        "_shown",
        "_subscriptions",
        "_switch",
        "_waiting",
        "name",
    )

    def __init__(
        self, owner: MapOwner, *, room: Callable[[], Awaitable[None]], switch: Switch
    ) -> None:
        self.name = owner.name
        self._owner = owner
        self._shown: dict[K, V] = owner.shown
        self._room = room
        self._switch = switch
        self._subscriptions = Subscriptions(switch, on_empty=self._unheard)
        self._waiting: dict[K, list[tuple[Callable[[V], bool], Any]]] = {}
        self._burst = 0
        self._end: Callable[[], Exception] | None = None

    def __repr__(self) -> str:
        return f"<ReplicatedMap {self.name!r}, {len(self)} keys>"

    @property
    def options(self) -> MapOptions:
        """What it was opened with."""
        return self._owner.options

    def stats(self) -> MapStats:
        """What it holds, what it has refused, and how its disk is."""
        return self._owner.stats()

    # ---- writing

    async def put(self, key: K, value: V) -> None:
        """Write ``value`` under ``key``, here and on every node that has the map.

        Args:
            key: A key term: text, bytes, an integer, an atom, a pid, or a tuple.
            value: A term. Containers are copied.

        Raises:
            InvalidValue: The validator refuses it; or the map persists, and it holds a
                pid or a reference. Nothing has changed.
            NotEncodable: The key is no key term, or the value no term, or larger than
                ``DELTA_BYTES_MAX``. Nothing has changed.
            StorageError: The map persists, and the disk did not take it. Nothing has
                changed.
            Busy: The map is full, or too much waits for the disk.
            NoSuchMap, NotStarted: The map was deleted, or the node stopped.

        Guarantee:
            When it returns, it is on this node's disk if the map persists, everybody
            here reads it, and the others are being told. A write of another node that
            is later by its clock may take its place, here too.
        """
        if self._end is not None:
            raise self._end()
        committed = self._owner.put(key, value)
        if committed is not None:
            await asyncio.shield(committed)
            if self._end is not None:
                raise self._end()
        self._burst += 1
        if self._burst >= _BURST:
            self._burst = 0
            await asyncio.sleep(0)
            await self._room()

    async def remove(self, key: K) -> None:
        """Remove ``key`` everywhere. One that is not there is removed all the same: a
        write of it that has not arrived yet does not come back.

        Raises:
            NotEncodable, StorageError, NoSuchMap, NotStarted: As for ``put``.
            Busy: As for ``put``, if nothing is known of such a key.
        """
        if self._end is not None:
            raise self._end()
        committed = self._owner.remove(key)
        if committed is not None:
            await asyncio.shield(committed)
            if self._end is not None:
                raise self._end()
        self._burst += 1
        if self._burst >= _BURST:
            self._burst = 0
            await asyncio.sleep(0)
            await self._room()

    delete = remove

    async def reopen(self) -> None:
        """Take writes again, after the disk had failed and was mended.

        The file is read anew. A write that failed may be among what it holds, and is
        merged; what was learned meanwhile is written. Does nothing to a map whose disk
        is well, or that keeps nothing.

        Raises:
            StorageError: It still cannot be read or written; reading the map goes on.
            NoSuchMap, NotStarted: As for ``put``.
        """
        if self._end is not None:
            raise self._end()
        await self._owner.reopen()

    # ---- reading

    def get(self, key: K, default: V | None = None) -> V | None:
        """The value under ``key``, or ``default`` if there is none."""
        return self._shown.get(key, default)

    def __getitem__(self, key: K) -> V:
        return self._shown[key]

    def __contains__(self, key: object) -> bool:
        return key in self._shown

    def __iter__(self) -> Iterator[K]:
        """The keys there are now, whatever is written meanwhile."""
        return iter(list(self._shown))

    def __len__(self) -> int:
        return len(self._shown)

    def keys(self) -> list[K]:
        """The keys, in no order that means anything."""
        return list(self._shown)

    def items(self) -> list[tuple[K, V]]:
        """The keys, each with its value, in the order of ``keys``."""
        return list(self._shown.items())

    to_list = items

    # ---- hearing of changes

    def changes(
        self, *, snapshot: bool = False, maxsize: int = 1_024
    ) -> EventStream[MapEvent]:
        """What changes from now on, whoever writes it: ``MapPut`` and ``MapRemove``.

        Args:
            snapshot: First a ``MapPut`` for every key that there is, so that whoever
                reads on knows the whole map and misses nothing.
            maxsize: Changes that may wait, beside those of the snapshot. When there
                are more, the oldest go, and ``Lagged`` says how many.

        Raises:
            NoSuchMap, NotStarted: As for ``put``.
            InvalidValue: ``maxsize`` is out of range.
        """
        if self._end is not None:
            raise self._end()
        if not snapshot:
            stream = self._subscriptions.stream(maxsize)
        else:
            room = min(maxsize + len(self._shown), max(EVENTS_MAX, maxsize))
            stream = self._subscriptions.stream(room)
            for key, value in self._shown.items():
                stream.put(MapPut(self.name, key, value))
        self._heard()
        return stream

    async def wait_for(
        self,
        key: K,
        pred: Callable[[V], bool] = _anything,
        *,
        timeout: float | None = None,
    ) -> V:
        """The value under ``key``, as soon as there is one for which ``pred`` is true.

        Args:
            key: A key term.
            pred: Asked about the value that is there, and about each one that comes.
            timeout: Seconds; None waits for ever.

        Raises:
            TimeoutError: There was none in time.
            NoSuchMap, NotStarted: The map was deleted, or the node stopped.
            Exception: What ``pred`` raised.
        """
        if self._end is not None:
            raise self._end()
        if key in self._shown and pred(self._shown[key]):
            return self._shown[key]
        found: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        waiter = (pred, found)
        self._waiting.setdefault(key, []).append(waiter)
        self._heard()
        try:
            async with asyncio.timeout(timeout):
                return await found
        finally:
            waiting = self._waiting.get(key, [])
            if waiter in waiting:
                waiting.remove(waiter)
                if not waiting:
                    del self._waiting[key]
            self._unheard()

    async def subscribe(self, pid: Pid | None = None) -> None:
        """Send every change to a process: the events of ``changes``.

        Args:
            pid: A process of this node; None is the one that asks. Again is no harm.

        Raises:
            InvalidValue: It is a process of another node.
            NoProc: It has ended.
            NoSuchMap, NotStarted: As for ``put``; NotStarted also where no process
                runs and ``pid`` is None.
        """
        if self._end is not None:
            raise self._end()
        self._subscriptions.add(pid or self._own_pid())
        self._heard()

    async def unsubscribe(self, pid: Pid | None = None) -> None:
        """Send them no more. Idempotent."""
        self._subscriptions.remove(pid or self._own_pid())

    # ---- inside

    def close(self, end: Callable[[], Exception]) -> None:
        """End it: ``end()`` is raised from now on. For ``Maps``."""
        self._end = end
        self._subscriptions.close()
        for waiting in self._waiting.values():
            for _, found in waiting:
                if not found.done():
                    found.set_exception(end())

    def _heard(self) -> None:
        self._owner.listener = self._told

    def _unheard(self) -> None:
        # Nobody's events need not be made.
        if not self._waiting and not len(self._subscriptions):
            self._owner.listener = None

    def _told(self, event: MapEvent) -> None:
        if type(event) is MapPut:
            for waiter in list(self._waiting.get(event.key, ())):
                _ask(waiter, event.value)
        self._subscriptions.tell(event)

    def _own_pid(self) -> Pid:
        here = self._switch.origin_here()
        if here.id == 0:
            raise NotStarted(
                "this code is no process and has no pid",
                hint="`async with node.mailbox() as me` gives it one",
            )
        return self._switch.pid(here.id)


def no_such_map(name: object, node: str) -> NoSuchMap:
    """The error that says so."""
    return NoSuchMap(
        f"{node} has no map {name!r:.80}",
        hint="open it with new_map, on every node that is to have it",
    )


def _ask(waiter: tuple[Callable[[Any], bool], Any], value: object) -> None:
    pred, found = waiter
    if found.done():
        return
    try:
        if pred(value):
            found.set_result(value)
    except Exception as error:  # noqa: BLE001 -- it is for whoever gave the predicate
        found.set_exception(error)
