"""Deltas and digests keep their bytes, and the page shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p.core.hlc import HLC, Timestamp
from barrel_p2p.errors import WireError
from barrel_p2p.ormap import BUCKETS, TOMBSTONE, Delta, Entry, OrMap
from barrel_p2p.wire import limits
from barrel_p2p.wire.crdt_ingest import Accepted, Refusal, decode_delta, encode_delta
from barrel_p2p.wire.terms import decode, key_bytes
from tests.tree import ROOT

HERE = Path(__file__).parent
VECTORS: dict[str, list[Any]] = json.loads((HERE / "deltas.json").read_text())
PAGE = (ROOT / "docs/reference/wire.md").read_text()
CODE = {span.replace(" ", "") for span in re.findall(r"`([^`\n]+)`", PAGE)}


def delta_of(rows: list[dict[str, Any]]) -> Delta:
    """The delta that a vector describes; JSON has no tuples."""
    delta: Delta = {}
    for row in rows:
        key = tuple(row["key"]) if isinstance(row["key"], list) else row["key"]
        value = TOMBSTONE if row["removed"] else row["value"]
        stamp = Timestamp(row["wall_ms"], row["counter"])
        delta[key_bytes(key)] = Entry(key, stamp, row["node"], value)
    return delta


@pytest.mark.parametrize("row", VECTORS["deltas"], ids=lambda row: row["name"])
def test_deltas_keep_their_bytes(row: dict[str, Any]) -> None:
    delta = delta_of(row["entries"])
    assert [data.hex() for data in encode_delta(delta)] == [row["bytes"]]
    assert decode_delta(bytes.fromhex(row["bytes"])) == Accepted(delta, {})
    assert row["bytes"] in CODE


@pytest.mark.parametrize("row", VECTORS["refused_entries"])
def test_a_malformed_entry_stays_refused(row: dict[str, str]) -> None:
    received = decode_delta(bytes.fromhex(row["bytes"]))
    assert received == Accepted({}, {Refusal(row["reason"]): 1})


@pytest.mark.parametrize("data", VECTORS["refused"])
def test_what_is_no_delta_stays_refused(data: str) -> None:
    with pytest.raises(WireError):
        decode_delta(bytes.fromhex(data))


@pytest.mark.parametrize("row", VECTORS["hashes"], ids=lambda row: row["hash"])
def test_an_entry_adds_its_hash_to_its_bucket(row: dict[str, Any]) -> None:
    name = bytes.fromhex(row["key_bytes"])
    stamp = Timestamp(row["wall_ms"], row["counter"])
    value = TOMBSTONE if row["removed"] else "any"
    ormap = OrMap("z@host", HLC())
    ormap.merge({name: Entry(decode(name), stamp, row["node"], value)})
    sums = bytearray(8 * BUCKETS)
    at = 8 * row["bucket"]
    sums[at : at + 8] = bytes.fromhex(row["hash"])
    assert ormap.digest() == sums
    assert {row["key_bytes"], row["key_hash"], row["hash"]} <= CODE
    assert row["key_hash"].startswith(f"{row['bucket']:02x}")


def test_the_page_gives_the_limits_and_reasons_as_they_are() -> None:
    for name in ("DELTA_BYTES_MAX", "DELTA_ENTRIES_MAX", "DELTA_NODES_MAX"):
        assert f"`{name}` ({getattr(limits, name):,})" in PAGE
    assert set(Refusal) - {Refusal.DELTA} <= CODE
