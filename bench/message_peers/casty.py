"""casty: actors on a Rust core, one on each of two nodes, without encryption.

One pinned actor on the server's node echoes and counts; messages are frozen dataclasses
of bytes. Calls are ``ask``, one-way messages ``tell``, which never waits: the sender
yields every 128 and asks every 4,096 (or 8 big ones), or what it sends piles
up in its own memory. All settings are its defaults.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import casty

from bench.message_peers.adapter import (
    HOST,
    MESSAGE_BYTE,
    QUERY,
    Info,
    Link,
    Peer,
    Tally,
    free_port,
)

__all__ = ["PEER", "CastyPeer"]

JOIN_SECONDS_MAX = 30.0
YIELD_EVERY = 128
ASK_EVERY = 4_096
BIG_BYTES = 1_000
BIG_ASK_EVERY = 8


@dataclass(frozen=True)
class Echo(casty.Askable[bytes]):
    """A call."""

    data: bytes = b""


@dataclass(frozen=True)
class Take:
    """A one-way message."""

    data: bytes = b""


_tally = Tally()


@casty.actor(initial=0, pinned=True)
async def bench_actor(ctx: casty.Context[int, Echo | Take]) -> None:
    """Echo, and count into the process's tally."""
    async for message in ctx.inbox:
        match message:
            case Take(data):
                if data[0] == MESSAGE_BYTE:
                    _tally.count += 1
                else:
                    _tally.end(data)
            case Echo(data):
                message.reply_to.tell(_tally.answer(data))


class _Link(Link):
    """A reference to the actor."""

    def __init__(self, ref: casty.Ref) -> None:
        self._ref = ref

    async def call(self, message: object) -> object:
        assert isinstance(message, bytes)
        return await self._ref.ask(Echo(message))

    async def send_all(self, message: object, count: int, end: bytes) -> None:
        assert isinstance(message, bytes)
        tell = self._ref.tell
        ask_every = ASK_EVERY if len(message) < BIG_BYTES else BIG_ASK_EVERY
        for number in range(1, count + 1):
            tell(Take(message))
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
            if number % ask_every == 0:
                await self.call(QUERY)
        tell(Take(end))


class CastyPeer(Peer):
    """A node of a cluster of two."""

    name = "casty"
    packages = ("casty",)
    share: ClassVar[Mapping[str, int]] = {
        "calls64": 4,
        "oneway": 10,
        "oneway8": 10,
        "big": 4,
    }

    _system: casty.ActorSystem | None = None

    async def serve(self, phase: str, tally: Tally) -> Info:
        global _tally  # The actor is a function of the module: it has no other way.
        _tally = tally
        address = f"{HOST}:{free_port()}"
        self._system = casty.ActorSystem(cluster=casty.Cluster(bind=address))
        await self._system.__aenter__()
        return {"address": address}

    async def connect(self, info: Info) -> Link:
        cluster = casty.Cluster(bind=f"{HOST}:{free_port()}", seeds=(info["address"],))
        self._system = casty.ActorSystem(cluster=cluster)
        await self._system.__aenter__()
        async with asyncio.timeout(JOIN_SECONDS_MAX):
            while len(self._system.members) < 2:  # noqa: ASYNC110
                # The library has no event for it.
                await asyncio.sleep(0.01)
        link = _Link(self._system.ref(bench_actor, "bench", at=info["address"]))
        await link.call(QUERY)  # Activates the actor.
        return link

    async def close(self) -> None:
        if self._system is not None:
            await self._system.__aexit__(None, None, None)


PEER = CastyPeer
