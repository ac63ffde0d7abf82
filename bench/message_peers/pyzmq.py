"""pyzmq: ZeroMQ through ``zmq.asyncio``, on uvloop.

Calls are DEALER to ROUTER with an id in a frame of its own and a dict of Futures, since
ZeroMQ leaves matching to its user; one-way messages are PUSH to PULL. High-water marks
are its default of 1,000 messages a socket, and ``await send`` waits at them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import zmq
import zmq.asyncio

from bench.message_peers.adapter import (
    HOST,
    MESSAGE_BYTE,
    Info,
    Link,
    Peer,
    Tally,
)

__all__ = ["PEER", "PyzmqPeer"]


class _Link(Link):
    """A DEALER and a PUSH socket."""

    def __init__(self, dealer: zmq.asyncio.Socket, push: zmq.asyncio.Socket) -> None:
        self._dealer = dealer
        self._push = push
        self._pending: dict[bytes, asyncio.Future[bytes]] = {}
        self._last_id = 0
        self._loop = asyncio.get_running_loop()
        self.reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        while True:
            call_id, answer = await self._dealer.recv_multipart()
            waiting = self._pending.pop(call_id)
            if not waiting.done():
                waiting.set_result(answer)

    async def call(self, message: object) -> object:
        self._last_id += 1
        call_id = self._last_id.to_bytes(4, "big")
        answer = self._pending[call_id] = self._loop.create_future()
        await self._dealer.send_multipart([call_id, message])
        return await answer

    async def send_all(self, message: object, count: int, end: bytes) -> None:
        send = self._push.send
        for _ in range(count):
            await send(message)
        await send(end)


class PyzmqPeer(Peer):
    """Two sockets on either side."""

    name = "pyzmq"
    packages = ("pyzmq",)
    share: ClassVar[Mapping[str, int]] = {
        "calls64": 10,
        "oneway": 20,
        "oneway8": 20,
        "big": 2,
    }

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._context = zmq.asyncio.Context()
        self._tasks: list[asyncio.Task[None]] = []

    async def serve(self, phase: str, tally: Tally) -> Info:
        router = self._context.socket(zmq.ROUTER)
        pull = self._context.socket(zmq.PULL)
        calls = router.bind_to_random_port(f"tcp://{HOST}")
        messages = pull.bind_to_random_port(f"tcp://{HOST}")
        self._tasks.append(asyncio.ensure_future(_echo(router, tally)))
        self._tasks.append(asyncio.ensure_future(_count(pull, tally)))
        return {"calls": calls, "messages": messages}

    async def connect(self, info: Info) -> Link:
        dealer = self._context.socket(zmq.DEALER)
        push = self._context.socket(zmq.PUSH)
        dealer.connect(f"tcp://{HOST}:{info['calls']}")
        push.connect(f"tcp://{HOST}:{info['messages']}")
        link = _Link(dealer, push)
        self._tasks.append(link.reading)
        return link

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._context.destroy(linger=0)


async def _echo(router: zmq.asyncio.Socket, tally: Tally) -> None:
    while True:
        peer, call_id, request = await router.recv_multipart()
        await router.send_multipart([peer, call_id, tally.answer(request)])


async def _count(pull: zmq.asyncio.Socket, tally: Tally) -> None:
    while True:
        message = await pull.recv()
        if message[0] == MESSAGE_BYTE:
            tally.count += 1
        else:
            tally.end(message)


PEER = PyzmqPeer
