"""The durable store of OR-Map entries, for programs that merge state of their own.

Stability: beta. The same as ``barrel_p2p.storage``'s.
"""

from __future__ import annotations

from barrel_p2p.storage.committer import Committer
from barrel_p2p.storage.replica_log import WAITING_BYTES_MAX, Log, ReplicaLog, State
from barrel_p2p.storage.rows import check_restart_safe

__all__ = [
    "WAITING_BYTES_MAX",
    "Committer",
    "Log",
    "ReplicaLog",
    "State",
    "check_restart_safe",
]
