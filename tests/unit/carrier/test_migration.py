"""A dialled connection moves to another local socket while its streams go on."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from barrel_p2p.carrier.connection import Connection
from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.errors import (
    Conflict,
    InvalidValue,
    MigrationDisabled,
    MigrationsExhausted,
    NotConnected,
    PeerUnreachable,
    UnavailableError,
)
from barrel_p2p.quic.engine import SOCKETS_MAX
from barrel_p2p.quic.settings import EngineSettings
from tests.endpoints import (
    HOST,
    HOST6,
    Pair,
    drained,
    echo,
    endpoint,
    eventually,
    pair,
    stream_pair,
    within,
)
from tests.relay import relay
from tests.tools import require_ipv6

PLAIN = EngineSettings()
MULTI = EngineSettings(multipath=True)
PLAIN_MOVES_MAX = 7


class Traffic:
    """Random bytes to the peer and back on one stream, compared by hash."""

    def __init__(self, both: Pair) -> None:
        self._both = both
        self._sent = hashlib.sha256()
        self._echoed = hashlib.sha256()
        self.count = 0
        self._stopped = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        near, far = await stream_pair(self._both)
        self._tasks = [
            asyncio.create_task(self._send(near)),
            asyncio.create_task(echo(far)),
            asyncio.create_task(self._receive(near)),
        ]

    async def more(self) -> None:
        """Wait until more bytes have gone there and back."""
        before = self.count
        await eventually(lambda: self.count > before)

    async def stop(self) -> None:
        self._stopped = True
        await within(asyncio.gather(*self._tasks))
        assert self._sent.digest() == self._echoed.digest()
        assert self.count > 0

    async def _send(self, stream: Stream) -> None:
        while not self._stopped:
            block = os.urandom(5_000)
            self._sent.update(block)
            await stream.write(block)
            await asyncio.sleep(0)
        stream.finish()

    async def _receive(self, stream: Stream) -> None:
        while chunk := await stream.read():
            self._echoed.update(chunk)
            self.count += len(chunk)


async def move(connection: Connection, engine: Endpoint, socket: int) -> None:
    """Move and check that both ends agree about the new path."""
    assert await within(connection.migrate(socket))
    assert engine._engine is not None
    assert connection.stats().local == engine._engine.address(socket)


@pytest.mark.every_loop
async def test_a_silent_connection_moves_and_its_peer_sees_the_new_address() -> None:
    async with pair() as both:
        socket = both.dialler.add_socket(HOST)
        await move(both.dialled, both.dialler, socket)
        assert both.dialled.how_closed is None
        near, _ = await stream_pair(both)
        local = both.dialled.stats().local
        await eventually(lambda: both.accepted.stats().remote == local)
        near.finish()


async def test_twenty_five_moves_under_traffic_lose_nothing() -> None:
    async with pair(MULTI) as both:
        traffic = Traffic(both)
        await traffic.start()
        sockets = [0, both.dialler.add_socket(HOST), both.dialler.add_socket(HOST)]
        for i in range(1, 26):
            await move(both.dialled, both.dialler, sockets[i % 3])
            await traffic.more()
        await traffic.stop()


@pytest.mark.parametrize("plain_side", ["dialler", "acceptor", "both"])
async def test_without_multipath_seven_moves_are_all(plain_side: str) -> None:
    dialler = MULTI if plain_side == "acceptor" else PLAIN
    acceptor = MULTI if plain_side == "dialler" else PLAIN
    async with pair(dialler, acceptor_settings=acceptor) as both:
        traffic = Traffic(both)
        await traffic.start()
        sockets = [0, both.dialler.add_socket(HOST), both.dialler.add_socket(HOST)]
        for i in range(1, PLAIN_MOVES_MAX + 1):
            await move(both.dialled, both.dialler, sockets[i % 3])
            await traffic.more()
        with pytest.raises(MigrationsExhausted) as raised:
            await within(both.dialled.migrate(sockets[2]))
        assert isinstance(raised.value, MigrationDisabled)
        assert raised.value.hint is not None
        await traffic.stop()


async def test_a_peer_that_forbids_it_is_not_migrated_away_from() -> None:
    fixed = EngineSettings(migration_disabled=True)
    async with pair(acceptor_settings=fixed) as both:
        socket = both.dialler.add_socket(HOST)
        with pytest.raises(MigrationDisabled, match="disabled"):
            await within(both.dialled.migrate(socket))
        await stream_pair(both)
        assert both.dialled.stats().local == both.dialler.address


async def test_the_accepted_side_cannot_move() -> None:
    async with pair() as both:
        socket = both.acceptor.add_socket(HOST)
        with pytest.raises(NotConnected, match="did not dial"):
            await within(both.accepted.migrate(socket))
        await stream_pair(both)


async def test_only_one_move_at_a_time() -> None:
    async with endpoint() as far, endpoint() as near, relay(far.address) as path:
        connection = await within(near.connect(*path.address))
        path.black_hole()
        socket = near.add_socket(HOST)
        first = asyncio.create_task(connection.migrate(socket, timeout=0.2))
        await asyncio.sleep(0)
        with pytest.raises(NotConnected, match="under way"):
            await connection.migrate(socket)
        assert await within(first) is False


@pytest.mark.parametrize("settings", [MULTI, PLAIN], ids=["multi", "plain"])
async def test_a_path_that_does_not_answer_is_given_up_and_the_old_one_kept(
    settings: EngineSettings,
) -> None:
    """The relay drops what does not come from the first socket."""
    async with (
        endpoint(settings) as far,
        endpoint(settings) as near,
        relay(far.address) as path,
    ):
        connection, accepted = await within(
            asyncio.gather(near.connect(*path.address), far.accept())
        )
        both = Pair(near, far, connection, accepted)
        traffic = Traffic(both)
        await traffic.start()
        only = near.address
        path.pass_from = lambda address: address == only
        socket = near.add_socket(HOST)
        for _ in range(3):
            assert await within(connection.migrate(socket, timeout=0.2)) is False
            await traffic.more()
        assert connection.stats().local == only
        path.pass_from = lambda address: True
        assert await within(connection.migrate(near.add_socket(HOST)))
        await traffic.more()
        await traffic.stop()


@pytest.mark.every_loop
async def test_a_move_ends_with_its_connection() -> None:
    async with endpoint() as far, endpoint() as near, relay(far.address) as path:
        connection = await within(near.connect(*path.address))
        path.black_hole()
        moving = asyncio.create_task(connection.migrate(near.add_socket(HOST)))
        await asyncio.sleep(0)
        connection.abort()
        with pytest.raises(PeerUnreachable):
            await within(moving)


async def test_a_socket_on_all_addresses_is_as_good_as_any() -> None:
    async with pair(host="0.0.0.0") as both:
        dialled = await within(both.dialler.connect(HOST, both.acceptor.address[1]))
        accepted = await within(both.acceptor.accept())
        again = Pair(both.dialler, both.acceptor, dialled, accepted)
        traffic = Traffic(again)
        await traffic.start()
        socket = both.dialler.add_socket("0.0.0.0")
        for target in (socket, 0, socket):
            assert await within(dialled.migrate(target))
            await traffic.more()
        assert both.dialler._engine is not None
        assert dialled.stats().local[1] == both.dialler._engine.address(socket)[1]
        await traffic.stop()


async def test_ipv6_connections_move_too() -> None:
    require_ipv6()
    async with pair(host=HOST6) as both:
        traffic = Traffic(both)
        await traffic.start()
        socket = both.dialler.add_socket(HOST6)
        await move(both.dialled, both.dialler, socket)
        await traffic.more()
        await traffic.stop()
        with pytest.raises(InvalidValue, match="family"):
            await both.dialled.migrate(both.dialler.add_socket(HOST))


@pytest.mark.parametrize("socket", [-1, 1, 7, 8, 2**31 - 1])
async def test_a_socket_that_is_not_open_is_refused(socket: int) -> None:
    async with pair() as both:
        with pytest.raises(InvalidValue, match=f"socket {socket} "):
            await both.dialled.migrate(socket)


async def test_sockets_have_a_maximum_and_can_be_given_back() -> None:
    async with pair() as both:
        one = both.dialler
        added = [one.add_socket(HOST) for _ in range(SOCKETS_MAX - 1)]
        with pytest.raises(UnavailableError, match=str(SOCKETS_MAX)):
            one.add_socket(HOST)
        one.remove_socket(added[0])
        with pytest.raises(Conflict):
            one.add_socket(HOST, both.acceptor.address[1])
        again = one.add_socket(HOST)
        await move(both.dialled, one, again)
        for wrong in (0, -1, SOCKETS_MAX, again + 99):
            with pytest.raises(InvalidValue):
                one.remove_socket(wrong)
        await stream_pair(both)


async def test_a_socket_that_a_connection_lives_on_is_not_removed() -> None:
    async with pair() as both:
        socket = both.dialler.add_socket(HOST)
        await move(both.dialled, both.dialler, socket)
        with pytest.raises(InvalidValue, match="in use"):
            both.dialler.remove_socket(socket)
        near, far = await stream_pair(both)
        await move(both.dialled, both.dialler, 0)
        await near.write(b"moved")
        assert await within(far.readexactly(5)) == b"moved"
        await eventually(lambda: _removed(both.dialler, socket))
        await near.write(b"still")
        near.finish()
        assert await within(drained(far)) == b"still"


async def test_the_stream_of_a_moving_connection_may_end_meanwhile() -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        near.write_nowait(os.urandom(100_000), fin=True)
        socket = both.dialler.add_socket(HOST)
        moved, content = await within(
            asyncio.gather(both.dialled.migrate(socket), drained(far))
        )
        assert moved
        assert len(content) == 100_000


def _removed(one: Endpoint, socket: int) -> bool:
    try:
        one.remove_socket(socket)
    except InvalidValue:
        return False
    return True
