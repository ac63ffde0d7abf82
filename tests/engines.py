"""Engines without an event loop: each turn is a call the test makes.

What an endpoint does inside the loop's callbacks happens here one step at a time, so
that a test decides what shares a batch and what does not.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from barrel_p2p.quic.engine import SEED_BYTES, Engine
from barrel_p2p.quic.pump import RawConnection, RawStream
from barrel_p2p.quic.settings import EngineSettings
from tests.endpoints import DEADLINE_S, HOST, certificate

__all__ = ["Driven", "Noted", "NotedStream", "connected", "engines", "run_until"]


class NotedStream(RawStream):
    """A stream that writes down what happens to it and calls ``react``."""

    def __init__(self, connection: RawConnection, handle: int, stream_id: int) -> None:
        super().__init__(connection, handle, stream_id)
        self.received = bytearray()
        self.events: list[object] = []
        self.react: Callable[[object], None] = lambda event: None

    def _note(self, event: object) -> None:
        self.events.append(event)
        self.react(event)

    def data_received(self, chunk: bytes, fin: bool) -> None:
        self.received += chunk
        self._note("fin" if fin else "data")

    def writable(self) -> None:
        self._note("writable")

    def reset_received(self, error_code: int) -> None:
        self._note(("reset", error_code))

    def stop_received(self, error_code: int) -> None:
        self._note(("stop", error_code))

    def stream_released(self) -> None:
        self._note("released")


class Noted(RawConnection):
    """A connection that writes down what happens to it and calls ``react``."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.opened: list[NotedStream] = []
        self.react: Callable[[object], None] = lambda event: None
        self.on_opened: Callable[[NotedStream], None] = lambda stream: None

    def _note(self, event: object) -> None:
        self.events.append(event)
        self.react(event)

    def make_stream(self, handle: int, stream_id: int) -> RawStream:
        return NotedStream(self, handle, stream_id)

    def connected(self) -> None:
        self._note("connected")

    def stream_opened(self, stream: RawStream) -> None:
        assert isinstance(stream, NotedStream)
        self.opened.append(stream)
        self.on_opened(stream)

    def connection_closed(
        self, why: int, local: int, remote: int, application: int
    ) -> None:
        self._note(("closed", why, application))

    def open(self, *, uni: bool = False) -> NotedStream:
        stream = self.open_raw_stream(uni)
        assert isinstance(stream, NotedStream)
        return stream


class Driven:
    """One engine, its scheduled calls, and the errors its handlers let escape."""

    def __init__(self, settings: EngineSettings | None = None) -> None:
        self.calls: deque[Callable[[], None]] = deque()
        self.errors: list[BaseException] = []
        self.accepted: list[Noted] = []
        self.dialled: list[Noted] = []
        self.make_accepted: Callable[[], Noted] = Noted
        self.engine = Engine(
            settings or EngineSettings(),
            certificate_file=certificate().cert_file,
            key_file=certificate().key_file,
            reset_seed=bytes(SEED_BYTES),
            call_soon=self.calls.append,
            on_error=self.errors.append,
            accept=self.accept,
        )
        self.engine.bind(HOST, 0)

    def accept(self) -> RawConnection:
        self.accepted.append(self.make_accepted())
        return self.accepted[-1]

    @property
    def unsent(self) -> int:
        """Bytes written on any connection and not yet in a packet."""
        return sum(connection.unsent for connection in (*self.accepted, *self.dialled))

    def run_calls(self) -> None:
        """Run what ``call_soon`` was given up to now."""
        for _ in range(len(self.calls)):
            self.calls.popleft()()

    def dial(self, other: Driven) -> Noted:
        connection = Noted()
        self.dialled.append(connection)
        self.engine.dial(connection, *other.engine.address())
        return connection


@contextmanager
def engines(
    count: int = 2, settings: EngineSettings | None = None
) -> Iterator[list[Driven]]:
    """``count`` engines on loopback, freed at the end."""
    made = [Driven(settings) for _ in range(count)]
    try:
        yield made
    finally:
        for driven in made:
            driven.engine.close()


def run_until(condition: Callable[[], bool], *driven: Driven) -> None:
    """Turn the engines over, each when its descriptor is ready, until it holds."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        for one in driven:
            one.run_calls()
        fds = [one.engine.fd for one in driven]
        ready, _, _ = select.select(fds, [], [], 0.01)
        for one in driven:
            if one.engine.fd in ready:
                one.engine.pump.wake()
        assert time.monotonic() < deadline_s, "it did not happen in time"


def connected(near: Driven, far: Driven) -> tuple[Noted, Noted]:
    """A connection from ``near`` to ``far``: both ends, their handshake complete."""
    before = len(far.accepted)
    dialled = near.dial(far)
    run_until(
        lambda: "connected" in dialled.events and len(far.accepted) > before, near, far
    )
    return dialled, far.accepted[-1]
