"""A victim: an endpoint in a process of its own, which counts what gets through to it.

The process is this file, run as a program. It answers each line on its stdin with one
line of JSON, and ends with its stdin, so it cannot outlive the test.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import psutil
import uvloop

from barrel_p2p.auth.certs import ensure_certificate
from barrel_p2p.carrier.connection import Connection
from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.errors import NotStarted
from barrel_p2p.quic.settings import EngineSettings
from tests.endpoints import DEADLINE_S, HOST, endpoint, within
from tests.tree import ROOT

__all__ = ["Victim", "genuine_initials", "victim"]

_DIALS_AT_ONCE = 25
_LONG_HEADER_ID = 5
_POLL_S = 0.001


class Victim:
    """The test's end of a victim: where it listens, and what it says of itself."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._psutil = psutil.Process(process.pid)
        self.address = (HOST, 0)

    @property
    def rss_bytes(self) -> int:
        """Resident memory of its process."""
        return int(self._psutil.memory_info().rss)

    async def line(self) -> dict[str, int]:
        """Its next line; fails when it has died or says nothing."""
        assert self._process.stdout is not None
        raw = await within(self._process.stdout.readline())
        assert raw, f"the victim died with status {await self._process.wait()}"
        told = json.loads(raw)
        assert isinstance(told, dict)
        return told

    async def counts(self) -> dict[str, int]:
        """``EngineStats``, and what was accepted: connections, streams, bytes."""
        return await self._ask("counts")

    async def dial(self, address: tuple[str, int], count: int) -> None:
        """Have it open ``count`` connections to ``address`` and keep them."""
        await self._ask(f"dial {address[1]} {count}")

    async def until(self, name: str, low: int, high: int) -> dict[str, int]:
        """Its counts, once the one called ``name`` is within these bounds."""
        async with asyncio.timeout(DEADLINE_S):
            while not low <= (told := await self.counts())[name] <= high:  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)  # not synchronisation: interval of looks
        return told

    async def _ask(self, command: str) -> dict[str, int]:
        assert self._process.stdin is not None
        self._process.stdin.write(command.encode() + b"\n")
        return await self.line()


@asynccontextmanager
async def victim(settings: EngineSettings | None = None) -> AsyncIterator[Victim]:
    """A victim that listens; killed at the end, by its process id."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.victims"),
        json.dumps(asdict(settings or EngineSettings())),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        one = Victim(process)
        one.address = (HOST, (await one.line())["port"])
        yield one
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def genuine_initials(count: int) -> list[bytes]:
    """The first datagram of ``count`` dials, each of a connection of its own."""
    loop = asyncio.get_running_loop()
    found: dict[bytes, bytes] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind((HOST, 0))
        mute.setblocking(False)
        async with endpoint() as dialler:
            dials: list[asyncio.Task[Connection]] = []
            while len(found) < count:
                for _ in range(min(_DIALS_AT_ONCE, count - len(found))):
                    work = dialler.connect(*mute.getsockname())
                    dials.append(asyncio.create_task(work))
                while len(found) < min(len(dials), count):
                    raw = await within(loop.sock_recv(mute, 2_048))
                    size = raw[_LONG_HEADER_ID]
                    identity = raw[_LONG_HEADER_ID + 1 : _LONG_HEADER_ID + 1 + size]
                    found.setdefault(identity, raw)
            for dial in dials:
                dial.cancel()
            await asyncio.gather(*dials, return_exceptions=True)
    return list(found.values())


class _Tally:
    """Accepts everything and counts it."""

    def __init__(self, one: Endpoint) -> None:
        self._endpoint = one
        self._dialled: list[Connection] = []
        self.accepted = 0
        self.streams = 0
        self.stream_bytes = 0

    async def accept_all(self) -> None:
        try:
            while True:
                connection = await self._endpoint.accept()
                self.accepted += 1
                connection.on_stream = self._note_stream
        except NotStarted:
            return  # The endpoint was closed.

    def _note_stream(self, stream: Stream) -> None:
        self.streams += 1

        def note(chunk: bytes, fin: bool) -> None:
            self.stream_bytes += len(chunk)
            stream.write_nowait(chunk)

        stream.on_data = note

    async def _dial(self, port: int, count: int) -> None:
        for left in range(count, 0, -_DIALS_AT_ONCE):
            some = range(min(left, _DIALS_AT_ONCE))
            dials = [self._endpoint.connect(HOST, port) for _ in some]
            self._dialled += await asyncio.gather(*dials)

    async def answer(self, command: str) -> None:
        match command.split():
            case ["dial", port, count]:
                await self._dial(int(port), int(count))
        _say(
            asdict(self._endpoint.stats())
            | {
                "accepted": self.accepted,
                "accepted_streams": self.streams,
                "stream_bytes": self.stream_bytes,
                "alive": sum(connection.is_up for connection in self._dialled),
            }
        )


def _say(told: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


async def _serve(settings: EngineSettings) -> None:
    async with AsyncExitStack() as stack:
        files = stack.enter_context(tempfile.TemporaryDirectory())
        one = await stack.enter_async_context(
            await Endpoint.open(
                HOST,
                0,
                certificate=ensure_certificate(Path(files)),
                settings=settings,
            )
        )
        tally = _Tally(one)
        accepting = asyncio.create_task(tally.accept_all())
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        _say({"port": one.address[1]})
        while command := await reader.readline():
            await tally.answer(command.decode())
        accepting.cancel()


if __name__ == "__main__":
    uvloop.run(_serve(EngineSettings(**json.loads(sys.argv[1]))))
