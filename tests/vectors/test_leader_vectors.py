"""What elections write keeps its bytes, and the page shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p.core.ormap import OrMap
from barrel_p2p.wire.terms import decode, encode
from tests.leader_bench import LeaderBench
from tests.tree import ROOT

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "leaders.json").read_text()
)
PAGE = (ROOT / "docs/reference/wire.md").read_text()
CODE = set(re.findall(r"`([^`\n]+)`", PAGE))
KINDS = ("candidacy", "term")


def test_entries_keep_their_bytes() -> None:
    owner = LeaderBench("a@h", 5)
    owner.stand("cron", 9, priority=1)
    entries = [entry for delta in owner.told for entry in delta.values()]
    for kind, entry in zip(KINDS, entries, strict=True):
        frozen = VECTORS[kind]
        assert encode(entry.key).hex() == frozen["key"]
        assert encode(entry.value).hex() == frozen["value"]
        assert {frozen["key"], frozen["value"]} <= CODE


def test_entries_are_read_as_they_were_written() -> None:
    reader = LeaderBench("b@h", 1)
    reader.up("a@h", 5)
    writer = OrMap("a@h", reader.machine.entries.clock)
    for kind in KINDS:
        frozen = VECTORS[kind]
        key, value = (decode(bytes.fromhex(frozen[k])) for k in ("key", "value"))
        reader.take(writer.add(key, value))
    (candidate,) = reader.machine.candidates("cron")
    assert (candidate.node, candidate.pid.id, candidate.priority) == ("a@h", 9, 1)
    found = writer.entry(("cron",))
    assert found is not None
    assert reader.machine.high_water("cron") == found.stamp.pack("a@h")


@pytest.mark.parametrize(
    ("kind", "term"),
    [(kind, term) for kind in KINDS for term in VECTORS[kind]["refused"]],
)
def test_what_is_no_entry_is_left_out(kind: str, term: str) -> None:
    reader = LeaderBench("b@h", 1)
    reader.up("a@h", 5)
    writer = OrMap("a@h", reader.machine.entries.clock)
    key = decode(bytes.fromhex(VECTORS[kind]["key"]))
    assert reader.take(writer.add(key, decode(bytes.fromhex(term)))) == []
    assert reader.machine.entries.snapshot() == {}
    assert sum(reader.store.refused.values()) == 1
