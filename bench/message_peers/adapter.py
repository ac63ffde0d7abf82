"""What a message system under measurement offers: calls, and one-way messages.

A server echoes calls and counts one-way messages. It answers one request differently:
``QUERY`` asks how the counting stands. Every clock here is the machine's monotonic one,
which all its processes share, so the receiver itself says when it had counted all.

Source: clock_gettime(2), CLOCK_MONOTONIC, on which ``time.perf_counter_ns`` is based.
"""

from __future__ import annotations

import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

__all__ = [
    "BIG_MESSAGE",
    "HOST",
    "MESSAGE",
    "MESSAGE_BYTE",
    "PHASES",
    "QUERY",
    "Counted",
    "Info",
    "Link",
    "Peer",
    "Tally",
    "end_marker",
    "free_port",
]

HOST = "127.0.0.1"

PHASES = (
    "call",
    "calls",
    "oneway",
    "batched",
    "big",
    "bulk",
    "boot",
    "first",
    "aged",
    "disconnect",
)
"""What can be measured; ``Peer.phases`` says which a system takes part in.

``bulk`` is the engine's own stream, measured by ``bench.transport``: no system here.
"""

MESSAGE_BYTE = ord("j")
MESSAGE = bytes([MESSAGE_BYTE]) * 100
BIG_MESSAGE = bytes([MESSAGE_BYTE]) * (64 << 10)
QUERY = b"?"

_END = struct.Struct(">16sQH")
_END_TEXT = b"\xffEND OF THE PASS"
_COUNTED = struct.Struct(">I?QQ")

type Info = Mapping[str, str | int | list[int]]
"""What a client has to know of its server; ``pids`` are those of its brokers."""


def end_marker(count: int, senders: int) -> bytes:
    """The last message of one of ``senders``, which sent ``count`` before it."""
    return _END.pack(_END_TEXT, count, senders)


@dataclass(frozen=True, slots=True)
class Counted:
    """How the counting stands.

    Attributes:
        passes: Passes that are complete.
        right: Whether as many messages arrived in the last one as were announced.
        count: Messages of the last complete pass; of the present one before that.
        at_ns: When its last end marker was counted, on the machine's monotonic clock.
    """

    passes: int
    right: bool
    count: int
    at_ns: int

    @classmethod
    def unpack(cls, data: bytes) -> Counted:
        """What ``Tally.report`` packed."""
        return cls(*_COUNTED.unpack(data))


class Tally:
    """Counts one-way messages at the receiver, pass by pass.

    A pass ends with one end marker from each of its senders. The loops of the adapters
    add to ``count`` themselves, because a call for each message would be a good part of
    what is measured; whatever does not begin with ``MESSAGE_BYTE`` goes to ``end``.
    """

    def __init__(self) -> None:
        self.count = 0
        self._announced = self._ended = 0
        self._last = Counted(0, right=False, count=0, at_ns=0)

    def end(self, marker: bytes) -> None:
        """Take one sender's end marker.

        Raises:
            ValueError: It is none.
        """
        if len(marker) != _END.size:
            raise ValueError(f"{len(marker)} bytes are no end marker of {_END.size}")
        text, count, senders = _END.unpack(marker)
        if text != _END_TEXT:
            raise ValueError(f"{text!r} is no end marker")
        self._announced += count
        self._ended += 1
        if self._ended == senders:
            self._last = Counted(
                self._last.passes + 1,
                self.count == self._announced,
                self.count,
                time.perf_counter_ns(),
            )
            self.count = self._announced = self._ended = 0

    def report(self) -> bytes:
        """How the counting stands, for ``Counted.unpack``."""
        last = self._last
        return _COUNTED.pack(
            last.passes, last.right, self.count or last.count, last.at_ns
        )

    def answer(self, request: bytes) -> bytes:
        """The echo, or the report if that was asked for."""
        return self.report() if request == QUERY else request


class Link(ABC):
    """A client's way to the server."""

    message: object = MESSAGE
    """What a call sends and gets back, and what ``send_all`` is given."""

    big_message: object = BIG_MESSAGE

    @abstractmethod
    async def call(self, message: object) -> object:
        """Send ``message``, return the answer."""

    async def query(self) -> Counted:
        """Ask how the counting stands."""
        answer = await self.call(QUERY)
        assert isinstance(answer, bytes)
        return Counted.unpack(answer)

    @abstractmethod
    async def send_all(self, message: object, count: int, end: bytes) -> None:
        """Send ``message`` ``count`` times and then ``end``, as one sender.

        Keeps their order and obeys the system's back-pressure. Several may run at once.
        """


class Peer(ABC):
    """One system, in one process, as a server or as a client.

    Args:
        directory: An empty folder of this process's own.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    phases: ClassVar[frozenset[str]] = frozenset(
        {"call", "calls", "oneway", "big", "boot", "first"}
    )
    share: ClassVar[Mapping[str, int]] = {}
    """Divides the amount of work of a step, for systems that would take minutes."""

    loop: ClassVar[str] = "uvloop"
    """The event loop it runs on, ``uvloop`` or ``asyncio``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod  # noqa: B027 - most need no more than their packages.
    def check(cls) -> None:
        """Do nothing if the system can run here.

        Raises:
            PeerMissing: Something other than a Python package is lacking.
        """

    @abstractmethod
    async def serve(self, phase: str, tally: Tally) -> Info:
        """Listen on loopback; return what a client needs to know."""

    async def open(self) -> None:  # noqa: B027 - most have nothing to bring up.
        """Bring up what a client has before it knows any server."""

    @abstractmethod
    async def connect(self, info: Info) -> Link:
        """Reach the server; return once a message can be sent."""

    @abstractmethod
    async def close(self) -> None:
        """Close everything this object opened and wait until it is closed."""

    async def disconnect_ms(self, info: Info) -> float:
        """Connect, disconnect, and return how long the server still listed us.

        Raises:
            TypeError: The system keeps no list of peers, so ``phases`` must not say so.
        """
        raise TypeError(f"{self.name} keeps no list of peers")


def free_port() -> int:
    """A TCP port nobody listens on, for systems that cannot tell which they chose."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port
