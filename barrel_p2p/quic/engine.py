"""One engine, owned: created, bound, asked about, freed. The rare calls, through cffi.

What happens for every packet or message goes through ``Pump`` instead. An engine and
its pump belong to one event loop; nothing here is thread-safe.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, AF_INET6, if_nametoindex, inet_ntop, inet_pton
from typing import TYPE_CHECKING, Final

from barrel_p2p.errors import (
    ConfigError,
    Conflict,
    InvalidValue,
    MigrationDisabled,
    MigrationsExhausted,
    NotConnected,
    NotStarted,
    PeerUnreachable,
    StorageError,
    UnavailableError,
)
from barrel_p2p.quic._engine import ffi, lib
from barrel_p2p.quic.library import picoquic_table
from barrel_p2p.quic.pump import Pump, RawConnection
from barrel_p2p.quic.settings import ALPN, EngineSettings

if TYPE_CHECKING:
    from barrel_p2p.quic._engine import _CData

__all__ = ["SEED_BYTES", "SOCKETS_MAX", "Engine", "EngineStats", "PathStats"]

SEED_BYTES: Final = lib.BP_RESET_SEED_BYTES
SOCKETS_MAX: Final = lib.BP_SOCKETS_MAX
_CERTIFICATE_BYTES_MAX = 16_384
_EXPORT_BYTES_MAX = 255
_LABEL_BYTES_MAX = 249  # RFC 8446, 7.1: 255 less those of "tls13 "
_SECONDS_MAX = 1 << 32

HostPort = tuple[str, int]


@dataclass(frozen=True, slots=True)
class PathStats:
    """The path in use: times in microseconds, the rest in bytes or packets."""

    srtt_us: int
    rtt_latest_us: int
    rtt_min_us: int
    rtt_var_us: int
    cwnd: int
    in_flight: int
    mtu: int
    sent: int
    lost: int
    bytes_sent: int
    bytes_received: int
    local: HostPort
    remote: HostPort


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Totals since the engine was made, and what it holds now."""

    datagrams_in: int
    datagrams_out: int
    bytes_in: int
    bytes_out: int
    sends_blocked: int
    icmp_seen: int
    icmp_believed: int
    arena_overflows: int
    connections_refused: int
    streams_refused: int
    connections: int
    streams: int
    half_open: int


