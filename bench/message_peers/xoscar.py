"""xoscar: Cython actors; one actor in the server's pool, called from another process.

Calls are awaited methods. One-way messages are ``tell``, which still waits for an
acknowledgement, so a sender keeps 256 of them open (16 of the big ones). All settings
are its defaults.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import ClassVar

import xoscar

from bench.message_peers.adapter import (
    HOST,
    MESSAGE_BYTE,
    Info,
    Link,
    Peer,
    Tally,
    free_port,
)

__all__ = ["PEER", "XoscarPeer"]

OPEN_MAX = 256
BIG_OPEN_MAX = 16
BIG_BYTES = 1_000
UID = "bench"

_tally = Tally()


class BenchActor(xoscar.Actor):
    """Echoes, and counts into the process's tally."""

    async def echo(self, request: bytes) -> bytes:
        return _tally.answer(request)

    async def take(self, message: bytes) -> None:
        if message[0] == MESSAGE_BYTE:
            _tally.count += 1
        else:
            _tally.end(message)


class _Link(Link):
    """A reference to the actor."""

    def __init__(self, ref: xoscar.ActorRefType) -> None:
        self._ref = ref

    async def call(self, message: object) -> object:
        return await self._ref.echo(message)

    async def send_all(self, message: object, count: int, end: bytes) -> None:
        assert isinstance(message, bytes)
        tell = self._ref.take.tell
        at_once = OPEN_MAX if len(message) < BIG_BYTES else BIG_OPEN_MAX
        for sent in range(0, count, at_once):
            some = min(at_once, count - sent)
            await asyncio.gather(*(tell(message) for _ in range(some)))
        await tell(end)


class XoscarPeer(Peer):
    """An actor pool, or a reference into it."""

    name = "xoscar"
    packages = ("xoscar",)
    share: ClassVar[Mapping[str, int]] = {
        "calls64": 10,
        "oneway": 50,
        "oneway8": 50,
        "big": 4,
    }

    async def serve(self, phase: str, tally: Tally) -> Info:
        global _tally  # An actor's arguments are pickled, and a tally must not be.
        _tally = tally
        address = f"{HOST}:{free_port()}"
        self._pool = await xoscar.create_actor_pool(address, n_process=0)
        await xoscar.create_actor(BenchActor, address=address, uid=UID)
        return {"address": address}

    async def connect(self, info: Info) -> Link:
        return _Link(await xoscar.actor_ref(address=info["address"], uid=UID))

    async def close(self) -> None:
        pool = getattr(self, "_pool", None)
        if pool is not None:
            await pool.stop()


PEER = XoscarPeer
