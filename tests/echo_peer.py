"""A peer in a process of its own, to be killed, stopped and started again.

It echoes every stream it is sent, except that a stream which begins with ``DRIP`` gets
numbered records instead, one at a time. Run it with ``EchoPeer``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import uvloop

from barrel_p2p.carrier.connection import Connection
from barrel_p2p.carrier.reset_seed import ensure_reset_seed
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.errors import BarrelError
from barrel_p2p.quic.settings import EngineSettings
from tests.endpoints import HOST, endpoint
from tests.tree import ROOT

__all__ = ["DRIP", "DRIP_PAUSE_S", "RECORD", "EchoPeer"]

DRIP = b"drip"
"""Followed by the number of records wanted, u32 big endian."""

RECORD = struct.Struct(">QQ")
"""A record: its number from 0, and CLOCK_MONOTONIC (ns) when it was written."""

DRIP_PAUSE_S = 0.01


class EchoPeer:
    """A running peer process.

    Attributes:
        address: Host and UDP port it listens on.
    """

    def __init__(self, seed_file: Path, port: int, idle_timeout_ms: int) -> None:
        arguments = (str(seed_file), str(port), str(idle_timeout_ms))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.echo_peer", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        ready = self._process.stdout.readline()
        assert ready.startswith("ready "), "the peer did not start"
        self.address = (HOST, int(ready.split()[1]))

    @classmethod
    @contextmanager
    def running(
        cls, seed_file: Path, *, idle_timeout_ms: int, port: int = 0
    ) -> Iterator[Self]:
        """Start a peer that has the reset seed of ``seed_file``; kill it at the end."""
        peer = cls(seed_file, port, idle_timeout_ms)
        try:
            yield peer
        finally:
            peer.kill()

    def kill(self) -> None:
        """End it by SIGKILL, and return once it is gone. Idempotent."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def stop(self) -> None:
        """Stop it by SIGSTOP, and return once it has stopped."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Let it go on after ``stop``."""
        self._process.send_signal(signal.SIGCONT)


async def _drip(stream: Stream, count: int) -> None:
    for number in range(count):
        await stream.write(RECORD.pack(number, time.monotonic_ns()))
        await asyncio.sleep(DRIP_PAUSE_S)  # not synchronisation: a slow writer
    stream.finish()


async def _serve_stream(stream: Stream) -> None:
    first = await stream.read()
    if first.startswith(DRIP):
        await _drip(stream, int.from_bytes(first[len(DRIP) :]))
        return
    while first:
        await stream.write(first)
        first = await stream.read()
    stream.finish()


async def _serve_connection(connection: Connection) -> None:
    with suppress(BarrelError):  # It ends when the test has seen enough.
        async with asyncio.TaskGroup() as group:
            while True:
                stream = await connection.accept_stream()
                group.create_task(_serve_stream(stream))


async def _serve(seed_file: Path, port: int, idle_timeout_ms: int) -> None:
    settings = EngineSettings(idle_timeout_ms=idle_timeout_ms, keep_alive_ms=0)
    seed = ensure_reset_seed(seed_file)
    async with (
        endpoint(settings, port=port, reset_seed=seed) as one,
        asyncio.TaskGroup() as group,
    ):
        sys.stdout.write(f"ready {one.address[1]}\n")
        sys.stdout.flush()
        while True:
            group.create_task(_serve_connection(await one.accept()))


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
