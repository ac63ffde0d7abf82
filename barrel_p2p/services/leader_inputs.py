"""What the election is told and orders, beside ``core``, and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from barrel_p2p.core.effects import Effect
from barrel_p2p.core.ormap import Change, Delta
from barrel_p2p.core.terms import Pid
from barrel_p2p.services.leader_events import LeaderEvent

__all__ = [
    "CANDIDATES_MAX",
    "CANDIDATES_PER_NODE_MAX",
    "CLAIMS_MAX",
    "CLAIM_MS",
    "HIDDEN_MS",
    "PRIORITY_MAX",
    "REFUSE_MS",
    "RETAKE_MS",
    "RETAKE_MS_MAX",
    "STRANGERS_MAX",
    "TERMS_MAX",
    "TERM_MS",
    "TOMBSTONES_MAX",
    "CatchUp",
    "Caught",
    "Changed",
    "LeaderEffect",
    "LeaderStats",
    "Notify",
    "Open",
    "Paused",
    "ProcessEnded",
    "Stand",
    "Tell",
    "Withdraw",
]

PRIORITY_MAX: Final = (1 << 31) - 1
"""Greatest priority, either side of zero."""

CANDIDATES_MAX: Final = 65_536
"""Candidates that a node holds, of all nodes together."""

CANDIDATES_PER_NODE_MAX: Final = 4_096
"""Candidates that it holds of one node, itself included."""

TERMS_MAX: Final = 65_536
"""Names of which it remembers the latest term."""

TERM_MS: Final = 600_000
"""How long the term of a name is kept for which nobody stands any more. By then no
clock that anybody takes a stamp from is behind it."""

RETAKE_MS: Final = 200
RETAKE_MS_MAX: Final = 2_000
"""How soon a leader takes a new term after another node has begun a later one, doubled
each time: two nodes that do not see each other's candidates must not race."""

CLAIM_MS: Final = 1_000
"""How soon this node overwrites again what came under its own keys."""

CLAIMS_MAX: Final = 65_536
"""Keys of this node that others wrote to, and that wait to be overwritten."""

TOMBSTONES_MAX: Final = 8_192
"""Withdrawals that are remembered. To forget one early is safe: the only node that may
write the key says again what is so when an echo reaches it."""

HIDDEN_MS: Final = 60_000
"""How long candidates of a node are held that never was a member."""

REFUSE_MS: Final = 600_000
"""How long a node's candidates are refused after they were dropped, unless it is back.
"""

STRANGERS_MAX: Final = 4_096
"""Nodes whose candidates are refused so."""


@final
@dataclass(frozen=True, slots=True)
class Open:
    """Begin. The first input.

    ``waits``: Others may lead already: no term is taken until a sync is over, or until
    nobody was heard for the length of a lease.
    """

    waits: bool


@final
@dataclass(frozen=True, slots=True)
class Stand:
    """Let ``pid`` be this node's candidate for ``name``.

    ``notify``: Tell it too if it is elected at once. Else whoever asked looks.
    """

    name: object
    pid: Pid
    priority: int
    notify: bool = False


@final
@dataclass(frozen=True, slots=True)
class Withdraw:
    """It is no candidate any more."""

    name: object


@final
@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """A process of this node has ended."""

    pid: Pid


@final
@dataclass(frozen=True, slots=True)
class Changed:
    """The map was merged with what others hold."""

    changes: list[Change]


@final
@dataclass(frozen=True, slots=True)
class Caught:
    """A sync is over: all that a peer knew at its beginning is known here."""


@final
@dataclass(frozen=True, slots=True)
class Paused:
    """This node stood still for so long that it may have been replaced."""


@final
@dataclass(frozen=True, slots=True)
class Tell:
    """Replicate these entries, which stand in the map already."""

    delta: Delta


@final
@dataclass(frozen=True, slots=True)
class Notify:
    """Tell the candidate itself."""

    pid: Pid
    event: LeaderEvent


@final
@dataclass(frozen=True, slots=True)
class CatchUp:
    """Compare the map with the neighbours', now."""


type LeaderEffect = Effect | Tell | Notify | CatchUp


@final
@dataclass(slots=True)
class LeaderStats:
    """Totals since the start. ``overtaken`` are terms that ended by a later one."""

    elected: int = 0
    revoked: int = 0
    overtaken: int = 0
    pauses: int = 0
    reasserted: int = 0
    purged: int = 0
    refused: int = 0
    drifted: int = 0
