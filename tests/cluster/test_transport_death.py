"""A peer that died is noticed from either end, on any path, and alone."""

from __future__ import annotations

import asyncio
import time

import pytest

from barrel_p2p.carrier.connection import ClosedBy, Connection
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.quic.settings import EngineSettings
from tests.child_endpoint import child_endpoint
from tests.endpoints import HOST, echo, endpoint, eventually, within

# Long enough that whatever ends a connection before was not the idle timeout.
PATIENT = EngineSettings(idle_timeout_ms=30_000)


async def talk(connection: Connection) -> Stream:
    """A stream that was answered: both ends know it and nothing is under way."""
    stream = connection.open_stream()
    await stream.write(b"ping")
    assert await within(stream.readexactly(4)) == b"ping"
    await eventually(lambda: connection.in_flight == 0)
    return stream


@pytest.mark.serial
async def test_a_killed_peer_is_noticed_within_200_ms_of_the_next_packet() -> None:
    async with (
        endpoint(PATIENT) as near,
        child_endpoint(idle_timeout_ms=30_000) as peer,
    ):
        connection = await within(near.connect(*peer.address))
        stream = await talk(connection)
        await peer.kill()
        started_s = time.monotonic()
        stream.write_nowait(b"anybody there?")
        await within(connection.wait_closed())
        assert time.monotonic() - started_s <= 0.2


async def test_a_killed_peer_is_noticed_by_keep_alives_without_any_traffic() -> None:
    settings = EngineSettings(idle_timeout_ms=30_000, keep_alive_ms=200)
    async with (
        endpoint(settings) as near,
        child_endpoint(idle_timeout_ms=30_000) as peer,
    ):
        connection = await within(near.connect(*peer.address))
        await peer.kill()
        end = await within(connection.wait_closed())
        assert end.by is ClosedBy.UNREACHABLE


async def test_a_killed_dialler_is_noticed_by_the_acceptor_too() -> None:
    async with (
        endpoint(PATIENT) as near,
        child_endpoint(idle_timeout_ms=30_000) as peer,
    ):
        accepting = asyncio.create_task(near.accept())
        await peer.ask("connect", to=list(near.address))
        connection = await within(accepting)
        await eventually(lambda: connection.in_flight == 0)
        await peer.kill()
        connection.open_stream().write_nowait(b"anybody there?")
        end = await within(connection.wait_closed())
        assert end.by is ClosedBy.UNREACHABLE


async def test_a_killed_peer_is_noticed_after_a_move_as_well() -> None:
    async with (
        endpoint(PATIENT) as near,
        child_endpoint(idle_timeout_ms=30_000) as peer,
    ):
        connection = await within(near.connect(*peer.address))
        assert await within(connection.migrate(near.add_socket(HOST)))
        stream = await talk(connection)
        await peer.kill()
        stream.write_nowait(b"anybody there?")
        end = await within(connection.wait_closed())
        assert end.by is ClosedBy.UNREACHABLE


async def test_the_death_of_one_peer_ends_no_other_connection() -> None:
    async with (
        endpoint(PATIENT) as near,
        child_endpoint(idle_timeout_ms=30_000) as dying,
        child_endpoint(idle_timeout_ms=30_000) as living,
    ):
        doomed = await within(near.connect(*dying.address))
        healthy = await within(near.connect(*living.address))
        stream = await talk(healthy)
        doomed_stream = await talk(doomed)
        await dying.kill()
        doomed_stream.write_nowait(b"anybody there?")
        await within(doomed.wait_closed())
        await stream.write(b"still")
        assert await within(stream.readexactly(5)) == b"still"
        assert healthy.how_closed is None


async def test_a_healthy_connection_outlives_its_idle_timeout_many_times() -> None:
    quick = EngineSettings(idle_timeout_ms=150)
    async with endpoint(quick) as near, endpoint(quick) as far:
        connection, accepted = await within(
            asyncio.gather(near.connect(*far.address), far.accept())
        )
        before = far.stats().datagrams_in
        await eventually(lambda: far.stats().datagrams_in >= before + 20)
        assert (connection.how_closed, accepted.how_closed) == (None, None)


async def test_a_reset_cannot_be_forged_without_the_seed() -> None:
    """What looks like one, with any other token, ends nothing."""
    async with endpoint(PATIENT) as near, endpoint(PATIENT) as far:
        connection, accepted = await within(
            asyncio.gather(near.connect(*far.address), far.accept())
        )
        stream = await _served(connection, accepted)
        forger = asyncio.get_running_loop()
        transport, _ = await forger.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=near.address
        )
        for i in range(256):
            transport.sendto(bytes([0x40 | i % 64]) + bytes([i]) * 60)
        transport.close()
        await stream.write(b"still")
        assert await within(stream.readexactly(5)) == b"still"
        assert connection.how_closed is None


async def _served(connection: Connection, accepted: Connection) -> Stream:
    stream = connection.open_stream()
    await stream.write(b"?")
    serving = asyncio.create_task(echo(await within(accepted.accept_stream())))
    serving.add_done_callback(lambda task: task.exception())
    assert await within(stream.readexactly(1)) == b"?"
    return stream
