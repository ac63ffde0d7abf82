"""What routers say keeps its bytes, and the page shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import WireError
from barrel_p2p.services.router_inputs import HOP_MS, ROUTE_TTL
from barrel_p2p.services.router_messages import (
    FOUND_BYTES_MAX,
    ROUTE_MS_MAX,
    VISITED_MAX,
    FoundNode,
    FoundService,
    NodeTarget,
    RouteReply,
    RouteRequest,
    RouterMessage,
    ServiceTarget,
    Status,
    Target,
    decode,
    encode,
)
from barrel_p2p.wire.terms import key_bytes
from tests.tree import ROOT

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "routes.json").read_text()
)
PAGE = (ROOT / "docs/reference/wire.md").read_text()
CODE = {span.replace(" ", "") for span in re.findall(r"`([^`\n]+)`", PAGE)}


def made(row: dict[str, Any]) -> RouterMessage:
    fields = row["fields"]
    if row["message"] == "RouteRequest":
        name = fields.get("service")
        target: Target = (
            NodeTarget(fields["node"])
            if name is None
            else ServiceTarget(key_bytes(name), name)
        )
        return RouteRequest(
            fields["origin"],
            fields["id"],
            fields["ttl"],
            fields["left_ms"],
            target,
            tuple(fields["visited"]),
        )
    found: FoundService | FoundNode | None = None
    if fields["status"] == Status.SERVICE:
        told = fields["found"]
        found = FoundService(told["node"], Pid(*told["pid"]), told["meta"])
    elif fields["status"] == Status.NODE:
        found = FoundNode(fields["found"]["host"], fields["found"]["port"])
    status = Status(fields["status"])
    return RouteReply(fields["origin"], fields["id"], fields["ttl"], status, found)


@pytest.mark.parametrize("row", VECTORS["messages"], ids=lambda row: row["name"])
def test_what_routers_say_keeps_its_bytes(row: dict[str, Any]) -> None:
    message = made(row)
    assert encode(message) == (row["kind"], bytes.fromhex(row["body"]))
    assert decode(row["kind"], bytes.fromhex(row["body"])) == message


@pytest.mark.parametrize("row", VECTORS["refused"], ids=lambda row: row["why"])
def test_what_is_no_word_of_a_router_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        decode(row["kind"], bytes.fromhex(row["body"]))


def test_the_page_shows_each_of_them() -> None:
    assert {row["body"] for row in VECTORS["messages"]} <= CODE
    for status in Status:
        assert f"| {status.value} | {status.name} |" in PAGE


def test_the_page_gives_the_limits_of_routes_as_they_are() -> None:
    section = PAGE.partition("## Routes")[2].partition("\n## ")[0]
    for limit in (VISITED_MAX, ROUTE_MS_MAX, FOUND_BYTES_MAX, ROUTE_TTL, HOP_MS):
        assert f"{limit:,}" in section
