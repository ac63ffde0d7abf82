"""The replicated maps of one node: opened, found, closed, deleted.

Each map is a replica of its own, ``map/<name>``, and if it persists a file of its own.
Bounded by ``REPLICAS_MAX``, which counts them among all replicas.

Source: Barrel P2P documentation, "Replicated maps".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol, final

from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.core.clock import Clock
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.members import MemberEvent, MemberUp
from barrel_p2p.errors import InvalidValue, NotStarted
from barrel_p2p.replica.driver import Replicas
from barrel_p2p.runtime.switch import Switch
from barrel_p2p.services.map_lives import Lives
from barrel_p2p.services.map_options import MapOptions, check_map_name
from barrel_p2p.services.map_owner import MapOwner
from barrel_p2p.services.replicated_map import ReplicatedMap, no_such_map
from barrel_p2p.storage.replica_log import Log

__all__ = ["REPLICA_PREFIX", "MapFiles", "Maps"]

REPLICA_PREFIX: Final = "map/"
"""Before a map's name, it is the name of its replica."""

_FLUSH_S: Final = 0.5
_CATCH_UP_S: Final = 0.5
_SWEEP_S: Final = 60.0
_log = logging.getLogger("barrel_p2p.services")


class MapFiles(Protocol):
    """Where maps that persist are kept."""

    def open(self, name: str) -> Awaitable[Log]:
        """The store of one map, made if need be."""
        ...

    def delete(self, name: str) -> Awaitable[None]:
        """Remove the files of a map that is not open, if there are any."""
        ...


