"""What a system under measurement offers: a server, connections, and bytes on a stream.

Both sides are callback style, because that is the fastest way into all of them. Calls
on the measured path are the system's own bound methods wherever it has them, so that an
adapter costs the same handful of Python calls everywhere.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import ClassVar, Protocol

from bench.peers.certificate import Certificate

__all__ = [
    "HOST",
    "PHASES",
    "Bytes",
    "Contexts",
    "Link",
    "Peer",
    "Received",
    "Session",
    "Write",
]

HOST = "127.0.0.1"

PHASES = ("rtt", "msgs", "bulk", "handshake", "idle")
"""What can be measured; ``Peer.phases`` says which a system takes part in."""

type Bytes = bytes | memoryview
type Received = Callable[[Bytes], object]
type Write = Callable[[Bytes], object]
type Session = Callable[[Write], Received]
"""Called once a connection with a way to answer; returns what eats its bytes."""


class Link(Protocol):
    """One connection with one stream, as the client sees it."""

    @property
    def write(self) -> Write:
        """Queue a few bytes; inside ``received`` they leave without more ado."""
        ...

    @property
    def flush(self) -> Callable[[], None]:
        """Send what was written outside ``received``, where the system needs asking."""
        ...

    async def send_all(self, block: bytes, count: int) -> None:
        """Write ``block`` ``count`` times, a call each, obeying back-pressure."""
        ...

    @property
    def close(self) -> Callable[[], None]:
        """Begin to close; ``Peer.close`` waits for the end of it."""
        ...


class Peer(ABC):
    """One system, in one process, as a server or as a client."""

    name: ClassVar[str]
    package: ClassVar[str | None] = None
    phases: ClassVar[frozenset[str]]
    share: ClassVar[Mapping[str, int]] = {}
    """Divides the amount of work of a phase, for systems that would take minutes."""

    def __init__(self, certificate: Certificate) -> None:
        self.certificate = certificate

    @abstractmethod
    async def serve(self, session: Session) -> int:
        """Listen on loopback; return the port."""

    @abstractmethod
    async def connect(self, port: int, received: Received) -> Link:
        """Connect to ``port``; return once the handshake is complete."""

    @abstractmethod
    async def close(self) -> None:
        """Close everything this object opened and wait until it is closed."""


class Contexts:
    """Entered async contexts of a client API, each left in a task of its own.

    The QUIC peers offer a connection as a context manager; leaving it takes a round
    trip or more, and a benchmark of handshakes has the next one to do.
    """

    def __init__(self) -> None:
        self._open: set[AsyncExitStack] = set()
        self._leaving: set[asyncio.Task[None]] = set()

    async def enter[T](
        self, context: AbstractAsyncContextManager[T]
    ) -> tuple[T, Callable[[], None]]:
        """Enter ``context``; return its value, and a call that begins to leave it."""
        stack = AsyncExitStack()
        value = await stack.enter_async_context(context)
        self._open.add(stack)
        return value, partial(self._leave, stack)

    def _leave(self, stack: AsyncExitStack) -> None:
        if stack in self._open:
            self._open.remove(stack)
            leaving = asyncio.ensure_future(stack.aclose())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Leave what is still open; return when everything was left."""
        for stack in list(self._open):
            self._leave(stack)
        await asyncio.gather(*self._leaving)
