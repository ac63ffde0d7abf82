"""What a running node does for a program on its host: one function for each request."""

from __future__ import annotations

import asyncio
import os
from importlib.metadata import version
from typing import TYPE_CHECKING, assert_never

from barrel_p2p.auth.trust import fingerprint
from barrel_p2p.core.names import At, NodeReference
from barrel_p2p.errors import BarrelError, CallTimeout, InvalidValue, KeyMismatch
from barrel_p2p.node.cluster_operations import perform_on_cluster, watch
from barrel_p2p.node.key_operations import perform_on_keys
from barrel_p2p.node.map_operations import perform_on_maps, watch_map
from barrel_p2p.node.plain import plain
from barrel_p2p.node.reminder_operations import perform_on_reminders
from barrel_p2p.node.requests import (
    CallProcess,
    CancelReminder,
    Connect,
    Elections,
    ExplainConfig,
    GetFromMap,
    Info,
    Join,
    KeyAction,
    Leave,
    ListKeys,
    ListMaps,
    ListReminders,
    Members,
    Nodes,
    Owners,
    Place,
    PutInMap,
    RemoveFromMap,
    Request,
    RevokeKey,
    SendMessage,
    Services,
    SetReminder,
    SetTrustMode,
    Stop,
    TrustKey,
    UntrustKey,
    Views,
    WatchEvents,
    WatchMap,
    WhereisService,
)
from barrel_p2p.runtime.verbs import REQUEST_TAG

if TYPE_CHECKING:
    from barrel_p2p.node.node import Node

__all__ = ["Operations"]


class Operations:
    """The requests of one node.

    Args:
        node: The node, which may still be starting.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stopping: asyncio.Task[None] | None = None

    async def perform(self, request: Request) -> object:
        """Do what ``request`` says; what it answers is made of what JSON has.

        Returns:
            The answer; for ``WatchEvents`` and ``WatchMap`` an asynchronous generator
            of the answer and then events, without end.

        Raises:
            BarrelError: What the node's own method raises.
        """
        match request:
            case WatchEvents():
                return watch(self._node, request)
            case Join() | Leave() | Members() | Views() | Place() | Owners():
                return await perform_on_cluster(self._node, request)
            case GetFromMap() | PutInMap() | RemoveFromMap() | ListMaps():
                return await perform_on_maps(self._node, request)
            case WatchMap():
                return watch_map(self._node, request)
            case Services() | WhereisService() | Elections():
                return await perform_on_cluster(self._node, request)
            case SetReminder() | ListReminders() | CancelReminder():
                return await perform_on_reminders(self._node, request)
            case ListKeys() | TrustKey() | UntrustKey() | RevokeKey() | SetTrustMode():
                return await self._on_keys(request)
            case _:
                return await self._on_node(request)

    async def _on_node(
        self,
        request: Info
        | Nodes
        | Connect
        | CallProcess
        | SendMessage
        | ExplainConfig
        | Stop,
    ) -> object:
        node = self._node
        match request:
            case Info():
                return self._info()
            case Nodes():
                return {"node": node.name, "nodes": node.nodes()}
            case Connect(ref, timeout_ms):
                name = await node.connect(ref, timeout=timeout_ms / 1_000)
                return {"connected": name}
            case CallProcess():
                return await self._call(request)
            case SendMessage():
                return await self._send(request)
            case ExplainConfig():
                return {
                    key: {"value": plain(value), "source": source}
                    for key, (value, source) in node.config.explain().items()
                }
            case Stop(drain_ms):
                return self._stop(drain_ms)
            case _:
                assert_never(request)

    async def _on_keys(self, request: KeyAction) -> object:
        keys = self._node.keys
        match request:
            case TrustKey(_, None, str()):
                return await self._trust_by_fingerprint(request)
            case ListKeys() | SetTrustMode():
                return perform_on_keys(keys, request)
            case TrustKey() | UntrustKey() | RevokeKey():
                # They sync the disk.
                return await asyncio.to_thread(perform_on_keys, keys, request)
            case _:
                assert_never(request)

    def _info(self) -> dict[str, object]:
        node = self._node
        return {
            "name": node.name,
            "address": str(node.address),
            "fingerprint": fingerprint(node.public_key).ssh,
            "trust_mode": node.keys.get_trust_mode(),
            "creation": node.creation,
            "nodes": len(node.nodes()),
            "pid": os.getpid(),
            "package": version("barrel-p2p"),
        }

    async def _call(self, request: CallProcess) -> object:
        value = await self._node.call(
            _destination(request.to, request.on),
            (REQUEST_TAG, request.method, tuple(request.args), {}),
            timeout=request.timeout_ms / 1_000,
        )
        return {"value": plain(value)}

    async def _send(self, request: SendMessage) -> object:
        seconds = request.timeout_ms / 1_000
        try:
            async with asyncio.timeout(seconds):
                to = _destination(request.to, request.on)
                await self._node.send(to, request.message)
        except TimeoutError as error:
            if isinstance(error, BarrelError):
                raise
            raise CallTimeout(
                f"{request.to} had no room for a message within {seconds:g} s"
            ) from None
        return {"sent": True}

    async def _trust_by_fingerprint(self, request: TrustKey) -> dict[str, object]:
        """Dial the node and keep its key, if it is the one of that fingerprint.

        Guarantee:
            After an error the old pin is back.
        """
        node, store = self._node, self._node.keys
        given = NodeReference.parse(request.node)
        expected = NodeReference.parse(f"{given.name}#{request.fingerprint}")
        before = store.lookup_key(given.name)
        if before is not None and fingerprint(before) != expected.fingerprint:
            if not request.replace:
                raise KeyMismatch(
                    f"{given.name} is pinned to {fingerprint(before)}",
                    pinned=fingerprint(before),
                    presented=expected.fingerprint,
                    hint="say --replace if its operator changed the key on purpose",
                    peer=given.name,
                )
            store.delete_key(given.name)
            node.disconnect(given.name)
        try:
            await node.connect(
                NodeReference(given.name, given.host, given.port, expected.fingerprint),
                timeout=request.timeout_ms / 1_000,
            )
            key = store.lookup_key(given.name)
            if key is None:
                raise InvalidValue(f"{given.name} proves no key", peer=given.name)
            store.store_key(given.name, key)
        except BaseException:
            if before is not None and store.lookup_key(given.name) is None:
                store.store_key(given.name, before)
            raise
        replaced = before is not None and before != key
        return {
            "node": given.name,
            "pinned": fingerprint(key).ssh,
            "replaced": fingerprint(before).ssh if replaced and before else None,
        }

    def _stop(self, drain_ms: int) -> dict[str, object]:
        # The answer has to leave before its socket goes with the node.
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(
                self._node.stop(drain=drain_ms / 1_000), name="stop by command"
            )
        return {"stopping": self._node.name, "pid": os.getpid()}


def _destination(to: str, on: str | None) -> object:
    return to if on is None else At(to, on)