@final
class Maps:
    """All maps of one node.

    Args:
        node: This node's name.
        creation: This life of it.
        replicas: Carry the entries.
        switch: Finds the processes that listen.
        clock: Both kinds of time.
        hlc: Stamps what is written here.
        files: Keeps maps that persist; None for a node that keeps nothing.

    Attributes:
        shown: Map name to what readers see of it.
    """

    def __init__(
        self,
        node: str,
        creation: int,
        *,
        replicas: Replicas,
        switch: Switch,
        clock: Clock,
        hlc: HLC,
        files: MapFiles | None = None,
    ) -> None:
        self.shown: dict[str, Mapping[Any, Any]] = {}
        self._node = node
        self._creation = creation
        self._replicas = replicas
        self._switch = switch
        self._clock = clock
        self._hlc = hlc
        self._files = files
        self._lives = Lives(node, creation)
        self._complaints = Complaints(_log)
        self._maps: dict[str, ReplicatedMap[Any, Any]] = {}
        self._owners: dict[str, MapOwner] = {}
        self._logs: dict[str, Log] = {}
        self._opening = asyncio.Lock()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closed = False

    # Its life.

    def start(self, members: Mapping[str, int]) -> None:
        """Begin.

        Args:
            members: The creations of those who are members now. Further changes are to
                be told to ``member_changed``.
        """
        for node, creation in members.items():
            self.member_changed(MemberUp(node, creation))

    async def close(self) -> None:
        """Close all maps; their files stay. Idempotent."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        async with self._opening:
            with suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_S):
                    for owner in list(self._owners.values()):
                        await owner.flush()
            for name in list(self._maps):
                await self._end(name, self._stopped)

    def member_changed(self, event: MemberEvent) -> None:
        """A member came, or died."""
        was_gone = self._lives.told(event, self._clock.now_ms())
        pruned = [o for o in self._owners.values() if o.options.prune_on_peer_down]
        for owner in pruned:
            owner.reconsider(event.node)
        if was_gone and pruned:
            # Others may hold what was refused here while it was taken for gone.
            self._later("catch_up", _CATCH_UP_S, self._catch_up)

    # Maps.

    async def new(self, name: str, options: MapOptions) -> ReplicatedMap[Any, Any]:
        """Open a map on this node, or return the one that is open.

        Raises:
            InvalidValue: ``name`` is no name of a map, or it cannot persist here.
            Conflict: It is open with other options, which the text names; or
                ``REPLICAS_MAX`` replicas run here.
            StorageError: It persists, and its file cannot be opened.
            NotStarted: The node is stopping.
        """
        check_map_name(name)
        async with self._opening:
            if self._closed:
                raise self._stopped()
            there = self._maps.get(name)
            if there is not None:
                self._owners[name].options.check_same(name, options)
                return there
            log = await self._file(name) if options.persist else None
            try:
                return self._open(name, options, log)
            except BaseException:
                if log is not None:
                    await log.close()
                raise

    async def delete(self, name: str) -> None:
        """Stop a map on this node, and remove its files. Unknown names are fine.

        Raises:
            InvalidValue: ``name`` is no name of a map.
            StorageError: The files cannot be removed.
        """
        check_map_name(name)
        async with self._opening:
            log = self._logs.pop(name, None)
            if name in self._maps:
                shown = self._owners[name].shown
                await self._end(name, partial(no_such_map, name, self._node))
                shown.clear()
            if log is not None:
                await log.delete()
            elif self._files is not None:
                await self._files.delete(name)

    def get(self, name: str) -> ReplicatedMap[Any, Any]:
        """The open map of that name.

        Raises:
            NoSuchMap: This node has none.
        """
        found = self._maps.get(name)
        if found is None:
            raise no_such_map(name, self._node)
        return found

    def names(self) -> list[str]:
        """The maps that are open here, in the order in which they were opened."""
        return list(self._maps)

    def owner(self, name: str) -> MapOwner | None:
        """What is behind the map of that name, for whoever counts and looks."""
        return self._owners.get(name)

    # Inside.

    def _open(
        self, name: str, options: MapOptions, log: Log | None
    ) -> ReplicatedMap[Any, Any]:
        owner = MapOwner(
            name,
            options,
            node=self._node,
            creation=self._creation,
            hlc=self._hlc,
            clock=self._clock,
            lives=self._lives,
            complaints=self._complaints,
            log=log,
        )
        replica = REPLICA_PREFIX + name
        made: ReplicatedMap[Any, Any] = ReplicatedMap(
            owner, room=partial(self._replicas.room, replica), switch=self._switch
        )
        owner.begin(
            self._replicas.start(
                replica,
                owner,
                tombstone_ttl_ms=options.tombstone_ttl_ms,
                collect_every_ms=options.scan_ms,
            )
        )
        self._owners[name] = owner
        self._maps[name] = made
        self.shown[name] = owner.shown
        if log is not None:
            self._logs[name] = log
        if options.prune_on_peer_down:
            self._later("sweep", _SWEEP_S, self._sweep)
        return made

    async def _file(self, name: str) -> Log:
        if self._files is None:
            raise InvalidValue(
                f"map {name!r} is to persist, and {self._node} keeps nothing on disk"
            )
        return await self._files.open(name)

    async def _end(self, name: str, end: Any) -> None:
        made, owner = self._maps.pop(name), self._owners.pop(name)
        del self.shown[name]
        owner.end()
        made.close(end)
        log = self._logs.pop(name, None)
        if log is not None:
            await log.close()

    def _stopped(self) -> NotStarted:
        return NotStarted(f"{self._node} is stopping, and its maps are closed")

    def _later(self, what: str, seconds: float, act: Any) -> None:
        if what not in self._timers and not self._closed:
            loop = asyncio.get_running_loop()
            self._timers[what] = loop.call_later(seconds, act)

    def _catch_up(self) -> None:
        del self._timers["catch_up"]
        for owner in self._owners.values():
            if owner.options.prune_on_peer_down:
                owner.catch_up()

    def _sweep(self) -> None:
        del self._timers["sweep"]
        self._lives.sweep(self._clock.now_ms())
        if any(owner.options.prune_on_peer_down for owner in self._owners.values()):
            self._later("sweep", _SWEEP_S, self._sweep)
