"""What a running node does with its maps for a program on its host."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Final, assert_never

from barrel_p2p.node.plain import plain, term
from barrel_p2p.node.requests import (
    GetFromMap,
    ListMaps,
    MapAction,
    PutInMap,
    RemoveFromMap,
    WatchMap,
)
from barrel_p2p.runtime.event_stream import Lagged
from barrel_p2p.services.map_events import MapEvent, MapPut, MapRemove
from barrel_p2p.wire.terms import key_bytes

if TYPE_CHECKING:
    from barrel_p2p.node.node import Node

__all__ = ["perform_on_maps", "watch_map"]

_WAITING_MAX: Final = 8_192


async def perform_on_maps(node: Node, request: MapAction) -> dict[str, object]:
    """Do what ``request`` says; what it answers is made of what JSON has.

    Raises:
        NoSuchMap: This node has no map of that name.
        NotEncodable: The key is no key term.
        BarrelError: What the map's own method raises.
    """
    match request:
        case GetFromMap(name, key):
            return _got(node, name, term(key))
        case PutInMap(name, key, value):
            await node.map_put(name, term(key), value)
            return {"map": name, "key": plain(term(key)), "put": True}
        case RemoveFromMap(name, key):
            await node.map_remove(name, term(key))
            return {"map": name, "key": plain(term(key)), "removed": True}
        case ListMaps(None):
            return {
                "node": node.name,
                "maps": [_map(node, m) for m in node.map_names()],
            }
        case ListMaps(str() as name):
            pairs = sorted(node.map(name).items(), key=lambda pair: repr(pair[0]))
            entries = [{"key": plain(k), "value": plain(v)} for k, v in pairs]
            return {"node": node.name, "map": name, "entries": entries}
        case ListMaps():
            raise AssertionError(request)
        case _:
            assert_never(request)


async def watch_map(node: Node, request: WatchMap) -> AsyncGenerator[dict[str, object]]:
    """What changes in a map: first whose it is, then each change.

    Raises:
        NoSuchMap: This node has no map of that name.
    """
    made = node.map(request.name)
    changes = made.changes(snapshot=request.snapshot, maxsize=_WAITING_MAX)
    async with changes as stream:
        yield {"event": "watching", "node": node.name, "map": request.name}
        async for event in stream:
            yield _described(request.name, event)


def _got(node: Node, name: str, key: object) -> dict[str, object]:
    answer: dict[str, object] = {"map": name, "key": plain(key)}
    found = node.map(name)
    key_bytes(key)  # Raises if no map can have it.
    if key not in found:
        return {**answer, "found": False, "value": None}
    return {**answer, "found": True, "value": plain(found[key])}


def _map(node: Node, name: str) -> dict[str, object]:
    found = node.map(name)
    options = found.options
    return {
        "map": name,
        "keys": len(found),
        "persist": options.persist,
        "disk": found.stats().disk,
        "prune_on_peer_down": options.prune_on_peer_down,
    }


def _described(name: str, event: MapEvent | Lagged) -> dict[str, Any]:
    match event:
        case MapPut(_, key, value):
            return {
                "event": "put",
                "map": name,
                "key": plain(key),
                "value": plain(value),
            }
        case MapRemove(_, key):
            return {"event": "remove", "map": name, "key": plain(key)}
        case Lagged(missed):
            return {"event": "lagged", "map": name, "missed": missed}
        case _:
            assert_never(event)
