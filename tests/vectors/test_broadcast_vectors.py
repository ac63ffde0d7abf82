"""The messages of the broadcast tree keep their bytes, and the page shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p.broadcast import limits, messages
from barrel_p2p.broadcast.messages import decode, encode
from barrel_p2p.errors import WireError
from barrel_p2p.wire import frames
from tests.tree import ROOT

VECTORS: dict[str, Any] = json.loads(
    Path(__file__).with_name("broadcast.json").read_text()
)
PAGE = (ROOT / "docs/reference/wire.md").read_text()
SECTION = PAGE[PAGE.index("## Broadcast") : PAGE.index("## Replicas")]


def message(row: dict[str, Any]) -> messages.Message:
    fields = dict(row["message"])
    made: messages.Message = getattr(messages, fields.pop("type"))(
        **{
            name: bytes.fromhex(value)
            if name in ("ids", "payload", "message_id")
            or (name, type(value)) == ("hops", str)
            else value
            for name, value in fields.items()
        }
    )
    return made


@pytest.mark.parametrize("row", VECTORS["frames"], ids=lambda row: row["name"])
def test_broadcast_messages_keep_their_bytes(row: dict[str, Any]) -> None:
    kind, body = encode(message(row))
    assert (kind, body.hex()) == (row["kind"], row["body"])
    assert frames.encode(kind, 0, body).hex() == row["bytes"]
    assert decode(kind, body) == message(row)
    assert f"`{row['bytes']}`" in SECTION


@pytest.mark.parametrize("row", VECTORS["refused"], ids=lambda row: row["body"][:48])
def test_what_is_no_broadcast_message_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        decode(row["kind"], bytes.fromhex(row["body"]), peer="b@h")


def test_the_section_names_every_limit() -> None:
    for limit in (
        messages.TOPIC_BYTES_MAX,
        messages.PAYLOAD_BYTES_MAX,
        messages.IHAVE_IDS_MAX,
        messages.GRAFT_IDS_MAX,
        messages.HOPS_MAX,
        limits.MESSAGE_TTL_MS // 1_000,
        limits.GRAFT_RETRY_MS,
        limits.PRUNE_AGAIN_MS,
    ):
        assert f"{limit:,}" in SECTION