class Engine:
    """A QUIC engine with its UDP sockets.

    Args:
        settings: Limits and timings.
        certificate_file: PEM certificate to present.
        key_file: Its PEM private key.
        reset_seed: ``SEED_BYTES`` secret bytes. Kept over a restart, they let peers of
            the earlier life notice at once that it has ended.
        call_soon: The event loop's ``call_soon``.
        on_error: Called with an exception that a handler let escape.
        accept: Makes the ``RawConnection`` for a connection a peer opened.

    Raises:
        ImportError: picoquic is missing or does not fit.
        InvalidValue: ``reset_seed`` has another size.
        StorageError: The certificate or its key cannot be used.
    """

    def __init__(
        self,
        settings: EngineSettings,
        *,
        certificate_file: Path,
        key_file: Path,
        reset_seed: bytes,
        call_soon: Callable[[Callable[[], None]], object],
        on_error: Callable[[BaseException], None],
        accept: Callable[[], RawConnection],
    ) -> None:
        self.settings = settings
        if len(reset_seed) != SEED_BYTES:
            raise InvalidValue(
                f"reset_seed of {len(reset_seed)} bytes: {SEED_BYTES} are needed"
            )
        for path in (certificate_file, key_file):
            if not path.is_file():
                raise StorageError(f"{path} is no file")
        config, keep = _native_config(settings, certificate_file, key_file, reset_seed)
        out = ffi.new("bp_engine_t **")
        status = lib.bp_engine_create(config, picoquic_table(), out)
        del keep
        if status == lib.BP_E_LIBRARY:
            raise StorageError(
                f"{certificate_file} and {key_file} are no usable certificate and key",
                hint="move both away; the next start makes a new pair",
            )
        if status != lib.BP_OK:
            raise UnavailableError(f"no engine: {_system_error(status, 0)}")
        self._engine: _CData = out[0]
        address = int(ffi.cast("uintptr_t", self._engine))
        self.pump = Pump(address, lib.bp_engine_hot(), call_soon, on_error, accept)
        self.pump.set_poll(settings.poll_us)

    def __del__(self) -> None:
        if getattr(self, "_engine", None) is not None and not sys.is_finalizing():
            text = f"unclosed engine {self!r}"
            warnings.warn(text, ResourceWarning, stacklevel=1, source=self)
            self.close()

    @property
    def fd(self) -> int:
        """Readable whenever ``pump.wake`` has something to do."""
        return lib.bp_engine_fd(self._alive())

    def close(self) -> None:
        """Free everything at once, without a word to the peers. Safe to call twice."""
        self.pump.close()
        engine, self._engine = self._engine, None
        if engine is not None:
            lib.bp_engine_free(engine)

    def bind(self, host: str, port: int) -> int:
        """Open a UDP socket; returns its index. Index 0 is the one dials leave from.

        Args:
            host: A numeric IPv4 or IPv6 address, ``0.0.0.0`` and ``::`` included.
            port: 0 lets the kernel choose.

        Raises:
            Conflict: The address is in use.
            ConfigError: It is not an address of this host, or not allowed.
            UnavailableError: ``SOCKETS_MAX`` sockets are open.
        """
        engine = self._alive()
        status = lib.bp_engine_bind(engine, _native_address(host, port))
        if status >= 0:
            return status
        if status == lib.BP_E_LIMIT:
            raise UnavailableError(
                f"{SOCKETS_MAX} sockets are open, the most there are"
            )
        code = lib.bp_engine_errno(engine)
        where = f"udp {host} port {port}"
        if code == errno.EADDRINUSE:
            raise Conflict(f"{where} is in use", hint="stop its owner or use port 0")
        raise ConfigError(f"{where} cannot be bound: {os.strerror(code)}")

    def unbind(self, socket: int) -> None:
        """Close a socket other than the first, once nothing migrates to it.

        Raises:
            InvalidValue: There is no such socket, or it is the first or in use.
        """
        if lib.bp_engine_unbind(self._alive(), socket) != lib.BP_OK:
            raise InvalidValue(f"socket {socket} is not open, the first, or in use")

    def address(self, socket: int = 0) -> HostPort:
        """Host and port that socket ``socket`` is bound to.

        Raises:
            InvalidValue: There is no such socket.
        """
        out = ffi.new("bp_address_t *")
        if lib.bp_engine_address(self._alive(), socket, out) != lib.BP_OK:
            raise InvalidValue(f"socket {socket} is not open")
        return _host_port(out)

    def stats(self) -> EngineStats:
        """Totals and present holdings."""
        out = ffi.new("bp_engine_stats_t *")
        lib.bp_engine_stats(self._alive(), out)
        return EngineStats(
            *(getattr(out, name) for name in EngineStats.__dataclass_fields__)
        )

    def dial(
        self, connection: RawConnection, host: str, port: int, *, socket: int = 0
    ) -> None:
        """Start a handshake with a numeric address; ``connection`` hears the outcome.

        Args:
            connection: Ours until it is over.
            host: A numeric address.
            port: UDP port.
            socket: What to dial from: an index of ``bind``, 0 for the first that fits.

        Raises:
            InvalidValue: Not a numeric address with a port, or of another family than
                the socket, or that socket is not open.
            UnavailableError: ``connections_max`` is reached.
        """
        engine = self._alive()
        out = ffi.new("uint64_t *")
        peer = _native_address(host, port)
        status = lib.bp_connection_open(engine, peer, socket, out)
        if status == lib.BP_E_LIMIT:
            raise UnavailableError("connections_max is reached")
        if status == lib.BP_E_ARGUMENT:
            raise InvalidValue(f"{host} port {port} is no address to dial")
        if status == lib.BP_E_STATE:
            raise InvalidValue(
                f"{host} cannot be dialled: no socket of its family is open"
            )
        if status != lib.BP_OK:
            code = lib.bp_engine_errno(engine)
            raise UnavailableError(f"no dial: {_system_error(status, code)}")
        self.pump.attach(connection, out[0])
        self.pump.schedule()

    def close_connection(self, handle: int, code: int, reason: str) -> None:
        """Tell the peer ``code`` and ``reason`` (cut at 127 bytes), then end it."""
        cut = reason.encode(errors="replace")[: lib.BP_REASON_BYTES_MAX]
        raw = cut.decode(errors="ignore").encode()  # No half character at its end.
        lib.bp_connection_close(self._alive(), handle, code, raw)
        self.pump.schedule()

    def abort_connection(self, handle: int) -> None:
        """End it without a word to the peer."""
        lib.bp_connection_abort(self._alive(), handle)
        self.pump.schedule()

    def certificate(self, handle: int) -> bytes | None:
        """The peer's certificate (DER); None if it sent none, as dialling peers do.

        Raises:
            NotConnected: The connection is closed.
        """
        der = ffi.new("uint8_t[]", _CERTIFICATE_BYTES_MAX)
        size = lib.bp_connection_certificate(
            self._alive(), handle, der, _CERTIFICATE_BYTES_MAX
        )
        if size == lib.BP_E_STATE:
            return None
        _check_alive(size)
        return bytes(ffi.buffer(der, size))

    def export(self, handle: int, label: str, size: int) -> bytes:
        """Keying material both ends share (RFC 8446, 7.5), for channel binding.

        Args:
            handle: The connection.
            label: Names the use; 1 to 249 printable ASCII characters.
            size: Bytes wanted, 1 to 255.

        Raises:
            InvalidValue: ``size`` or ``label`` is out of range.
            NotConnected: The connection is closed or its handshake unfinished.
        """
        if not 1 <= size <= _EXPORT_BYTES_MAX:
            raise InvalidValue(f"size={size} is outside 1 to {_EXPORT_BYTES_MAX}")
        printable = label.isascii() and label.isprintable()
        if not printable or not 1 <= len(label) <= _LABEL_BYTES_MAX:
            raise InvalidValue(
                f"label={label[:40]!r} of {len(label)} characters is not 1 to "
                f"{_LABEL_BYTES_MAX} printable ASCII ones"
            )
        out = ffi.new("uint8_t[]", size)
        status = lib.bp_connection_export(
            self._alive(), handle, label.encode(), out, size
        )
        _check_alive(status)
        return bytes(ffi.buffer(out, size))

    def path_stats(self, handle: int) -> PathStats:
        """Statistics of the path in use.

        Raises:
            NotConnected: The connection is closed.
        """
        out = ffi.new("bp_path_stats_t *")
        _check_alive(lib.bp_connection_stats(self._alive(), handle, out))
        names = set(PathStats.__dataclass_fields__) - {"local", "remote"}
        values = {name: getattr(out, name) for name in names}
        return PathStats(
            **values, local=_host_port(out.local), remote=_host_port(out.remote)
        )

    def ping(self, handle: int) -> None:
        """Queue a PING, which the peer must acknowledge."""
        _check_alive(lib.bp_connection_ping(self._alive(), handle))
        self.pump.schedule()

    def migrate(self, handle: int, socket: int, timeout: float) -> None:
        """Start to move a connection we dialled to local socket ``socket``.

        The outcome arrives as ``path_changed(moved=True)`` or ``path_failed``; streams
        and the old path go on meanwhile.

        Args:
            handle: The connection.
            socket: An index that ``bind`` returned.
            timeout: Seconds to wait for the peer's answer.

        Raises:
            NotConnected: The connection is closed, accepted, unfinished or moving.
            MigrationDisabled: The peer does not allow it, or no connection id is left
                (code ``migrations_exhausted``).
            InvalidValue: There is no such socket, or it is of another family than the
                peer's address, or ``timeout`` is not positive.
        """
        if not timeout > 0:
            raise InvalidValue(f"timeout={timeout} must be positive")
        timeout_us = int(min(timeout, _SECONDS_MAX) * 1_000_000)
        status = lib.bp_connection_migrate(self._alive(), handle, socket, timeout_us)
        if status == lib.BP_E_DISABLED:
            raise MigrationDisabled("the peer has disabled active migration")
        if status == lib.BP_E_EXHAUSTED:
            raise MigrationsExhausted(
                "no connection id is left to migrate with",
                hint="dial again; multipath at both ends lifts the limit",
            )
        if status == lib.BP_E_ARGUMENT:
            raise InvalidValue(f"socket {socket} is not open or of another family")
        if status == lib.BP_E_STATE:
            raise NotConnected(
                "not possible now: we did not dial it, its handshake is unfinished, "
                "or a migration is under way"
            )
        _check_alive(status)
        self.pump.schedule()

    def _alive(self) -> _CData:
        if self._engine is None:
            raise NotStarted("the engine is closed")
        return self._engine


