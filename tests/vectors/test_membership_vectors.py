"""Membership messages keep their bytes, and the page shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p.core.names import Address
from barrel_p2p.errors import WireError
from barrel_p2p.membership import messages
from barrel_p2p.membership.messages import PEERS_MAX, Verdict, decode, encode
from tests.tree import ROOT

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "membership.json").read_text()
)
PAGE = (ROOT / "docs/reference/wire.md").read_text()
CODE = {span.replace(" ", "") for span in re.findall(r"`([^`\n]+)`", PAGE)}


def message_of(fields: dict[str, Any]) -> messages.Message:
    values = dict(fields)
    made = getattr(messages, values.pop("type"))
    for field, value in values.items():
        if field == "peers":
            values[field] = tuple(Address(*peer) for peer in value)
        elif field in ("newcomer", "origin"):
            values[field] = Address(*value)
        elif field == "place":
            values[field] = tuple(value)
        elif field == "verdict":
            values[field] = Verdict(value)
    message = made(**values)
    assert isinstance(message, messages.Message)
    return message


@pytest.mark.parametrize("row", VECTORS["messages"], ids=lambda row: row["name"])
def test_messages_keep_their_bytes(row: dict[str, Any]) -> None:
    message = message_of(row["message"])
    assert encode(message) == (row["kind"], bytes.fromhex(row["body"]))
    assert decode(row["kind"], bytes.fromhex(row["body"])) == message
    assert row["body"] in CODE


@pytest.mark.parametrize("row", VECTORS["refused"], ids=lambda row: row["name"])
def test_what_is_no_message_is_refused_and_its_sender_named(
    row: dict[str, Any],
) -> None:
    with pytest.raises(WireError) as caught:
        decode(row["kind"], bytes.fromhex(row["body"]), peer="x@h")
    assert caught.value.peer == "x@h"


@pytest.mark.parametrize("row", VECTORS["messages"], ids=lambda row: row["name"])
def test_every_byte_counts(row: dict[str, Any]) -> None:
    body = bytes.fromhex(row["body"])
    for size in range(len(body)):
        with pytest.raises(WireError):
            decode(row["kind"], body[:size])
    with pytest.raises(WireError):
        decode(row["kind"], body + b"\0")


def test_the_page_names_the_limit() -> None:
    assert re.search(rf"\bat most {PEERS_MAX} peers\b", PAGE)


def test_nothing_that_a_node_only_knows_for_itself_travels() -> None:
    travels = {
        field
        for each in messages.Message.__args__
        for field in each.__dataclass_fields__
    }
    assert travels == {
        "high",
        "leaving",
        "newcomer",
        "origin",
        "peers",
        "place",
        "request_id",
        "soft",
        "ttl",
        "verdict",
    }
