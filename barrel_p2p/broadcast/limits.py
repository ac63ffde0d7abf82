"""The times and sizes of Plumtree; the constructor of the machine takes others.

The bounds of its parts stand with them: ``messages``, ``repair``, ``backlog``.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "DRAIN_BYTES",
    "GRAFT_RETRY_MS",
    "GRAFT_TIMEOUT_MS",
    "IDS_MAX",
    "IHAVE_BATCH",
    "IHAVE_FLUSH_MS",
    "IN_FLIGHT_MS",
    "MESSAGE_TTL_MS",
    "OPTIMISE_HOPS",
    "OPTIMISE_PAUSE_MS",
    "PAYLOAD_RETAIN_MS",
    "PRUNE_AGAIN_MS",
    "RECENT_IDS_MAX",
    "RECENT_MS",
    "RETAINED_BYTES_MAX",
    "SWEEP_MS",
]

GRAFT_TIMEOUT_MS: Final = 1_000
"""How long a push may come after its announcement."""

GRAFT_RETRY_MS: Final = 200
"""How long an announcer has to send what it was asked for, before another is asked."""

MESSAGE_TTL_MS: Final = 300_000
"""How long a message that was seen is known again."""

PAYLOAD_RETAIN_MS: Final = 60_000
"""How long a message can be asked for."""

IDS_MAX: Final = 1 << 20
"""Ids known."""

RETAINED_BYTES_MAX: Final = 32 << 20
"""Bytes of messages that can be asked for."""

IHAVE_FLUSH_MS: Final = 5
"""How long an announcement waits for others to go with."""

IHAVE_BATCH: Final = 256
"""Ids that are announced at once: so many do not wait for ``IHAVE_FLUSH_MS``."""

IN_FLIGHT_MS: Final = 500
"""How long what a peer sent before it was pruned may still come."""

OPTIMISE_HOPS: Final = 2
"""Hops that an announced path must save to replace the one that a message took."""

OPTIMISE_PAUSE_MS: Final = 500
"""Between two such changes at a node: many senders at once would have it both ways."""

PRUNE_AGAIN_MS: Final = 100
"""What was in flight when a peer was pruned is not worth a PRUNE for each."""

RECENT_MS: Final = 10_000
"""A new peer is told of what came so lately."""

RECENT_IDS_MAX: Final = 256
"""Of that, the newest."""

DRAIN_BYTES: Final = 256 << 10
"""Payload bytes that answers to GRAFT queue before looking whether there is room."""

SWEEP_MS: Final = 10_000
"""How often what is too old is forgotten, beside what every message forgets."""
