"""A peer that dies, restarts or stalls is noticed by the quickest sign there is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

from barrel_p2p.carrier.connection import ClosedBy, Connection
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.quic.settings import EngineSettings
from tests.echo_peer import DRIP, DRIP_PAUSE_S, RECORD, EchoPeer
from tests.endpoints import DEADLINE_S, drained, endpoint, within

NEVER_MS = 600_000
"""An idle timeout that no test lives to see."""

SHORT_MS = 1_500
BLOCKED_S = 3.0
HELLO = b"hello"


@asynccontextmanager
async def dialled(peer: EchoPeer, settings: EngineSettings) -> AsyncIterator[Stream]:
    """A stream to ``peer`` on a connection that has carried bytes both ways."""
    async with endpoint(settings) as near:
        connection = await within(near.connect(*peer.address))
        stream = connection.open_stream()
        await stream.write(HELLO)
        assert await within(stream.readexactly(len(HELLO))) == HELLO
        yield stream


def quiet(idle_timeout_ms: int) -> EngineSettings:
    """Settings with which only a write of the test makes a packet."""
    return EngineSettings(idle_timeout_ms=idle_timeout_ms, keep_alive_ms=0)


def connection_of(stream: Stream) -> Connection:
    connection = stream.connection
    assert isinstance(connection, Connection)
    return connection


async def test_a_killed_peer_is_noticed_by_the_next_packet_to_its_port(
    tmp_path: Path,
) -> None:
    """The host's ICMP ends the connection, not the idle timeout."""
    with EchoPeer.running(tmp_path / "seed", idle_timeout_ms=NEVER_MS) as peer:
        async with dialled(peer, quiet(NEVER_MS)) as stream:
            peer.kill()
            await stream.write(b"is anyone there?")
            started_s = time.monotonic()
            end = await within(connection_of(stream).wait_closed())
            assert end.by is ClosedBy.UNREACHABLE
            assert time.monotonic() - started_s < NEVER_MS / 1_000 / 20


async def test_a_restarted_peer_with_its_old_seed_resets_the_next_write(
    tmp_path: Path,
) -> None:
    seed = tmp_path / "seed"
    with EchoPeer.running(seed, idle_timeout_ms=NEVER_MS) as peer:
        async with dialled(peer, quiet(NEVER_MS)) as stream:
            # The loop stands still meanwhile, so no packet finds the port closed.
            peer.kill()
            port = peer.address[1]
            with EchoPeer.running(seed, idle_timeout_ms=NEVER_MS, port=port):
                await stream.write(bytes(1_000))
                end = await within(connection_of(stream).wait_closed())
                assert end.by is ClosedBy.RESET


async def test_a_stranger_at_the_port_of_a_peer_cannot_reset_its_connections(
    tmp_path: Path,
) -> None:
    with EchoPeer.running(tmp_path / "seed", idle_timeout_ms=SHORT_MS) as peer:
        async with dialled(peer, quiet(SHORT_MS)) as stream:
            peer.kill()
            port, other = peer.address[1], tmp_path / "other"
            with EchoPeer.running(other, idle_timeout_ms=SHORT_MS, port=port):
                await stream.write(bytes(1_000))
                end = await within(connection_of(stream).wait_closed())
                assert end.by is ClosedBy.IDLE


async def test_a_stopped_peer_is_noticed_by_the_idle_timeout(tmp_path: Path) -> None:
    with EchoPeer.running(tmp_path / "seed", idle_timeout_ms=SHORT_MS) as peer:
        settings = EngineSettings(idle_timeout_ms=SHORT_MS)
        async with dialled(peer, settings) as stream:
            peer.stop()
            stopped_s = time.monotonic()
            end = await within(connection_of(stream).wait_closed())
            assert end.by is ClosedBy.IDLE
            # Its last word may have come a keep-alive before it stopped.
            least_ms = SHORT_MS - settings.keep_alive()
            assert time.monotonic() - stopped_s >= least_ms / 1_000


async def test_a_peer_stopped_for_less_than_the_idle_timeout_loses_nothing(
    tmp_path: Path,
) -> None:
    data = os.urandom(1_000_000)
    idle_ms = 4 * SHORT_MS
    with EchoPeer.running(tmp_path / "seed", idle_timeout_ms=idle_ms) as peer:
        async with dialled(peer, EngineSettings(idle_timeout_ms=idle_ms)) as stream:
            reading = asyncio.create_task(drained(stream))
            await stream.write(data[:500_000])
            peer.stop()
            try:
                stream.write_nowait(data[500_000:])
                stream.finish()
                # The time stopped is what is under test.
                ended = connection_of(stream).wait_closed()
                with contextlib.suppress(TimeoutError):
                    await within(ended, idle_ms / 1_000 / 4)
            finally:
                peer.resume()
            assert await within(reading) == data
            assert connection_of(stream).how_closed is None


async def test_a_blocked_loop_keeps_its_connection_and_every_byte_sent_meanwhile(
    tmp_path: Path,
) -> None:
    """A callback that blocks for 3 s stays within the default idle timeout."""
    settings = EngineSettings()
    assert settings.idle_timeout_ms / 1_000 > BLOCKED_S
    count = int(1.3 * BLOCKED_S / DRIP_PAUSE_S)
    got = bytearray()
    blocked_ns: list[int] = []
    over = asyncio.get_running_loop().create_future()

    def block_once(chunk: bytes, fin: bool) -> None:
        got.extend(chunk)
        if not blocked_ns:
            blocked_ns.append(time.monotonic_ns())
            time.sleep(BLOCKED_S)  # not synchronisation: it is under test
            blocked_ns.append(time.monotonic_ns())
        if fin:
            over.set_result(None)

    with EchoPeer.running(
        tmp_path / "seed", idle_timeout_ms=settings.idle_timeout_ms
    ) as peer:
        async with dialled(peer, settings) as stream:
            dripping = connection_of(stream).open_stream()
            dripping.on_data = block_once
            await dripping.write(DRIP + count.to_bytes(4))
            await within(over, BLOCKED_S + DEADLINE_S)
            assert connection_of(stream).how_closed is None
            records = list(RECORD.iter_unpack(bytes(got)))
            assert [number for number, _ in records] == list(range(count))
            sent_ns = [written_ns for _, written_ns in records]
            assert all(a < b for a, b in pairwise(sent_ns))
            start_ns, end_ns = blocked_ns
            assert any(start_ns < written < end_ns for written in sent_ns)
            await stream.write(HELLO)
            assert await within(stream.readexactly(len(HELLO))) == HELLO
