"""What replicas say keeps its bytes, and the page shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.ormap import OrMap
from barrel_p2p.errors import WireError
from barrel_p2p.replica import limits
from barrel_p2p.replica.messages import (
    DIGEST_BYTES,
    CustomMessage,
    DeltaMessage,
    GossipMessage,
    Origin,
    Status,
    SyncChunk,
    SyncDone,
    SyncMessage,
    SyncRequest,
    decode,
    decode_gossip,
    encode,
    encode_gossip,
)
from barrel_p2p.wire.crdt_ingest import decode_delta
from barrel_p2p.wire.kinds import Kind
from tests.tree import ROOT

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "replica.json").read_text()
)
PAGE = (ROOT / "docs/reference/wire.md").read_text()
CODE = {span.replace(" ", "") for span in re.findall(r"`([^`\n]+)`", PAGE)}


def made_gossip(row: dict[str, Any]) -> GossipMessage:
    origin = Origin(row["node"], row["creation"], row["seq"])
    body = bytes.fromhex(row["body"])
    if row["form"] == "delta":
        return DeltaMessage(origin, body)
    return CustomMessage(origin, body)


def made_frame(row: dict[str, Any]) -> SyncMessage:
    if row["kind"] == Kind.SYNC_CHUNK:
        return SyncChunk(row["replica"], row["round"], bytes.fromhex(row["entries"]))
    status = Status(row["status"])
    return SyncDone(row["replica"], row["round"], status, row["chunks"])


@pytest.mark.parametrize("row", VECTORS["gossip"], ids=lambda row: row["name"])
def test_gossip_of_replicas_keeps_its_bytes(row: dict[str, Any]) -> None:
    message = made_gossip(row)
    assert encode_gossip(message).hex() == row["payload"]
    assert decode_gossip(bytes.fromhex(row["payload"])) == message
    assert row["payload"] in CODE


@pytest.mark.parametrize("row", VECTORS["frames"], ids=lambda row: row["name"])
def test_frames_of_rounds_keep_their_bytes(row: dict[str, Any]) -> None:
    message = made_frame(row)
    assert encode(message) == (row["kind"], bytes.fromhex(row["body"]))
    assert decode(row["kind"], bytes.fromhex(row["body"])) == message
    assert row["body"] in CODE or not message.replica.isascii()


def test_requests_and_answers_carry_the_digest_as_it_is() -> None:
    found = OrMap("a@h", HLC())
    found.merge(decode_delta(bytes.fromhex(VECTORS["entries"])).delta)
    digest = found.digest()
    sums = {
        str(at // 8): digest[at : at + 8].hex()
        for at in range(0, DIGEST_BYTES, 8)
        if any(digest[at : at + 8])
    }
    assert sums == VECTORS["digest_sums"]
    for message, head in (
        (SyncRequest("things", 1, digest), "067468696e677300000001"),
        (
            SyncDone("things", 1, Status.ANSWERED, 2, digest),
            "067468696e6773000000010000000002",
        ),
    ):
        kind, body = encode(message)
        assert body == bytes.fromhex(head) + digest
        assert decode(kind, body) == message


@pytest.mark.parametrize("payload", VECTORS["refused_gossip"])
def test_what_is_no_gossip_of_a_replica_is_refused(payload: str) -> None:
    with pytest.raises(WireError):
        decode_gossip(bytes.fromhex(payload))


@pytest.mark.parametrize(("kind", "body"), VECTORS["refused_frames"])
def test_what_is_no_frame_of_a_round_is_refused(kind: int, body: str) -> None:
    with pytest.raises(WireError):
        decode(kind, bytes.fromhex(body))


def test_the_page_names_every_status_and_limit() -> None:
    for status in Status:
        assert f"| {status.value} | {status.name} |" in PAGE
    for number in (
        limits.REPLICA_NAME_BYTES_MAX,
        limits.CHUNK_BYTES_MAX,
        limits.ROUND_CHUNKS_MAX,
        DIGEST_BYTES,
    ):
        assert re.search(rf"\b{number:,}\b", PAGE)
