"""What nodes say of members keeps its bytes, and the page shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p.errors import WireError
from barrel_p2p.services.member_messages import (
    Alive,
    Leases,
    Leave,
    MemberMessage,
    Suspect,
    decode,
    encode,
)
from tests.tree import ROOT

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "members.json").read_text()
)
PAGE = (ROOT / "docs/reference/wire.md").read_text()
CODE = {span.replace(" ", "") for span in re.findall(r"`([^`\n]+)`", PAGE)}
KINDS = {"LEASES": Leases, "SUSPECT": Suspect, "ALIVE": Alive, "LEAVE": Leave}


def made(row: dict[str, Any]) -> MemberMessage:
    fields = dict(row["fields"])
    if "leases" in fields:
        fields["leases"] = tuple(tuple(lease) for lease in fields["leases"])
    message: MemberMessage = KINDS[row["message"]](**fields)
    return message


@pytest.mark.parametrize("row", VECTORS["messages"], ids=lambda row: row["name"])
def test_what_is_said_of_members_keeps_its_bytes(row: dict[str, Any]) -> None:
    message = made(row)
    assert encode(message) == (row["kind"], bytes.fromhex(row["body"]))
    assert decode(row["kind"], bytes.fromhex(row["body"])) == message


def test_the_page_shows_every_kind() -> None:
    shown = {r["message"] for r in VECTORS["messages"] if r["body"] in CODE}
    assert shown == set(KINDS)


@pytest.mark.parametrize("row", VECTORS["refused"], ids=lambda row: row["why"])
def test_what_says_nothing_of_members_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        decode(row["kind"], bytes.fromhex(row["body"]))
