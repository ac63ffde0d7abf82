"""Strangers who drip bytes at a whole node, in a process whose memory is its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from barrel_p2p.carrier.connection import Connection
from barrel_p2p.errors import BarrelError
from tests.cluster.node_process import node_process
from tests.endpoints import HOST, endpoint, within
from tests.tools import DEEP, rounds
from tests.unit.node.nodes import node

A, B = "a@127.0.0.1", "b@127.0.0.2"
STRANGERS = rounds(50, whole=1_000)
DEADLINE_MS = 10_000 if DEEP else 1_500
RSS_GROWTH_MAX = 64 << 20
ANNOUNCED = (4_000, 65_535)
"""One that a handshake could have, and one that is refused when it is announced."""


async def drip(connections: list[Connection]) -> None:
    streams = []
    for index, connection in enumerate(connections):
        with contextlib.suppress(BarrelError):  # Turned away already.
            streams.append(connection.open_stream(uni=True))
            streams[-1].write_nowait(b"\0" + ANNOUNCED[index % 2].to_bytes(4))
    while True:
        for stream in streams:
            with contextlib.suppress(BarrelError):
                stream.write_nowait(b"\1")
        await asyncio.sleep(0.2)  # not synchronisation: this is the attack


async def test_strangers_who_drip_are_gone_by_the_deadline(tmp_path: Path) -> None:
    """X2: each sends a byte now and then of a HELLO that it never completes."""
    changes = {"bind_host": "0.0.0.0", "auth_handshake_timeout": DEADLINE_MS}
    async with (
        node_process(tmp_path, A, advertise_host=HOST, **changes) as victim,
        endpoint() as strangers,
    ):
        port = int(victim.ref.rpartition(":")[2])
        before = victim.rss_bytes
        dials = (strangers.connect(HOST, port) for _ in range(STRANGERS))
        connections = await within(asyncio.gather(*dials))
        began_s = time.monotonic()
        dripping = asyncio.create_task(drip(connections))
        async with node(tmp_path, B, bind_host="127.0.0.2") as honest:
            joining_s = time.monotonic()
            assert await honest.connect(f"{A}={HOST}:{port}") == A
            assert time.monotonic() - joining_s <= 2.0
            ends = [connection.wait_closed() for connection in connections]
            await within(asyncio.gather(*ends), DEADLINE_MS / 1_000 + 20)
            took_s = time.monotonic() - began_s
            assert took_s <= DEADLINE_MS / 1_000 + 1.5
            assert victim.rss_bytes - before <= RSS_GROWTH_MAX
            await honest.ready(timeout=1)
            assert await victim.ask("nodes") == [B]
        dripping.cancel()
