"""Every exception the product raises, arranged by whose fault it is.

``UsageError`` blames the caller, ``PeerError`` a remote node, ``UnavailableError``
nobody (a later retry may succeed), ``StorageError`` the disk. Raise a leaf, catch a
branch. ``code`` is the documented reason and never changes; ``hint`` is one line
that says what to do next.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BarrelError",
    "Busy",
    "ClockDrift",
    "ConfigError",
    "Conflict",
    "InvalidValue",
    "MigrationDisabled",
    "MigrationsExhausted",
    "NotConnected",
    "NotEncodable",
    "NotStarted",
    "PeerError",
    "PeerUnreachable",
    "StorageError",
    "StreamClosed",
    "StreamReset",
    "UnavailableError",
    "UsageError",
    "WireError",
]


class BarrelError(Exception):
    """Base of the tree. Never raised itself.

    Args:
        message: What happened, naming the offender and the limit.
        hint: One line that says what to do next, or None.
        peer: The remote node or address this is about, or None.
    """

    code: ClassVar[str] = "error"

    def __init__(
        self, message: str, *, hint: str | None = None, peer: str | None = None
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.peer = peer
        if hint is not None:
            self.add_note(hint)


class UsageError(BarrelError):
    """The caller broke a documented rule; retrying will not help."""

    code = "usage"


class ConfigError(UsageError, ValueError):
    """A configuration value is missing, malformed or out of range."""

    code = "config"


class InvalidValue(UsageError, ValueError):
    """A value breaks a documented limit or type."""

    code = "invalid_value"


class NotEncodable(UsageError, TypeError):
    """A Python object has no form on the wire."""

    code = "not_encodable"


class Conflict(UsageError):
    """The name, tag or address is already taken."""

    code = "conflict"


class NotStarted(UsageError, RuntimeError):
    """The object is not running: not started yet, or already closed."""

    code = "not_started"


class StreamClosed(UsageError):
    """The stream was already finished, reset or is for reading only."""

    code = "closed"


class PeerError(BarrelError):
    """A remote node misbehaved. Blame ``peer``, keep the node running."""

    code = "peer"


class WireError(PeerError, ValueError):
    """Received bytes do not follow the wire format or exceed one of its limits."""

    code = "wire"


class StreamReset(PeerError, ConnectionError):
    """The peer gave up the stream: it reset it, or asked us to stop sending.

    Args:
        message: What happened, naming the stream.
        error_code: The peer's application error code.
        hint: One line that says what to do next, or None.
        peer: The remote address, or None.
    """

    code = "stream_reset"

    def __init__(
        self,
        message: str,
        *,
        error_code: int,
        hint: str | None = None,
        peer: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, peer=peer)
        self.error_code = error_code


class ClockDrift(PeerError):
    """A remote timestamp is further ahead than ``hlc_max_drift_ms`` allows."""

    code = "clock_drift"


class UnavailableError(BarrelError):
    """The cluster cannot answer now; a later retry may succeed."""

    code = "unavailable"


class PeerUnreachable(UnavailableError, ConnectionError):
    """The peer does not answer, refused the connection, or has gone away."""

    code = "nodedown"


class NotConnected(PeerUnreachable):
    """There is no open connection to the peer."""

    code = "not_connected"


class Busy(UnavailableError, BlockingIOError):
    """A bounded queue is full and the caller asked not to wait."""

    code = "would_block"


class MigrationDisabled(UnavailableError):
    """The peer does not allow a connection to move to another address."""

    code = "peer_disable_migration"


class MigrationsExhausted(MigrationDisabled):
    """A connection without multipath has used up its connection ids."""

    code = "migrations_exhausted"


class StorageError(BarrelError):
    """A file could not be read or written, or its content is not valid."""

    code = "storage"
