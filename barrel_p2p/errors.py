"""Every exception the product raises, arranged by whose fault it is.

``UsageError`` blames the caller, ``PeerError`` a remote node, ``UnavailableError``
nobody (a later retry may succeed), ``StorageError`` the disk. Raise a leaf, catch a
branch. ``code`` is the documented reason and never changes; ``hint`` is one line
that says what to do next.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AlreadyCandidate",
    "AlreadyRegistered",
    "AuthError",
    "AuthModeMismatch",
    "AuthTimeout",
    "BarrelError",
    "Busy",
    "CallTimeout",
    "ClockDrift",
    "ConfigError",
    "Conflict",
    "CookieMismatch",
    "Degraded",
    "FencedOut",
    "InvalidValue",
    "KeyMismatch",
    "KeypairMismatch",
    "LeadershipLost",
    "MigrationDisabled",
    "MigrationsExhausted",
    "NameMismatch",
    "NoLeader",
    "NoProc",
    "NoSuchFunction",
    "NoSuchMap",
    "NotConnected",
    "NotEncodable",
    "NotLeader",
    "NotStarted",
    "Overloaded",
    "PeerError",
    "PeerTsSkew",
    "PeerUnreachable",
    "RemoteError",
    "RevokedKey",
    "RingSizeMismatch",
    "ServiceNotFound",
    "SignatureInvalid",
    "StorageError",
    "StoreCorrupt",
    "StoreFull",
    "StreamClosed",
    "StreamReset",
    "UnavailableError",
    "UntrustedKey",
    "UsageError",
    "VersionMismatch",
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


class AlreadyCandidate(Conflict):
    """This node has a candidate for that name."""

    code = "already_candidate"


class AlreadyRegistered(Conflict):
    """Another process of this node has the service's name."""

    code = "already_registered"


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


class VersionMismatch(PeerError):
    """The two nodes have no version of the protocol in common."""

    code = "version"


class AuthError(PeerError):
    """The handshake refused the peer, or the peer refused us."""

    code = "auth"


class UntrustedKey(AuthError):
    """No key is pinned for the peer, and the trust mode is ``strict``."""

    code = "untrusted_key"


class KeyMismatch(AuthError):
    """The peer showed another key than the one pinned for its name.

    Args:
        message: What happened, naming the node and both fingerprints if known.
        pinned: SHA-256 of the pinned key, or None.
        presented: SHA-256 of the key shown, or None.
        hint: One line that says what to do next, or None.
        peer: The node, or None.
    """

    code = "key_mismatch"

    def __init__(
        self,
        message: str,
        *,
        pinned: bytes | None = None,
        presented: bytes | None = None,
        hint: str | None = None,
        peer: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, peer=peer)
        self.pinned = pinned
        self.presented = presented


class RevokedKey(AuthError):
    """The name or the key was revoked here."""

    code = "revoked_key"


class SignatureInvalid(AuthError):
    """The signature does not fit the peer's key and this handshake."""

    code = "signature_invalid"


class CookieMismatch(AuthError):
    """The two nodes do not have the same cookie."""

    code = "cookie"


class NameMismatch(AuthError):
    """Another node answered than the one that was dialled."""

    code = "name_mismatch"


class AuthModeMismatch(AuthError):
    """One node wants a key where the other offers the cookie alone."""

    code = "mode"


class PeerTsSkew(AuthError):
    """The clocks differ by more than ``auth_timestamp_window`` allows."""

    code = "peer_ts_skew"


class AuthTimeout(AuthError, TimeoutError):
    """The handshake did not end within ``auth_handshake_timeout``."""

    code = "auth_stream_timeout"


class RemoteError(PeerError):
    """The function or server that was called raised.

    Args:
        message: What it said.
        remote_type: The name of the exception's class there.
        remote_traceback: Its traceback, as text.
        hint: One line that says what to do next, or None.
        peer: The node it runs on.
    """

    code = "remote_error"

    def __init__(
        self,
        message: str,
        *,
        remote_type: str = "",
        remote_traceback: str = "",
        hint: str | None = None,
        peer: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, peer=peer)
        self.remote_type = remote_type
        self.remote_traceback = remote_traceback


class RingSizeMismatch(PeerError):
    """The peer divides the cluster into another number of partitions."""

    code = "ring_size_mismatch"


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


class Overloaded(UnavailableError):
    """The other side has as much of this work as it takes."""

    code = "overloaded"


class NoProc(UnavailableError, LookupError):
    """There is no such process, or no process of that name."""

    code = "noproc"


class ServiceNotFound(UnavailableError, LookupError):
    """No node has registered a service of that name, as far as this one knows."""

    code = "not_found"


class NoSuchFunction(UnavailableError, LookupError):
    """The other side has exposed no function, or no method, of that name."""

    code = "undef"


class NoSuchMap(UnavailableError, LookupError):
    """This node has no map of that name."""

    code = "no_such_map"


class NoLeader(UnavailableError, LookupError):
    """Nobody leads that name, as far as this node knows."""

    code = "no_leader"


class NotLeader(UnavailableError):
    """This node does not lead that name."""

    code = "not_leader"


class LeadershipLost(UnavailableError):
    """The term is over: another node leads, or may lead, by now."""

    code = "revoked"


class FencedOut(UnavailableError):
    """The fence is not above the greatest one that was taken: a later leader wrote."""

    code = "fenced_out"


class CallTimeout(UnavailableError, TimeoutError):
    """A call got no answer before its deadline."""

    code = "timeout"


class MigrationDisabled(UnavailableError):
    """The peer does not allow a connection to move to another address."""

    code = "peer_disable_migration"


class MigrationsExhausted(MigrationDisabled):
    """A connection without multipath has used up its connection ids."""

    code = "migrations_exhausted"


class StorageError(BarrelError):
    """A file could not be read or written, or its content is not valid."""

    code = "storage"


class Degraded(StorageError):
    """A store failed to write and takes no more until it is reopened; reads go on."""

    code = "degraded"


class StoreCorrupt(StorageError):
    """A store is not whole. Nothing of it is used, and nothing of it was changed."""

    code = "store_corrupt"


class StoreFull(StorageError):
    """There is no space for a write. Nothing was changed."""

    code = "store_full"


class KeypairMismatch(StorageError):
    """The private key of this node does not belong to its public key."""

    code = "keypair_mismatch"
