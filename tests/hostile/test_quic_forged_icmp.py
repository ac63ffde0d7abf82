"""Forged ICMP errors end nothing: they do not know our connection ids."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import struct

import pytest

from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.errors import PeerUnreachable
from tests.endpoints import HOST, endpoint, pair, stream_pair, within
from tests.tools import require_root

FORGERIES = 10_000
PORT_UNREACHABLE = (3, 3)
UDP = 17


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    words = struct.unpack(f"!{len(data) // 2}H", data)
    total: int = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def forged(source: tuple[str, int], target: tuple[str, int], payload: bytes) -> bytes:
    """A port-unreachable that quotes a datagram from ``source`` to ``target``."""
    udp = struct.pack("!HHHH", source[1], target[1], 8 + len(payload), 0)
    header = struct.pack(
        "!BBHHHBBH4s4s",
        *(0x45, 0, 20 + len(udp) + len(payload), 0, 0x4000, 64, UDP, 0),
        *(socket.inet_aton(source[0]), socket.inet_aton(target[0])),
    )
    quoted = header + udp + payload
    quoted += bytes(len(quoted) % 2)
    kind = struct.pack("!BBHI", *PORT_UNREACHABLE, 0, 0)
    sealed = struct.pack("!BBHI", *PORT_UNREACHABLE, checksum(kind + quoted), 0)
    return sealed + quoted


def guess(number: int) -> bytes:
    """The start of a packet with a random connection id, short or long header."""
    if number % 2:
        return b"\x40" + secrets.token_bytes(8) + bytes(20)
    version = (1).to_bytes(4)
    return b"\xc0" + version + b"\x08" + secrets.token_bytes(8) + bytes(20)


async def shower(one: Endpoint, target: tuple[str, int], count: int) -> int:
    """Send ``count`` forgeries about what ``one`` sends to ``target``; those it saw."""
    before = one.stats().icmp_seen
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        for number in range(count):
            raw.sendto(forged(one.address, target, guess(number)), (HOST, 0))
            if number % 20 == 19:
                await asyncio.sleep(0)
    return one.stats().icmp_seen - before


@pytest.mark.parametrize("short", [0, 1, 5, 8])
async def test_quotes_too_short_for_a_connection_id_are_harmless(short: int) -> None:
    require_root("a raw socket")
    async with pair() as both:
        near, far = await stream_pair(both)
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
            for first in (0x40, 0xC0):
                quote = bytes([first]) + os.urandom(8)
                message = forged(
                    both.dialler.address, both.acceptor.address, quote[:short]
                )
                raw.sendto(message, (HOST, 0))
        await near.write(b"still")
        assert await within(far.readexactly(5)) == b"still"
        assert both.dialler.stats().icmp_believed == 0


async def test_ten_thousand_forged_errors_end_no_connection_and_no_stream() -> None:
    require_root("a raw socket")
    async with pair() as both:
        near, far = await stream_pair(both)
        seen = await shower(both.dialler, both.acceptor.address, FORGERIES)
        seen += await shower(both.acceptor, both.dialler.address, FORGERIES // 10)
        for text in (b"still", b"alive"):
            await near.write(text)
            assert await within(far.readexactly(5)) == text
            await far.write(text)
            assert await within(near.readexactly(5)) == text
        assert seen > FORGERIES // 2, "the forgeries did not reach the engine"
        assert both.dialler.stats().icmp_believed == 0
        assert both.acceptor.stats().icmp_believed == 0
        assert (both.dialled.how_closed, both.accepted.how_closed) == (None, None)


async def test_forged_errors_do_not_end_a_dial_that_is_under_way() -> None:
    require_root("a raw socket")
    async with endpoint() as near:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
            mute.bind((HOST, 0))
            dial = asyncio.create_task(near.connect(*mute.getsockname()))
            await asyncio.sleep(0)
            assert await shower(near, mute.getsockname(), 500) > 0
            assert not dial.done()
            assert near.stats().icmp_believed == 0
            dial.cancel()
        with pytest.raises((asyncio.CancelledError, PeerUnreachable)):
            await within(dial)
