"""What a map writes keeps its bytes, and the page shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.ormap import OrMap
from barrel_p2p.services.maps import REPLICA_PREFIX
from barrel_p2p.wire.crdt_ingest import decode_delta, encode_delta
from barrel_p2p.wire.terms import decode, encode
from tests.map_net import MapNet, MapNode
from tests.tree import ROOT

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "maps.json").read_text())
PAGE = (ROOT / "docs/reference/wire.md").read_text()
CODE = set(re.findall(r"`([^`\n]+)`", PAGE))


def _node(**options: Any) -> MapNode:
    return MapNet(**options).add("a@h", creation=5)


def _held(node: MapNode) -> str:
    (delta,) = encode_delta(node.owner.entries.snapshot())
    return delta.hex()


async def test_a_map_is_the_replica_of_its_name() -> None:
    assert VECTORS["replica"] == f"{REPLICA_PREFIX}flags"


async def test_writes_keep_their_bytes() -> None:
    plain, pruned = _node(), _node(prune_on_peer_down=True)
    for node, name in ((plain, "plain"), (pruned, "pruned")):
        node.put("k", {"on": True})
        assert _held(node) == VECTORS[name]
    plain.remove("k")
    assert _held(plain) == VECTORS["removed"]
    assert encode((5, {"on": True})).hex() == VECTORS["pruned value"]
    assert {VECTORS["value"], VECTORS["pruned value"]} <= CODE


async def test_writes_are_read_as_they_were_written() -> None:
    for name, options in (("plain", {}), ("pruned", {"prune_on_peer_down": True})):
        reader = MapNet(**options).add("b@h")
        reader.member_up("a@h", 5)
        delta = decode_delta(bytes.fromhex(VECTORS[name])).delta
        reader.owner.replica_merge_delta("m", delta)
        assert reader.shown == {"k": {"on": True}}


@pytest.mark.parametrize("term", VECTORS["refused by a map that prunes"])
async def test_what_names_no_life_is_left_out(term: str) -> None:
    net = MapNet(prune_on_peer_down=True)
    reader = net.add("b@h")
    reader.member_up("a@h", 5)
    delta = OrMap("a@h", HLC(net.clock)).add("k", decode(bytes.fromhex(term)))
    reader.owner.replica_merge_delta("m", delta)
    assert reader.owner.entries.snapshot() == {}
    assert reader.owner.refused == 1
