"""What reminders look like on the wire keeps its bytes, and the page shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p.core.hlc import Timestamp
from barrel_p2p.core.ormap import Entry
from barrel_p2p.services.reminder_value import (
    at_ms_of,
    check_value,
    fence_of,
    following,
)
from barrel_p2p.wire.terms import decode, encode
from tests.tree import ROOT

VECTORS = json.loads((Path(__file__).parent / "reminders.json").read_text())
PAGE = (ROOT / "docs/reference/wire.md").read_text()


@pytest.mark.parametrize("row", VECTORS["firings"], ids=lambda row: row["name"])
def test_a_firing_keeps_its_time_its_fence_and_what_follows(
    row: dict[str, Any],
) -> None:
    value = decode(bytes.fromhex(row["value"]))
    check_value("k", value)
    entry = Entry("k", Timestamp(*row["stamp"]), row["node"], value)
    assert at_ms_of(entry) == row["at_ms"]
    assert fence_of(entry) == row["fence"]
    told, after = following(entry, row["fired_at_ms"])
    assert told == row["told"]
    assert after.node == row["node"]
    if row["after"] is None:
        assert after.is_tombstone
        assert after.stamp == entry.stamp
    else:
        assert [after.stamp.wall_ms, after.stamp.counter] == row["after"]
        assert encode(after.value).hex() == row["after_value"]


@pytest.mark.parametrize("row", VECTORS["firings"], ids=lambda row: row["name"])
def test_the_page_shows_it(row: dict[str, Any]) -> None:
    stamp = "`{}/{}`".format(*row["stamp"])
    cells = f"`{row['value']}` | {stamp} | {row['at_ms']} | `{row['fence']}`"
    assert f"| {row['name']} | {cells} |" in PAGE