def _check_alive(status: int) -> None:
    if status == lib.BP_E_GONE:
        raise NotConnected("the connection is closed")
    if status < 0:
        raise PeerUnreachable(f"the connection is not usable ({status})")


def _system_error(status: int, code: int) -> str:
    if status == lib.BP_E_SYSTEM:
        return os.strerror(code)
    if status == lib.BP_E_MEMORY:
        return "out of memory"
    return f"status {status}, library code {code:#x}"


def _native_address(host: str, port: int) -> _CData:
    address = ffi.new("bp_address_t *")
    name, _, zone = host.partition("%")
    family = AF_INET6 if ":" in name else AF_INET
    try:
        packed = inet_pton(family, name)
    except (OSError, ValueError) as error:
        raise InvalidValue(f"{host!r} is no numeric IP address") from error
    if not 0 <= port <= 65_535:
        raise InvalidValue(f"port {port} is outside 0 to 65535")
    address.family = 6 if family == AF_INET6 else 4
    address.ip = packed.ljust(16, b"\0")
    address.port = port
    if zone:
        address.scope = _zone_index(zone)
    return address


def _zone_index(zone: str) -> int:
    try:
        return int(zone) if zone.isdigit() else if_nametoindex(zone)
    except OSError as error:
        raise InvalidValue(f"no network interface {zone!r}") from error


