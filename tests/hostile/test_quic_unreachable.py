"""ICMP errors end the connection they are about, and forged ones end nothing.

Source: RFC 792; RFC 9000, 14.2.1.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain

import pytest

from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.errors import PeerUnreachable
from barrel_p2p.quic.settings import EngineSettings
from tests.endpoints import (
    HOST,
    closed_ports,
    echo,
    endpoint,
    eventually,
    pair,
    stream_pair,
    within,
)
from tests.tools import raw_icmp_socket, rounds

type Address = tuple[str, int]

PATIENT = EngineSettings(handshake_timeout_ms=600_000, idle_timeout_ms=600_000)
"""Timeouts that no test lives to see."""

HANDSHAKE_SHARE = 20  # "long before" the timeout: within this part of it
CLOSED_PORTS = 50
WAVE = 32  # errors that the smallest default socket buffer holds
ID_BYTES = 8
SHORT_HEADER = b"\x40"
LONG_HEADER = b"\xc0\0\0\0\x01" + bytes([ID_BYTES])
PING_BYTES = 100


@contextmanager
def silence() -> Iterator[Address]:
    """The address of a bound socket that nobody reads: no answer, and no ICMP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind((HOST, 0))
        yield mute.getsockname()


def checksum(data: bytes) -> int:
    """The Internet checksum of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def port_unreachable(source: Address, target: Address, payload: bytes) -> bytes:
    """An ICMP error that quotes a datagram from ``source`` to ``target``."""
    udp = struct.pack(">HHHH", source[1], target[1], 8 + len(payload), 0) + payload
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + addresses
    ip = ip[:10] + checksum(ip).to_bytes(2) + ip[12:]
    message = bytes([3, 3, 0, 0, 0, 0, 0, 0]) + ip + udp
    message += bytes(len(message) % 2)
    return message[:2] + checksum(message).to_bytes(2) + message[4:]


def guess(chance: random.Random) -> bytes:
    """The start of a packet with a connection id that is guessed, or cut short."""
    header = chance.choice([SHORT_HEADER, LONG_HEADER])
    quoted = header + chance.randbytes(ID_BYTES + chance.randint(0, 40))
    return quoted[: chance.choice([0, 1, len(header), len(quoted), len(quoted)])]


async def ping(stream: Stream) -> None:
    """Have some bytes echoed."""
    sent = random.randbytes(PING_BYTES)
    await stream.write(sent)
    assert await within(stream.readexactly(PING_BYTES)) == sent


async def ping_until[T](over: asyncio.Future[T], stream: Stream) -> None:
    """Have bytes echoed again and again, once at least, until ``over``."""
    await ping(stream)
    while not over.done():
        await ping(stream)


async def forge(target: Endpoint, victims: list[Address], count: int) -> None:
    """Send ``count`` errors about datagrams to ``victims``; all of them arrive."""
    chance = random.Random(count)
    source = target.address

    def all_arrived() -> bool:
        return target.stats().icmp_seen == number

    with closing(raw_icmp_socket()) as raw:
        for number in range(1, count + 1):
            about = victims[number % len(victims)]
            message = port_unreachable(source, about, guess(chance))
            raw.sendto(message, (source[0], 0))
            if number % WAVE == 0 or number == count:
                await eventually(all_arrived)


async def test_a_dial_to_a_closed_port_ends_as_unreachable_at_once() -> None:
    with closed_ports(1) as [address]:
        async with endpoint(PATIENT) as one:
            begun_s = time.monotonic()
            with pytest.raises(PeerUnreachable, match="unreachable") as raised:
                await within(one.connect(*address))
            took_ms = (time.monotonic() - begun_s) * 1_000
            assert took_ms < PATIENT.handshake_timeout_ms / HANDSHAKE_SHARE
            assert raised.value.peer == f"{address[0]}:{address[1]}"
            assert one.stats().icmp_believed >= 2
            await eventually(lambda: one.stats().connections == 0)


async def test_errors_about_dead_peers_never_fail_a_live_one() -> None:
    """No datagram to a live peer is lost to an error that a dead one has caused."""
    with closed_ports(CLOSED_PORTS) as addresses:
        async with pair(PATIENT) as both:
            near, far = await stream_pair(both)
            echoing = asyncio.create_task(echo(far))
            dial, live = both.dialler.connect, both.acceptor.address
            # All first packets leave in one batch, each live one after a dead one.
            dials = [(dial(*address), dial(*live)) for address in addresses]
            results = asyncio.gather(*chain(*dials), return_exceptions=True)
            await ping_until(results, near)
            dead, alive = (await results)[::2], (await results)[1::2]
            for result in dead:
                assert isinstance(result, PeerUnreachable)
                assert "unreachable" in str(result)
            assert both.dialler.connections == {both.dialled, *alive}

            def all_accounted_for() -> bool:
                told = both.dialler.stats()
                arrived = both.acceptor.stats().datagrams_in
                return told.datagrams_out == told.icmp_seen + arrived

            await eventually(all_accounted_for)
            near.finish()
            await within(echoing)


async def test_forged_errors_end_neither_a_connection_nor_a_dial() -> None:
    count = rounds(10_000, whole=50_000)
    with silence() as mute:
        async with pair(PATIENT) as both:
            near, far = await stream_pair(both)
            echoing = asyncio.create_task(echo(far))
            dial = asyncio.create_task(both.dialler.connect(*mute))
            await eventually(lambda: len(both.dialler.connections) == 2)
            victims = [both.acceptor.address, mute]
            forging = asyncio.ensure_future(forge(both.dialler, victims, count))
            await ping_until(forging, near)
            await forging
            told = both.dialler.stats()
            assert (told.icmp_seen, told.icmp_believed) == (count, 0)
            assert not dial.done()
            assert both.dialled.how_closed is None
            await ping_until(forging, near)
            near.finish()
            await within(echoing)
            dial.cancel()
            with pytest.raises(asyncio.CancelledError):
                await within(dial)
