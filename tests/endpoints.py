"""Real endpoints on loopback for tests: a certificate, a pair, deadlines.

Nothing here is simulated: every pair talks UDP through the kernel.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from barrel_p2p.auth.certs import CertificateFiles, ensure_certificate
from barrel_p2p.carrier.connection import Connection
from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.quic.settings import EngineSettings

__all__ = [
    "DEADLINE_S",
    "HOST",
    "HOST6",
    "Pair",
    "certificate",
    "closed_ports",
    "drained",
    "echo",
    "endpoint",
    "eventually",
    "pair",
    "stream_pair",
    "within",
]

HOST = "127.0.0.1"
HOST6 = "::1"

DEADLINE_S = 20.0
"""An event that has not come by then never will, however busy the machine is."""

_POLL_S = 0.005


@functools.cache
def certificate() -> CertificateFiles:
    """One certificate for the whole test process."""
    directory = tempfile.mkdtemp(prefix="barrel-p2p-test-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return ensure_certificate(Path(directory) / "tls")


@contextmanager
def closed_ports(count: int, host: str = HOST) -> Iterator[list[tuple[str, int]]]:
    """Addresses that answer with ICMP, and that nobody else can bind meanwhile.

    A connected socket holds each port and takes datagrams from its own peer alone.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as stack:
        held = [
            stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            for _ in range(count)
        ]
        for one in held:
            one.bind((host, 0))
            one.connect((host, 9))
        yield [one.getsockname()[:2] for one in held]


async def within[T](awaitable: Awaitable[T], seconds: float = DEADLINE_S) -> T:
    """The result of ``awaitable``; TimeoutError when it takes longer than that."""
    async with asyncio.timeout(seconds):
        return await awaitable


async def eventually(
    condition: Callable[[], bool], seconds: float = DEADLINE_S
) -> None:
    """Return once ``condition()`` holds, for states that have no event of their own."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 -- there is no event to wait for
            await asyncio.sleep(_POLL_S)  # not synchronisation: the interval of looks


@asynccontextmanager
async def endpoint(
    settings: EngineSettings | None = None,
    *,
    host: str = HOST,
    port: int = 0,
    reset_seed: bytes | None = None,
) -> AsyncIterator[Endpoint]:
    """An endpoint that is closed at the end, whatever happened."""
    opened = await Endpoint.open(
        host,
        port,
        certificate=certificate(),
        settings=settings,
        reset_seed=reset_seed,
    )
    try:
        yield opened
    finally:
        await opened.close(drain=0.2)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two endpoints of this process and one connection between them."""

    dialler: Endpoint
    acceptor: Endpoint
    dialled: Connection
    accepted: Connection


@asynccontextmanager
async def pair(
    settings: EngineSettings | None = None,
    *,
    acceptor_settings: EngineSettings | None = None,
    host: str = HOST,
) -> AsyncIterator[Pair]:
    """A connected pair; the acceptor has the same settings unless told otherwise."""
    async with (
        endpoint(acceptor_settings or settings, host=host) as acceptor,
        endpoint(settings, host=host) as dialler,
    ):
        dialled, accepted = await within(
            asyncio.gather(dialler.connect(*acceptor.address), acceptor.accept())
        )
        yield Pair(dialler, acceptor, dialled, accepted)


async def stream_pair(both: Pair, *, hello: bytes = b"hello") -> tuple[Stream, Stream]:
    """The two ends of a stream: the dialler's, and the acceptor's after ``hello``."""
    near = both.dialled.open_stream()
    await near.write(hello)
    far = await within(both.accepted.accept_stream())
    assert await within(far.readexactly(len(hello))) == hello
    return near, far


async def drained(stream: Stream) -> bytes:
    """Everything up to the end of the stream."""
    parts = []
    while chunk := await stream.read():
        parts.append(chunk)
    return b"".join(parts)


async def echo(stream: Stream) -> None:
    """Send back whatever arrives, and the end after it."""
    while chunk := await stream.read():
        await stream.write(chunk)
    stream.finish()
