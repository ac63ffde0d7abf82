"""Safe intake of OR-Map deltas: what a replica with rules of its own stands on.

Stability: supported. The same as ``barrel_p2p.wire.crdt_ingest``, under the
documentation's name.
"""

from __future__ import annotations

from barrel_p2p.wire.crdt_ingest import (
    Accepted,
    Ingested,
    Leaf,
    MayWrite,
    Refusal,
    accept,
    decode_delta,
    encode_delta,
    entry_bytes,
    ingest,
    valid_entry,
)

__all__ = [
    "Accepted",
    "Ingested",
    "Leaf",
    "MayWrite",
    "Refusal",
    "accept",
    "decode_delta",
    "encode_delta",
    "entry_bytes",
    "ingest",
    "valid_entry",
]