def _host_port(address: _CData) -> HostPort:
    raw = bytes(address.ip)
    if address.family == 4:
        return inet_ntop(AF_INET, raw[:4]), address.port
    if address.family == 6:
        host = inet_ntop(AF_INET6, raw)
        return f"{host}%{address.scope}" if address.scope else host, address.port
    return "", 0


def _native_config(
    settings: EngineSettings, certificate: Path, key: Path, reset_seed: bytes
) -> tuple[_CData, list[_CData]]:
    """The C form of ``settings``, and what must stay alive while it is read."""
    config = ffi.new("bp_config_t *")
    keep: list[_CData] = []

    def text(value: str | Path) -> _CData:
        raw = value.encode() if isinstance(value, str) else os.fsencode(value)
        keep.append(ffi.new("char[]", raw))
        return keep[-1]

    keep.append(ffi.new("uint8_t[]", reset_seed))
    config.reset_seed = keep[-1]
    config.certificate_file = text(certificate)
    config.key_file = text(key)
    config.alpn = text(ALPN)
    config.congestion = text(settings.congestion)
    config.keep_alive_us = settings.keep_alive() * 1_000
    config.handshake_timeout_us = settings.handshake_timeout_ms * 1_000
    config.cwin_max = settings.congestion_window_max
    for name in _SAME_NAME:
        setattr(config, name, getattr(settings, name))
    return config, keep


_SAME_NAME = (
    "idle_timeout_ms",
    "stream_window",
    "stream_window_first",
    "connection_window",
    "connections_max",
    "streams_max",
    "streams_bidi_max",
    "streams_uni_max",
    "half_open_max",
    "events_max",
    "arena_bytes",
    "send_high",
    "send_low",
    "send_max",
    "connection_send_high",
    "spin_us",
    "mtu_max",
    "multipath",
    "migration_disabled",
    "retry_always",
    "key_log",
)
