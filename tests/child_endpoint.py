"""An endpoint in a process of its own: the program, and the handle a test holds.

One JSON object a line goes in by stdin and one comes back by stdout, in order. The
process ends with its stdin, so that it never outlives the test.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from barrel_p2p.carrier.connection import Connection
from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.errors import NotStarted, PeerUnreachable, StreamClosed, StreamReset
from barrel_p2p.quic.settings import EngineSettings
from tests.endpoints import DEADLINE_S, HOST, certificate, echo
from tests.tree import ROOT

__all__ = ["ChildEndpoint", "child_endpoint", "rss_bytes"]

Answer = dict[str, Any]

_LINE_BYTES_MAX = 1 << 20


def rss_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class ChildEndpoint:
    """The test's handle: ask it things, signal it, or let it end."""

    def __init__(self, process: asyncio.subprocess.Process, hello: Answer) -> None:
        self.process = process
        self.address = (HOST, int(hello["port"]))
        self.pid = process.pid

    async def ask(self, do: str, **arguments: object) -> Answer:
        """Have it do something; its answer."""
        assert self.process.stdin is not None
        line = json.dumps({"do": do, **arguments}) + "\n"
        self.process.stdin.write(line.encode())
        await self.process.stdin.drain()
        return await _line_of(self.process)

    async def kill(self) -> None:
        """End it as kill -9 does, and wait until it is gone."""
        self.process.kill()
        await self.process.wait()


async def _line_of(process: asyncio.subprocess.Process) -> Answer:
    assert process.stdout is not None
    async with asyncio.timeout(2 * DEADLINE_S):
        line = await process.stdout.readline()
    if not line:
        raise AssertionError(f"the child ended with status {await process.wait()}")
    answer = json.loads(line)
    assert isinstance(answer, dict)
    return answer


@asynccontextmanager
async def child_endpoint(**options: object) -> AsyncIterator[ChildEndpoint]:
    """Start one; ``options`` are those of ``_open`` and of ``EngineSettings``."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, json.dumps(options)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES_MAX,
        cwd=ROOT,
    )
    try:
        yield ChildEndpoint(process, await _line_of(process))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


class _Program:
    """The child's side."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._tasks: set[asyncio.Task[None]] = set()
        self._dialled: list[Connection] = []
        self._accepted: list[Connection] = []
        self._received = 0

    def start(self) -> None:
        self._spawn(self._accept())

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        try:
            while True:
                connection = await self._endpoint.accept()
                self._accepted.append(connection)
                connection.on_stream = self._take
        except NotStarted:
            return

    def _take(self, stream: Stream) -> None:
        self._spawn(self._echo(stream))

    async def _echo(self, stream: Stream) -> None:
        try:
            if stream.id & 2:
                while chunk := await stream.read():
                    self._received += len(chunk)
            else:
                await echo(stream)
        except (PeerUnreachable, StreamReset, StreamClosed):
            return

    async def run(self, do: str, **arguments: Any) -> Answer:
        method = getattr(self, f"do_{do}")
        answer = await method(**arguments)
        return answer if isinstance(answer, dict) else {}

    async def do_stats(self) -> Answer:
        stats = dataclasses.asdict(self._endpoint.stats())
        return {
            "rss": rss_bytes(),
            "accepted": len(self._accepted),
            "received": self._received,
            **stats,
        }

    async def do_connect(self, to: list[Any], count: int = 1) -> Answer:
        host, port = to
        for start in range(0, count, 50):
            batch = min(50, count - start)
            self._dialled += await asyncio.gather(
                *(self._endpoint.connect(host, port) for _ in range(batch))
            )
        return {"rss": rss_bytes()}

    async def do_close(self, drain: float = 1.0) -> None:
        await self._endpoint.close(drain=drain)


async def _serve(port: int = 0, seed: str | None = None, **settings: Any) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LINE_BYTES_MAX)
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    endpoint = await Endpoint.open(
        HOST,
        port,
        certificate=certificate(),
        settings=EngineSettings(**settings),
        reset_seed=None if seed is None else bytes.fromhex(seed),
    )
    program = _Program(endpoint)
    program.start()
    _say({"port": endpoint.address[1]})
    while line := await reader.readline():
        _say(await program.run(**json.loads(line)))
    await endpoint.close(drain=0)


def _say(answer: Answer) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(**json.loads(sys.argv[1])))
