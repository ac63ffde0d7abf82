"""One UDP port that dials and listens: an engine driven by the running event loop.

The endpoint owns no task. Its engine has one descriptor, watched by the loop, and
everything else happens inside that callback; closing removes the watch and frees the
engine, so nothing is left behind.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from barrel_p2p.carrier.connection import CODE_BUSY, Connection
from barrel_p2p.errors import NotStarted, PeerUnreachable
from barrel_p2p.quic.engine import SEED_BYTES, Engine, EngineStats
from barrel_p2p.quic.pump import Pump
from barrel_p2p.quic.settings import EngineSettings

__all__ = ["ACCEPT_MAX", "CODE_BUSY", "Endpoint"]

ACCEPT_MAX = 1_024
"""Accepted connections that may wait for ``accept``; more are turned away."""


class _Certificate(Protocol):
    @property
    def cert_file(self) -> Path: ...
    @property
    def key_file(self) -> Path: ...


class Endpoint:
    """A QUIC endpoint on the running event loop. Make one with ``Endpoint.open``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._engine: Engine | None = None
        self._fd = -1
        self._live: set[Connection] = set()
        self._forget = self._live.discard
        self._accepted: deque[Connection] = deque()
        self._accept_waiters: deque[asyncio.Future[None]] = deque()
        self._on_accept: Callable[[Connection], None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] | None = None  # since close() has begun

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        *,
        certificate: _Certificate,
        settings: EngineSettings | None = None,
        reset_seed: bytes | None = None,
    ) -> Self:
        """Bind ``host`` and ``port`` and start to listen.

        Args:
            host: A numeric address of this host, or ``0.0.0.0`` or ``::`` for all.
            port: 0 lets the kernel choose; see ``address``.
            certificate: The pair to present, from ``ensure_certificate``.
            settings: Limits and timings; None for the defaults.
            reset_seed: 16 secret bytes, the same after a restart, so that peers of the
                earlier life notice at once; None for random ones.

        Raises:
            Conflict: The address is in use.
            ConfigError: The address is not one of this host.
            InvalidValue: ``host`` is no numeric address or ``reset_seed`` too short.
            StorageError: The certificate or key cannot be used.
            ImportError: picoquic is missing or does not fit.
        """
        endpoint = cls(asyncio.get_running_loop())
        seed = secrets.token_bytes(SEED_BYTES) if reset_seed is None else reset_seed
        engine = Engine(
            settings or EngineSettings(),
            certificate_file=certificate.cert_file,
            key_file=certificate.key_file,
            reset_seed=seed,
            call_soon=endpoint._loop.call_soon,
            on_error=endpoint._report,
            accept=endpoint._make_accepted,
        )
        try:
            engine.bind(host, port)
        except BaseException:
            engine.close()
            raise
        endpoint._engine = engine
        endpoint._fd = engine.fd
        endpoint._loop.add_reader(endpoint._fd, engine.pump.wake)
        return endpoint

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it is bound to."""
        return self._alive().address()

    def fileno(self) -> int:
        """The descriptor that the loop watches: an epoll that holds all its sockets.

        Raises:
            NotStarted: It is closed.
        """
        return self._alive().fd

    @property
    def pump(self) -> Pump:
        """What moves bytes and events of its engine, for compiled callers.

        Raises:
            NotStarted: It is closed.
        """
        return self._alive().pump

    @property
    def connections(self) -> frozenset[Connection]:
        """Connections that are open or being opened."""
        return frozenset(self._live)

    @property
    def on_accept(self) -> Callable[[Connection], None] | None:
        """When set, called with every connection a peer opens, as soon as it is up.

        The call comes from the loop's callback, before any byte of the connection's
        streams. Connections that were waiting for ``accept`` are handed over at once.
        """
        return self._on_accept

    @on_accept.setter
    def on_accept(self, handler: Callable[[Connection], None] | None) -> None:
        self._on_accept = handler
        while handler is not None and self._accepted:
            handler(self._accepted.popleft())

    def stats(self) -> EngineStats:
        """Totals of datagrams and bytes, and what is held now."""
        return self._alive().stats()

    def add_socket(self, host: str, port: int = 0) -> int:
        """Bind another UDP socket to migrate connections to; returns its index.

        Raises:
            Conflict: The address is in use.
            ConfigError: The address is not one of this host.
            UnavailableError: No more sockets are allowed.
        """
        return self._alive().bind(host, port)

    def remove_socket(self, socket: int) -> None:
        """Close a socket of ``add_socket`` that no connection uses any more.

        Raises:
            InvalidValue: It is not open, the first one, or being migrated to.
        """
        self._alive().unbind(socket)

    async def numeric_address(self, host: str, port: int) -> str:
        """The numeric address that a dial of ``host`` would go to.

        Args:
            host: A numeric address, or a name to resolve.
            port: UDP port, for the resolver.

        Raises:
            PeerUnreachable: There is no such host in the family that is bound.
            NotStarted: The endpoint is closed.
        """
        return await self._resolve(host, port)

    def dial(self, host: str, port: int, *, socket: int = 0) -> Connection:
        """Start a handshake; ``Connection.wait_connected`` tells how it went.

        Args:
            host: A numeric address.
            port: UDP port.
            socket: An index of ``add_socket`` to dial from; 0 for the endpoint's own.

        Raises:
            InvalidValue: No address, or of a family that is not bound.
            UnavailableError: ``connections_max`` is reached.
            NotStarted: The endpoint is closed.
        """
        engine = self._alive()
        connection = Connection(engine, dialled=True)
        engine.dial(connection, host, port, socket=socket)
        connection._remote = (host, port)
        self._track(connection)
        return connection

    async def connect(
        self, host: str, port: int, *, timeout: float | None = None
    ) -> Connection:
        """Dial a peer; returns once the handshake is complete.

        Args:
            host: A numeric address, or a name to resolve.
            port: UDP port.
            timeout: Seconds; None for the engine's ``handshake_timeout_ms``.

        Raises:
            PeerUnreachable: No such host, no answer in time, or the peer refused.
            UnavailableError: ``connections_max`` is reached.
            NotStarted: The endpoint is closed.
        """
        self._alive()
        connection: Connection | None = None
        try:
            async with asyncio.timeout(timeout):
                numeric = await self._resolve(host, port)
                connection = self.dial(numeric, port)
                await connection.wait_connected()
        except TimeoutError:
            if connection is not None:
                connection.abort()
            raise PeerUnreachable(
                f"no answer from {host} port {port} within {timeout} s",
                peer=f"{host}:{port}",
            ) from None
        except asyncio.CancelledError:
            if connection is not None:
                connection.abort()
            raise
        except PeerUnreachable as error:
            error.peer = f"{host}:{port}"
            raise
        return connection

    async def accept(self) -> Connection:
        """The next connection a peer opens, its handshake complete.

        Raises:
            NotStarted: The endpoint is or gets closed.
        """
        while True:
            self._alive()
            if self._accepted:
                return self._accepted.popleft()
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._accept_waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if self._accepted:  # This waiter's turn, which it cannot take.
                    self._wake_accept_waiter()
                raise

    async def wait_drained(self) -> None:
        """Wait until all that was written on every connection is acknowledged.

        Raises:
            NotStarted: The endpoint is closed.
        """
        await self._wait_drained(self._alive())

    async def close(self, *, drain: float = 1.0) -> None:
        """Send what is queued, close every connection, free the port. Idempotent.

        Args:
            drain: Seconds to wait, at most, for written bytes to be acknowledged and
                for peers to confirm the close.
        """
        engine = self._engine
        if engine is None:
            return
        if self._closed is not None:
            await asyncio.shield(self._closed)
            return
        self._closed = self._loop.create_future()
        try:
            async with asyncio.timeout(drain):
                await self._wait_drained(engine)
                self._close_connections(engine)
                if self._live:
                    await asyncio.wait([c._down for c in self._live])
        except TimeoutError:
            pass  # A peer that is gone cannot confirm.
        finally:
            self._close_connections(engine)
            self._shut(engine)
            self._closed.set_result(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _wait_drained(self, engine: Engine) -> None:
        if self._drained is None or self._drained.done():
            self._drained = self._loop.create_future()
        engine.pump.set_after_wake(self._check_drained)
        self._check_drained()
        await asyncio.shield(self._drained)

    def _check_drained(self) -> None:
        if self._drained is None or self._drained.done():
            return
        for connection in self._live:
            if connection.is_up and (connection.unsent or connection.in_flight):
                return
        self._drained.set_result(None)

    def _close_connections(self, engine: Engine) -> None:
        for connection in self._live:
            connection.close(0, "closed")
        engine.pump.flush()

    def _shut(self, engine: Engine) -> None:
        self._engine = None
        self._loop.remove_reader(self._fd)
        for connection in list(self._live):
            connection.finish(1, 0, 0, 0)
        engine.close()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._accepted.clear()
        while self._accept_waiters:
            self._wake_accept_waiter()

    def _track(self, connection: Connection) -> None:
        self._live.add(connection)
        connection._on_down = self._forget

    def _make_accepted(self) -> Connection:
        connection = Connection(self._alive(), dialled=False)
        connection._on_up = self._on_accepted
        self._track(connection)
        return connection

    def _on_accepted(self, connection: Connection) -> None:
        if self._on_accept is not None:
            self._on_accept(connection)
            return
        if len(self._accepted) >= ACCEPT_MAX:
            # Those that have come and gone must not keep others out.
            self._accepted = deque(c for c in self._accepted if not c.closed)
        if len(self._accepted) >= ACCEPT_MAX:
            connection.close(CODE_BUSY, "accept queue full")
            return
        self._accepted.append(connection)
        self._wake_accept_waiter()

    def _wake_accept_waiter(self) -> None:
        while self._accept_waiters:
            waiter = self._accept_waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _resolve(self, host: str, port: int) -> str:
        engine = self._alive()
        if host.replace(".", "").isdigit() or ":" in host:
            return host
        is_v6 = ":" in engine.address()[0]
        wanted = socket.AF_INET6 if is_v6 else socket.AF_INET
        try:
            found = await self._loop.getaddrinfo(
                host, port, family=wanted, type=socket.SOCK_DGRAM
            )
        except (OSError, UnicodeError) as error:
            raise PeerUnreachable(f"{host} cannot be resolved: {error}") from error
        return str(found[0][4][0])

    def _report(self, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": "a stream or connection handler failed", "exception": error}
        )

    def _alive(self) -> Engine:
        if self._engine is None:
            raise NotStarted("the endpoint is closed")
        return self._engine
