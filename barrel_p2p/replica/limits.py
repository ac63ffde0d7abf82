"""How much of a replica's work a peer may cause, and how fast: every bound of the room.

Times are in milliseconds. ``replica_anti_entropy_ms`` is the only one that a user sets.
"""

from __future__ import annotations

from typing import Final

from barrel_p2p.wire.limits import DELTA_CHUNK_BYTES

__all__ = [
    "ANSWER_BURST_MAX",
    "ANSWER_EVERY_MS",
    "BUSY_RETRY_MS",
    "CHUNK_BYTES_MAX",
    "CHUNK_PACE_MS",
    "COLLECT_EVERY_MS",
    "HELD_MS_MAX",
    "PENDING_ENTRIES_MAX",
    "RATED_MAX",
    "REPLICAS_MAX",
    "REPLICA_NAME_BYTES_MAX",
    "ROUNDS_PER_PEER_MAX",
    "ROUNDS_PER_REPLICA_MAX",
    "ROUND_CHUNKS_MAX",
    "ROUND_IDLE_MS",
    "SECOND_ASKER_MS",
    "SPREAD_AGE_MS",
    "SPREAD_MS",
    "STORE_ENTRIES_MAX",
    "SYNC_RETRIES_MAX",
    "SYNC_RETRY_MS",
]

REPLICA_NAME_BYTES_MAX: Final = 200
"""Bytes of a replica's name in UTF-8."""

REPLICAS_MAX: Final = 4_096
"""Replicas that one node runs at once."""

CHUNK_BYTES_MAX: Final = DELTA_CHUNK_BYTES
"""Bytes of the entries in one SYNC_CHUNK, or in one gossiped delta; a single entry that
is larger goes alone."""

PENDING_ENTRIES_MAX: Final = 65_536
"""Keys of one replica that may wait for gossip; a writer beyond gets Busy, or waits."""

CHUNK_PACE_MS: Final = 5
"""Between two chunks to one peer: a sync takes at most 12.5 MiB a second."""

BUSY_RETRY_MS: Final = 20
"""Before a chunk for which the channel had no room is tried again."""

HELD_MS_MAX: Final = 30_000
"""How long one chunk is tried, before its round is given up."""

ROUND_IDLE_MS: Final = 5_000
"""A round in which nothing arrives for so long is over."""

ROUNDS_PER_PEER_MAX: Final = 4
"""Rounds that this node leads with one peer at once, and that the peer may lead with
it; more wait, or are told that it is busy."""

ROUNDS_PER_REPLICA_MAX: Final = 2
"""The same for one replica, with all peers together. A new node would otherwise be sent
everything by each of its neighbours."""

ANSWER_EVERY_MS: Final = 250
"""One peer gets a new answer about one replica this often, in the long run."""

ANSWER_BURST_MAX: Final = 8
"""Answers that it gets at once after a pause."""

RATED_MAX: Final = 8_192
"""Pairs of peer and replica whose requests are counted; the oldest is forgotten."""

ROUND_CHUNKS_MAX: Final = 65_536
"""Chunks in one half of a round, 4 GiB; more break a rule."""

STORE_ENTRIES_MAX: Final = 1 << 20
"""Keys, removed ones included, up to which a ``ReplicatedStore`` takes those of other
nodes, unless its owner says otherwise."""

SYNC_RETRY_MS: Final = 500
"""Before asking again a peer that was busy or silent, and up to as much at random."""

SYNC_RETRIES_MAX: Final = 5
"""How often that is done; after that it is left to anti-entropy."""

SECOND_ASKER_MS: Final = 1_000
"""Of two new neighbours the one with the smaller name asks; the other one waits so
long for its request, and up to as much at random, before it asks itself."""

SPREAD_MS: Final = 100
"""From learning something in a sync to comparing with the other neighbours, and up to
as much at random."""

SPREAD_AGE_MS: Final = 2_000
"""Age of what is worth that: younger entries are still on their way as gossip."""

COLLECT_EVERY_MS: Final = 60_000
"""Between two looks for tombstones that may go."""
