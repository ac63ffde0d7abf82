"""Peer-to-peer clusters of Python nodes over QUIC: one UDP port, no broker.

The facade: public names are re-exported here and nothing is defined here.
"""

from __future__ import annotations

from barrel_p2p.errors import (
    BarrelError,
    Busy,
    ClockDrift,
    ConfigError,
    Conflict,
    InvalidValue,
    MigrationDisabled,
    MigrationsExhausted,
    NotConnected,
    NotEncodable,
    NotStarted,
    PeerError,
    PeerUnreachable,
    StorageError,
    StreamClosed,
    StreamReset,
    UnavailableError,
    UsageError,
    WireError,
)

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
