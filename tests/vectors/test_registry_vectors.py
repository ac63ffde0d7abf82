"""What a registry writes keeps its bytes, and the page shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p.core.ormap import OrMap
from barrel_p2p.errors import WireError
from barrel_p2p.wire.terms import decode, encode
from tests.registry_bench import RegistryBench
from tests.tree import ROOT

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "registry.json").read_text()
)
PAGE = (ROOT / "docs/reference/wire.md").read_text()
CODE = set(re.findall(r"`([^`\n]+)`", PAGE))


def test_entries_keep_their_bytes() -> None:
    owner = RegistryBench("a@h", 5)
    owner.register("cart", 9, role="x")
    owner.down(9, "killed")
    live, down = (entry for delta in owner.told for entry in delta.values())
    assert encode(live.key).hex() == VECTORS["key"]
    assert encode(live.value).hex() == VECTORS["live"]
    assert encode(down.value).hex() == VECTORS["down"]
    assert {VECTORS["key"], VECTORS["live"], VECTORS["down"]} <= CODE


def test_entries_are_read_as_they_were_written() -> None:
    reader = RegistryBench("b@h", 1)
    reader.up("a@h", 5)
    writer = OrMap("a@h", reader.machine.entries.clock)
    key = decode(bytes.fromhex(VECTORS["key"]))
    reader.take(writer.add(key, decode(bytes.fromhex(VECTORS["live"]))))
    assert [entry.meta for entry in reader.machine.lookup("cart")] == [{"role": "x"}]
    [event] = reader.take(writer.add(key, decode(bytes.fromhex(VECTORS["down"]))))
    assert event.reason == "killed"


@pytest.mark.parametrize("term", VECTORS["refused"])
def test_what_is_no_entry_is_left_out(term: str) -> None:
    reader = RegistryBench("b@h", 1)
    reader.up("a@h", 5)
    try:
        value = decode(bytes.fromhex(term))
    except WireError:
        return
    writer = OrMap("a@h", reader.machine.entries.clock)
    assert reader.take(writer.add(("cart", "a@h"), value)) == []
    assert reader.machine.entries.snapshot() == {}
    assert sum(reader.store.refused.values()) == 1
