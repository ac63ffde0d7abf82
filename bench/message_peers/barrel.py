"""Barrel P2P: two nodes through the public API, with its authentication and QUIC.

Calls go through a proxy to a ``GenServer``; one-way messages are ``await pid.send``,
from a mailbox of its own for each sender, to a process that awaits each. The message,
a tuple of a string, an integer and bytes, is 100 bytes long as a term: unlike the
others' it is encoded and decoded. Every node has a fresh data directory, so booting
makes its keys and the first contact pins them. All settings are the defaults.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from barrel_p2p import At, GenServer, Node, Pid, Process, call
from bench.message_peers.adapter import (
    BIG_MESSAGE,
    HOST,
    Counted,
    Info,
    Link,
    Peer,
    Tally,
)

__all__ = ["PEER", "BarrelPeer"]

SERVICE = "bench"
JOB = "job"
END = "end"
LISTED_SECONDS_MAX = 100.0
LOOK_EVERY_SECONDS = 0.001


class Bench(GenServer):
    """Echoes, reports on the counting, and watches nodes go."""

    async def init(self, tally: Tally, sink: Pid) -> None:
        self._tally = tally
        self._sink = sink
        self._gone_ns: dict[str, int] = {}
        self._watching: set[asyncio.Task[None]] = set()

    @call
    async def echo(self, request: object) -> object:
        return request

    @call
    async def sink(self) -> Pid:
        """The process that counts."""
        return self._sink

    @call
    async def report(self) -> bytes:
        return self._tally.report()

    @call
    async def watch(self, name: str) -> bool:
        """Note when ``name`` is listed no more; return whether it is listed now."""
        if name not in self.node.nodes():
            return False
        task = asyncio.ensure_future(self._watch(name))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)
        return True

    async def _watch(self, name: str) -> None:
        # What its users would see, not what its events say.
        while name in self.node.nodes():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_SECONDS)
        self._gone_ns[name] = time.perf_counter_ns()

    @call
    async def gone_ns(self, name: str) -> int:
        """When a watched node was listed no more, or 0."""
        return self._gone_ns.get(name, 0)


async def _count(process: Process, tally: Tally) -> None:
    receive = process.receive
    while True:
        message = await receive()
        if message[0] == JOB:
            tally.count += 1
        else:
            tally.end(message[1])


class _Link(Link):
    """A proxy of the server's ``Bench`` and the pid of its counting process."""

    message = (JOB, 12_345, b"x" * 83)
    big_message = (JOB, 12_345, BIG_MESSAGE)

    def __init__(self, node: Node, bench: Bench, sink: Pid) -> None:
        self._node = node
        self._bench = bench
        self._sink = sink

    async def call(self, message: object) -> object:
        return await self._bench.echo(message)

    async def query(self) -> Counted:
        return Counted.unpack(await self._bench.report())

    async def send_all(self, message: object, count: int, end: bytes) -> None:
        async with self._node.mailbox():
            send = self._sink.send
            for _ in range(count):
                await send(message)
            await send((END, end))


class BarrelPeer(Peer):
    """A node, and for disconnecting another."""

    name = "barrel"
    packages = ("barrel-p2p",)
    phases = Peer.phases | {"aged", "disconnect"}

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._nodes: list[Node] = []
        self._started = 0

    async def _start(self, role: str) -> Node:
        # A key is pinned to its name, so no two nodes of a run share one.
        self._started += 1
        own = f"{role}-{os.getpid()}-{self.directory.name}-{self._started}"
        node = Node(
            f"{own}@{HOST}",
            data_dir=str(self.directory / own),
            bind_host=HOST,
            dist_cookie=SERVICE,
        )
        await node.start()
        self._nodes.append(node)
        return node

    async def serve(self, phase: str, tally: Tally) -> Info:
        node = await self._start("server")
        sink = node.spawn(_count, tally)
        await node.start_server(Bench, tally, sink, name=SERVICE)
        return {"address": str(node.address), "name": node.name}

    async def open(self) -> None:
        await self._start("client")

    async def connect(self, info: Info) -> Link:
        node = self._nodes[0]
        bench = await self._reach(node, info)
        return _Link(node, bench, await bench.sink())

    async def _reach(self, node: Node, info: Info) -> Bench:
        address, name = info["address"], info["name"]
        assert isinstance(address, str)
        assert isinstance(name, str)
        await node.connect(address)
        return await node.proxy(Bench, At(SERVICE, name))

    async def disconnect_ms(self, info: Info) -> float:
        observer = await self._reach(self._nodes[0], info)
        leaver = await self._start("leaver")
        address, name = info["address"], info["name"]
        assert isinstance(address, str)
        assert isinstance(name, str)
        await leaver.connect(address)
        if not await observer.watch(leaver.name):
            raise RuntimeError(f"{leaver.name} connected and is not listed")
        before_ns = time.perf_counter_ns()
        leaver.disconnect(name)
        async with asyncio.timeout(LISTED_SECONDS_MAX):
            while not (gone_ns := await observer.gone_ns(leaver.name)):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_EVERY_SECONDS)
        await leaver.stop()
        self._nodes.remove(leaver)
        return float(gone_ns - before_ns) / 1e6

    async def close(self) -> None:
        for node in reversed(self._nodes):
            await node.stop()


PEER = BarrelPeer
