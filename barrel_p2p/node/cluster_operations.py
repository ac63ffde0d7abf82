"""What a running node tells about its cluster: a program on its host, other nodes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
from collections.abc import AsyncGenerator, Iterable
from typing import TYPE_CHECKING, Any, Final, assert_never

from barrel_p2p.core.members import (
    MemberDead,
    MemberGone,
    MemberSuspected,
    MemberUp,
)
from barrel_p2p.core.peers import Joined, Left, NodeDown, NodeUp, PeerDown, PeerUp
from barrel_p2p.errors import BarrelError, CallTimeout, InvalidValue
from barrel_p2p.node.failures import describe
from barrel_p2p.node.leader_operations import perform_on_leaders
from barrel_p2p.node.plain import plain, term
from barrel_p2p.node.requests import (
    LOOKS,
    ClusterAction,
    Elections,
    Join,
    Leave,
    Members,
    Owners,
    Place,
    Services,
    Views,
    WatchEvents,
    WhereisService,
    read_request,
)
from barrel_p2p.node.run import current_node
from barrel_p2p.node.shard_operations import perform_on_shards
from barrel_p2p.runtime.event_stream import EventStream, Lagged
from barrel_p2p.runtime.rpc import expose
from barrel_p2p.services.leader_events import Elected, Revoked
from barrel_p2p.services.service_events import (
    ServiceDown,
    ServiceEntry,
    ServiceRegistered,
    ServiceUnregistered,
)

if TYPE_CHECKING:
    from barrel_p2p.node.node import Node

__all__ = [
    "EVENT_NAMES",
    "LOOK",
    "LOOK_BYTES_MAX",
    "look",
    "perform_on_cluster",
    "watch",
]

EVENT_NAMES: Final[dict[type, tuple[str, str]]] = {
    PeerUp: ("peer", "peer_up"),
    PeerDown: ("peer", "peer_down"),
    Joined: ("peer", "joined"),
    Left: ("peer", "left"),
    MemberUp: ("member", "member_up"),
    MemberSuspected: ("member", "member_suspected"),
    MemberDead: ("member", "member_dead"),
    MemberGone: ("member", "member_gone"),
    NodeUp: ("channel", "channel_up"),
    NodeDown: ("channel", "channel_down"),
    ServiceRegistered: ("service", "service_registered"),
    ServiceUnregistered: ("service", "service_unregistered"),
    ServiceDown: ("service", "service_down"),
    Elected: ("leader", "elected"),
    Revoked: ("leader", "revoked"),
    Lagged: ("lagged", "lagged"),
}
"""Kind and name of every event that is told; others are not."""

LOOK: Final = "barrel_p2p_look"
"""The name by which ``look`` is called."""

LOOK_BYTES_MAX: Final = 65_536
"""Bytes of a question."""

_WAITING_MAX: Final = 8_192


async def perform_on_cluster(node: Node, request: ClusterAction) -> object:
    """Do what ``request`` says; what it answers is made of what JSON has.

    Raises:
        BarrelError: What the node's own method raises.
    """
    match request:
        case Join(ref, timeout_ms):
            await node.join(ref, timeout=timeout_ms / 1_000)
            return {"node": node.name, "active": node.active_view()}
        case Leave(timeout_ms):
            return await _leave(node, timeout_ms / 1_000)
        case Members():
            return _members(node)
        case Views():
            return {
                "node": node.name,
                "active": node.active_view(),
                "passive": node.passive_view(),
                "active_size": node.config.active_size,
                "passive_size": node.config.passive_size,
            }
        case Services(name, everything):
            names = node.list_services() if everything else [term(name)]
            found = [entry for each in names for entry in node.lookup(each)]
            return {"node": node.name, "services": [_entry(each) for each in found]}
        case WhereisService(name, wait_ms):
            timeout = wait_ms / 1_000 if wait_ms else None
            pid = await node.whereis_service(term(name), timeout=timeout)
            return {"name": plain(term(name)), "node": pid.node, "pid": plain(pid)}
        case Place() | Owners():
            return perform_on_shards(node, request)
        case Elections():
            return perform_on_leaders(node, request)
        case _:
            assert_never(request)


@expose(name=LOOK)
async def look(question: bytes) -> dict[str, object]:
    """Tell another node about the cluster: members, views, services, placement.

    It is what ``barrel-p2p members --peer`` and its like ask. Whoever is admitted may
    ask: it could join, and then knew the same.

    Args:
        question: As it would be asked at the control socket: one JSON object.

    Returns:
        What would be answered there: ``{"ok": ...}`` or ``{"error": ...}``.
    """
    try:
        if len(question) > LOOK_BYTES_MAX:
            raise InvalidValue(
                f"a question of {len(question)} bytes exceeds"
                f" LOOK_BYTES_MAX={LOOK_BYTES_MAX}"
            )
        request = read_request(question)
        if not isinstance(request, LOOKS):
            raise InvalidValue("that is asked at a node's control socket only")
        return {"ok": await perform_on_cluster(current_node(), request)}
    except BarrelError as error:
        return {"error": describe(error)}


async def watch(node: Node, request: WatchEvents) -> AsyncGenerator[dict[str, object]]:
    """What happens, from now on: first whose events they are, then each of them.

    Raises:
        Conflict: The node is hidden.
    """
    streams: list[EventStream[Any]] = [
        node.events(maxsize=_WAITING_MAX),
        node.service_events(maxsize=_WAITING_MAX),
        node.leader_events(maxsize=_WAITING_MAX),
    ]
    wanted = {*request.kinds, "lagged"}
    async with contextlib.AsyncExitStack() as stack:
        for stream in streams:
            await stack.enter_async_context(stream)
        yield {
            "time": _time(),
            "kind": "watching",
            "event": "watching",
            "node": node.name,
            "kinds": list(request.kinds),
        }
        async with contextlib.aclosing(_merged(streams)) as events:
            async for event in events:
                kind, _ = EVENT_NAMES.get(type(event), ("", ""))
                if kind in wanted:
                    yield _described(event)


async def _merged(streams: Iterable[EventStream[Any]]) -> AsyncGenerator[Any]:
    """The events of several streams, until the first of them ends."""
    waiting = {asyncio.ensure_future(stream.next()): stream for stream in streams}
    try:
        while True:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in [each for each in waiting if each in done]:
                stream = waiting.pop(task)
                try:
                    event = task.result()
                except StopAsyncIteration:
                    return
                waiting[asyncio.ensure_future(stream.next())] = stream
                yield event
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _leave(node: Node, seconds: float) -> dict[str, object]:
    try:
        async with asyncio.timeout(seconds):
            await node.leave()
    except TimeoutError:
        raise CallTimeout(
            f"{node.name} has not left its cluster within {seconds:g} s"
        ) from None
    return {"node": node.name, "left": True}


def _members(node: Node) -> dict[str, object]:
    peers, channels = set(node.active_view()), set(node.nodes())
    suspects = set(node.suspects())

    def state(name: str) -> str:
        return "suspected" if name in suspects else "alive"

    def link(name: str) -> str:
        if name == node.name:
            return "self"
        if name in peers:
            return "peer"
        return "channel" if name in channels else "none"

    return {
        "node": node.name,
        "members": [
            {"node": name, "state": state(name), "link": link(name)}
            for name in node.members()
        ],
    }


def _entry(entry: ServiceEntry) -> dict[str, object]:
    return {
        "name": plain(entry.name),
        "node": entry.node,
        "pid": plain(entry.pid),
        "meta": plain(entry.meta),
    }


def _described(event: Any) -> dict[str, object]:
    kind, name = EVENT_NAMES[type(event)]
    fields = {
        each.name: plain(getattr(event, each.name))
        for each in dataclasses.fields(event)
    }
    return {"time": _time(), "kind": kind, "event": name, **fields}


def _time() -> str:
    return dt.datetime.now(tz=dt.UTC).isoformat(timespec="milliseconds")
