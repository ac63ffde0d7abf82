"""What a node does with replicated maps, and the part of its start that opens them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import ConfigError, InvalidValue
from barrel_p2p.node.store import map_files
from barrel_p2p.services.map_options import MapOptions, check_map_name, named_validator
from barrel_p2p.services.maps import Maps
from barrel_p2p.services.replicated_map import ReplicatedMap

if TYPE_CHECKING:
    from barrel_p2p.node.parts import Parts

__all__ = ["MapNode", "maps"]

_NOTHING: Final[Mapping[str, Mapping[Any, Any]]] = {}


class MapNode(ABC):
    """The part of ``Node`` that is about replicated maps."""

    # What readers see, by map name: one look less for ``map_get``.
    _maps_shown: Mapping[str, Mapping[Any, Any]] = _NOTHING

    @abstractmethod
    def _overlay(self) -> Parts:
        """What the node is made of; NotStarted if it runs not, Conflict if hidden."""

    async def new_map(
        self,
        name: str,
        *,
        validator: Callable[[Any], bool] | None = None,
        persist: bool = False,
        prune_on_peer_down: bool = False,
        tombstone_ttl_ms: int | None = None,
        scan_ms: int | None = None,
    ) -> ReplicatedMap[Any, Any]:
        """Open a replicated map on this node, or return the one that is open.

        A map is the same on all nodes that have opened it, and only on those.

        Args:
            name: 1 to ``MAP_NAME_BYTES_MAX`` bytes of printable text.
            validator: Asked about every value, here and when one comes from another
                node. Whatever is not True, or raises, refuses it.
            persist: Keep it on this node's disk.
            prune_on_peer_down: What a node wrote last is hidden while that node is
                dead, and dropped when it is gone.
            tombstone_ttl_ms: Milliseconds, 0 or more, for which a removed key is
                remembered; None takes ``barrel_p2p_map_tombstone_ttl_ms``.
            scan_ms: Milliseconds, 1 or more, between looks for removed keys to forget;
                None takes ``barrel_p2p_map_scan_ms``.

        Raises:
            InvalidValue: ``name`` or an option is out of range.
            Conflict: It is open with other options; the text names the difference.
            StorageError: It persists, and its file cannot be opened.
            NotStarted: The node does not run.
        """
        parts = self._overlay()
        options = _options(
            parts,
            {
                "validator": validator,
                "persist": persist,
                "prune_on_peer_down": prune_on_peer_down,
                "tombstone_ttl_ms": tombstone_ttl_ms,
                "scan_ms": scan_ms,
            },
        )
        return await parts.maps.new(name, options)

    async def delete_map(self, name: str) -> None:
        """Stop a map on this node and remove its file. Others keep what they have.

        Unknown names are fine.

        Raises:
            InvalidValue: ``name`` is no name of a map.
            StorageError: The file cannot be removed.
        """
        await self._overlay().maps.delete(name)

    def map(self, name: str) -> ReplicatedMap[Any, Any]:
        """The map of that name that is open on this node.

        Raises:
            NoSuchMap: There is none.
        """
        return self._overlay().maps.get(name)

    def map_names(self) -> list[str]:
        """The maps that are open on this node, in the order in which they were."""
        return self._overlay().maps.names()

    async def map_put(self, name: str, key: Any, value: Any) -> None:
        """``map(name).put(key, value)``: raises what either raises."""
        await self._overlay().maps.get(name).put(key, value)

    async def map_remove(self, name: str, key: Any) -> None:
        """``map(name).remove(key)``: raises what either raises."""
        await self._overlay().maps.get(name).remove(key)

    def map_get(self, name: str, key: Any, default: Any = None) -> Any:
        """The value under ``key``, or ``default``: also if there is no such map here.

        It costs about what a dict's lookup through a method costs.
        """
        try:
            return self._maps_shown[name].get(key, default)
        except KeyError:
            self._overlay()  # Raises if the node does not run.
            return default

    def map_keys(self, name: str) -> list[Any]:
        """The keys of a map; none if there is no such map here."""
        return list(self._shown(name))

    def map_to_list(self, name: str) -> list[tuple[Any, Any]]:
        """The keys of a map, each with its value; none if there is no such map here."""
        return list(self._shown(name).items())

    async def subscribe_map(self, name: str, pid: Pid | None = None) -> None:
        """Send ``MapPut`` and ``MapRemove`` of a map to a process.

        Args:
            name: The map's.
            pid: A process of this node; None is the one that asks.

        Raises:
            NoSuchMap: There is none.
            InvalidValue, NoProc: ``pid`` is no process of this node, or has ended.
        """
        await self._overlay().maps.get(name).subscribe(pid)

    async def unsubscribe_map(self, name: str, pid: Pid | None = None) -> None:
        """Send them no more. Idempotent.

        Raises:
            NoSuchMap: There is no such map.
        """
        await self._overlay().maps.get(name).unsubscribe(pid)

    def _shown(self, name: str) -> Mapping[Any, Any]:
        shown = self._maps_shown.get(name)
        if shown is None:
            self._overlay()
            return _NOTHING
        return shown


@asynccontextmanager
async def maps(parts: Parts) -> AsyncIterator[None]:
    """Open the maps that the configuration declares; close all maps at the end."""
    members = parts.members
    parts.maps = made = Maps(
        parts.name,
        parts.switch.creation,
        replicas=parts.replicas,
        switch=parts.switch,
        clock=parts.clock,
        hlc=parts.hlc,
        files=map_files(parts),
    )
    forget = members.listen(made.member_changed)
    made.start({node: members.life(node) or 0 for node in members.alive()})
    try:
        for name, options in parts.config.replicated_maps.items():
            await _declared(parts, name, options)
        parts.node._maps_shown = made.shown
        yield
    finally:
        parts.node._maps_shown = _NOTHING
        forget()
        await made.close()


async def _declared(parts: Parts, name: str, given: Mapping[str, object]) -> None:
    try:
        check_map_name(name)
        chosen = dict(given)
        validator = chosen.get("validator")
        if isinstance(validator, str):
            chosen["validator"] = named_validator(name, validator)
        options = _options(parts, chosen)
    except InvalidValue as error:
        raise ConfigError(
            f"replicated_maps: map {name!r:.80}: {error}", hint=error.hint
        ) from error
    await parts.maps.new(name, options)


def _options(parts: Parts, given: Mapping[str, Any]) -> MapOptions:
    config = parts.config
    chosen: dict[str, Any] = {
        "tombstone_ttl_ms": config.barrel_p2p_map_tombstone_ttl_ms,
        "scan_ms": config.barrel_p2p_map_scan_ms,
    }
    chosen.update((k, v) for k, v in given.items() if v is not None)
    return MapOptions(**chosen)
