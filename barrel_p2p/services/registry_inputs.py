"""What the registry is told and orders, beside ``core``, and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from barrel_p2p.core.effects import Effect
from barrel_p2p.core.ormap import Change, Delta
from barrel_p2p.core.terms import Pid

__all__ = [
    "CLAIMS_MAX",
    "GRAVES_MAX",
    "GRAVE_MS",
    "HIDDEN_MS",
    "META_BYTES_MAX",
    "REFUSE_MS",
    "STRANGERS_MAX",
    "TOMBSTONES_MAX",
    "CatchUp",
    "Changed",
    "PidDown",
    "Register",
    "RegistryEffect",
    "RegistryStats",
    "Tell",
    "Unregister",
    "Unwatch",
    "Watch",
]

META_BYTES_MAX: Final = 16_384
"""Bytes of the encoded metadata of one service."""

TOMBSTONES_MAX: Final = 8_192
"""Removed names that are remembered. To forget one early is safe: the only node that
may write the key knows what is so, and says it again when an echo reaches it."""

GRAVE_MS: Final = 60_000
"""How long the reason of an end is kept before a tombstone takes its place."""

GRAVES_MAX: Final = 8_192
"""Reasons that are kept so long; the oldest is buried early."""

HIDDEN_MS: Final = 60_000
"""How long the services of a node are held that never was a member."""

REFUSE_MS: Final = 600_000
"""How long a node's entries are refused after they were dropped, unless it is back."""

STRANGERS_MAX: Final = 4_096
"""Nodes whose entries are refused so."""

CLAIMS_MAX: Final = 65_536
"""Keys of this node that others wrote to, and that wait to be overwritten."""


@final
@dataclass(frozen=True, slots=True)
class Register:
    """Let ``pid`` be found under ``name``; repeated, it refreshes ``meta``."""

    name: object
    pid: Pid
    meta: Mapping[Any, Any]


@final
@dataclass(frozen=True, slots=True)
class Unregister:
    """Take this node's instance of ``name`` back."""

    name: object


@final
@dataclass(frozen=True, slots=True)
class PidDown:
    """A process that is registered here has ended."""

    pid: Pid
    reason: object


@final
@dataclass(frozen=True, slots=True)
class Changed:
    """The map was merged with what others hold."""

    changes: list[Change]


@final
@dataclass(frozen=True, slots=True)
class Tell:
    """Replicate these entries, which stand in the map already."""

    delta: Delta


@final
@dataclass(frozen=True, slots=True)
class Watch:
    """Monitor ``pid``; its end is told as ``PidDown``."""

    pid: Pid


@final
@dataclass(frozen=True, slots=True)
class Unwatch:
    """Monitor it no more."""

    pid: Pid


@final
@dataclass(frozen=True, slots=True)
class CatchUp:
    """Compare the map with the neighbours': something was refused that now counts."""


type RegistryEffect = Effect | Tell | Watch | Unwatch | CatchUp


@final
@dataclass(slots=True)
class RegistryStats:
    """Totals since the start."""

    registered: int = 0
    unregistered: int = 0
    down: int = 0
    reasserted: int = 0
    purged: int = 0
    refused: int = 0
