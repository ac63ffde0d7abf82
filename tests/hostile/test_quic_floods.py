"""Floods from nobody in particular: they get no memory, no connection, no mirror."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import pytest

from barrel_p2p.quic.settings import EngineSettings
from tests.endpoints import DEADLINE_S, HOST, endpoint, within
from tests.tools import rounds
from tests.victims import Victim, genuine_initials, victim

RSS_GROWTH_MAX = 32 << 20
HONEST_SECONDS_MAX = 1.0
AMPLIFICATION_MAX = 3.0
WAVE = 64  # datagrams of any size that the smallest default socket buffer holds
DATAGRAM_BYTES_MAX = 1_472
WAVE_ANSWERED = 16  # below the 32 stateless answers that may be waiting at once
INITIALS = 1_000
SOURCES = 250  # sockets, within the descriptors that every process may open
HALF_OPEN_MAX = 16
RETRY_BYTES_MAX = 200
INITIAL_BYTES_MIN = 1_200  # of a datagram; in a smaller one, a server discards it
LONG_HEADER_IDS = 5
LONG_HEADER, KIND_MASK, KIND_RETRY = 0x80, 0x30, 0x30

# Whatever the flood opens halfway is still there when a test gives up waiting.
PATIENT = EngineSettings(handshake_timeout_ms=int(DEADLINE_S * 3_000))


def garbage(count: int, chance: random.Random) -> Iterator[bytes]:
    """Random bytes, half of them dressed as a long header of version 1."""
    for _ in range(count):
        raw = chance.randbytes(chance.randint(1, DATAGRAM_BYTES_MAX))
        dressed = chance.random() < 0.5
        yield b"\xc0\0\0\0\x01\x08" + raw[6:] if dressed else raw


def packet_end(initial: bytes | bytearray) -> int:
    """Where the packet of a client's Initial ends; zeros fill its datagram up.

    Source: RFC 9000, 17.2.2 (a Length of two bytes, as ours have).
    """
    place = LONG_HEADER_IDS
    for _ in range(3):  # two connection ids and an empty token
        place += 1 + initial[place]
    return place + 2 + (int.from_bytes(initial[place : place + 2]) & 0x3FFF)


def spoilt(
    originals: list[bytes], count: int, chance: random.Random
) -> Iterator[bytes]:
    """Genuine Initials, each with a few bits flipped or its end cut off."""
    for number in range(count):
        raw = bytearray(chance.choice(originals))
        if number % 2:
            del raw[chance.randrange(1, INITIAL_BYTES_MIN) :]
        else:
            size = packet_end(raw)
            for place in chance.sample(range(size), chance.randint(1, 4)):
                raw[place] ^= 1 << chance.randrange(8)
        yield bytes(raw)


async def flood(target: Victim, datagrams: Iterable[bytes]) -> int:
    """Send them in waves that the victim takes in full; returns how many it took."""
    before = sent = (await target.counts())["datagrams_in"]
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
        raw.setblocking(False)
        await loop.sock_connect(raw, target.address)
        for datagram in datagrams:
            await loop.sock_sendall(raw, datagram)
            sent += 1
            if (sent - before) % WAVE == 0:
                await target.until("datagrams_in", sent, 1 << 62)
    told = await target.until("datagrams_in", sent, 1 << 62)
    return told["datagrams_in"] - before


async def honest_client(target: Victim) -> float:
    """Seconds until a newcomer is connected; then it has a byte sent back to it."""
    async with endpoint() as one:
        begun_s = time.monotonic()
        connection = await within(one.connect(*target.address))
        took_s = time.monotonic() - begun_s
        stream = connection.open_stream()
        await stream.write(b"x")
        assert await within(stream.readexactly(1)) == b"x"
    return took_s


async def assert_shrugged_off(target: Victim, datagrams: Iterable[bytes]) -> None:
    """A flood leaves the victim as it was, and honest clients come in all along."""
    assert await honest_client(target) <= HONEST_SECONDS_MAX
    rss_bytes = target.rss_bytes
    flooding = asyncio.create_task(flood(target, datagrams))
    clients = 1
    while not flooding.done():
        assert await honest_client(target) <= HONEST_SECONDS_MAX
        clients += 1
        await asyncio.wait([flooding], timeout=0.2)
    await flooding
    assert await honest_client(target) <= HONEST_SECONDS_MAX
    assert clients > 1
    told = await target.counts()
    assert told["accepted"] == clients + 1
    assert told["accepted_streams"] == told["stream_bytes"] == clients + 1
    assert target.rss_bytes - rss_bytes <= RSS_GROWTH_MAX
    await target.until("half_open", 0, 0)


class Sources:
    """Sockets on many ports, which count what they send and what comes back."""

    def __init__(self, target: tuple[str, int], stack: ExitStack) -> None:
        self._sockets: list[socket.socket] = []
        self.sent = [0] * SOURCES
        self.received = [0] * SOURCES
        self.retries = 0
        for _ in range(SOURCES):
            raw = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._sockets.append(stack.enter_context(raw))
            raw.setblocking(False)
            raw.bind((HOST, 0))
            raw.connect(target)

    def send(self, number: int, datagram: bytes) -> None:
        self.sent[number] += self._sockets[number].send(datagram)

    def drain(self) -> None:
        """Take in whatever has come back by now."""
        for number, raw in enumerate(self._sockets):
            while answer := _received(raw):
                self.received[number] += len(answer)
                self._note_retry(answer)

    def _note_retry(self, answer: bytes) -> None:
        if answer[0] & LONG_HEADER and answer[0] & KIND_MASK == KIND_RETRY:
            self.retries += 1
            assert len(answer) <= RETRY_BYTES_MAX

    def worst_ratio(self) -> float:
        """Bytes received per byte sent, for the source that got the most."""
        pairs = zip(self.received, self.sent, strict=True)
        return max(got / gave for got, gave in pairs)


def _received(raw: socket.socket) -> bytes:
    try:
        return raw.recv(65_536)
    except BlockingIOError:
        return b""


async def spoof(target: Victim, sources: Sources, initials: list[bytes]) -> int:
    """Send each Initial and never go on; returns the most that were half open."""
    most = 0
    for number, initial in enumerate(initials):
        sources.send(number % SOURCES, initial)
        if (number + 1) % WAVE_ANSWERED == 0 or number + 1 == len(initials):
            told = await target.until("datagrams_in", number + 1, 1 << 62)
            most = max(most, told["half_open"])
            sources.drain()
    return most


@pytest.mark.serial
@pytest.mark.timeout(300)
async def test_garbage_takes_no_memory_and_keeps_nobody_out() -> None:
    """X4, N6: random bytes at any rate grow nothing and open nothing."""
    chance = random.Random(4)
    async with victim(PATIENT) as target:
        count = rounds(100_000, whole=3_000_000)
        await assert_shrugged_off(target, garbage(count, chance))


@pytest.mark.serial
async def test_spoilt_initials_take_no_memory_and_keep_nobody_out() -> None:
    """X4, N6: 10,000 Initials with flipped bits or a missing end open nothing."""
    chance = random.Random(6)
    originals = await genuine_initials(20)
    async with victim(PATIENT) as target:
        await assert_shrugged_off(target, spoilt(originals, 10_000, chance))


async def test_initials_that_never_go_on_are_answered_with_thrice_their_bytes() -> None:
    """N6: measured at the senders, retransmissions and the end included."""
    initials = await genuine_initials(INITIALS)
    settings = EngineSettings(half_open_max=10_000, handshake_timeout_ms=1_500)
    with ExitStack() as stack:
        async with victim(settings) as target:
            sources = Sources(target.address, stack)
            most = await spoof(target, sources, initials)
            assert most > HALF_OPEN_MAX
            told = await target.until("half_open", 0, 0)
            sources.drain()
            assert told["accepted"] == told["accepted_streams"] == 0
            assert sum(sources.received) == told["bytes_out"]
            assert sources.retries == 0
            # A victim that answers nobody would hold to the limit as well.
            assert sum(sources.received) > sum(sources.sent)
            assert sources.worst_ratio() <= AMPLIFICATION_MAX


@pytest.mark.serial
async def test_initials_above_the_half_open_maximum_must_prove_their_address() -> None:
    """N6: above it Retry answers, which keeps nothing and is small."""
    initials = await genuine_initials(INITIALS)
    settings = EngineSettings(half_open_max=HALF_OPEN_MAX)
    with ExitStack() as stack:
        async with victim(settings) as target:
            sources = Sources(target.address, stack)
            most = await spoof(target, sources, initials)
            told = await target.counts()
            assert HALF_OPEN_MAX <= most <= HALF_OPEN_MAX + 1
            assert HALF_OPEN_MAX <= told["half_open"] <= HALF_OPEN_MAX + 1
            assert await honest_client(target) <= HONEST_SECONDS_MAX
            sources.drain()
            assert sources.retries == INITIALS - most
            assert sources.worst_ratio() <= AMPLIFICATION_MAX
            assert (await target.counts())["accepted"] == 1
