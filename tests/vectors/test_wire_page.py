"""The reference page and the frozen bytes say the same, and so does the code."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import TypedDict

import pytest
from xxhash import xxh3_64_hexdigest

from barrel_p2p.core.hlc import Timestamp
from barrel_p2p.errors import InvalidValue, WireError
from barrel_p2p.wire import kinds, limits
from barrel_p2p.wire.kinds import Kind
from barrel_p2p.wire.terms import key_bytes
from tests.tree import ROOT

HERE = Path(__file__).parent
PAGE = (ROOT / "docs/reference/wire.md").read_text()
CODE = {span.replace(" ", "") for span in re.findall(r"`([^`\n]+)`", PAGE)}


class Stamp(TypedDict):
    wall_ms: int
    counter: int
    bytes: str


class FencedStamp(Stamp):
    node: str
    fence: str


class Stamps(TypedDict):
    stamps: list[FencedStamp]
    without_fence: list[Stamp]
    refused: list[str]


class Hash(TypedDict):
    bytes: str
    hash: str


class Score(TypedDict):
    partition: int
    node: str
    score: str


class Owned(TypedDict):
    key: str
    key_bytes: str
    partition: int
    owners: list[str]


class Placement(TypedDict):
    hashes: list[Hash]
    scores: list[Score]
    owners: list[Owned]


STAMPS: Stamps = json.loads((HERE / "stamps.json").read_text())
PLACEMENT: Placement = json.loads((HERE / "placement.json").read_text())
FRAMES = json.loads((HERE / "frames.json").read_text())


def grouped(number: int) -> str:
    return f"{number:,}"


@pytest.mark.parametrize("row", STAMPS["stamps"], ids=lambda row: row["fence"])
def test_stamps_and_fences_keep_their_bytes(row: FencedStamp) -> None:
    stamp = Timestamp(row["wall_ms"], row["counter"])
    assert stamp.to_binary().hex() == row["bytes"]
    assert Timestamp.from_binary(bytes.fromhex(row["bytes"])) == stamp
    assert f"{stamp.pack(row['node']):016x}" == row["fence"]
    assert {row["bytes"], row["fence"], row["node"]} <= CODE
    assert f"| {grouped(row['wall_ms'])} | {grouped(row['counter'])} |" in PAGE


@pytest.mark.parametrize("row", STAMPS["without_fence"], ids=lambda row: row["bytes"])
def test_a_stamp_out_of_a_fence_s_range_still_travels(row: Stamp) -> None:
    stamp = Timestamp(row["wall_ms"], row["counter"])
    assert stamp.to_binary().hex() == row["bytes"]
    assert Timestamp.from_binary(bytes.fromhex(row["bytes"])) == stamp
    with pytest.raises(InvalidValue):
        stamp.pack("a@host")


@pytest.mark.parametrize("data", STAMPS["refused"])
def test_what_is_no_stamp_stays_refused(data: str) -> None:
    with pytest.raises(WireError):
        Timestamp.from_binary(bytes.fromhex(data))


@pytest.mark.parametrize("row", PLACEMENT["hashes"], ids=lambda row: row["hash"])
def test_the_hash_is_xxh3_with_seed_0(row: Hash) -> None:
    assert xxh3_64_hexdigest(bytes.fromhex(row["bytes"]), seed=0) == row["hash"]
    assert row["hash"] in CODE


@pytest.mark.parametrize("row", PLACEMENT["scores"], ids=lambda row: row["score"])
def test_a_score_hashes_the_partition_and_then_the_name(row: Score) -> None:
    hashed = row["partition"].to_bytes(4, "little") + row["node"].encode()
    assert xxh3_64_hexdigest(hashed) == row["score"]
    assert f"| {row['partition']} | `{row['node']}` |" in PAGE
    assert {hashed.hex(), row["score"]} <= CODE


@pytest.mark.parametrize("row", PLACEMENT["owners"], ids=lambda row: row["key"])
def test_the_page_shows_the_owners_of_some_keys(row: Owned) -> None:
    key = ast.literal_eval(row["key"])
    assert key_bytes(key).hex() == row["key_bytes"]
    hashed = int(xxh3_64_hexdigest(bytes.fromhex(row["key_bytes"])), 16)
    assert hashed % 64 == row["partition"]
    owners = ", ".join(f"`{owner}`" for owner in row["owners"])
    cells = f"`{row['key']}` | `{row['key_bytes']}` | {row['partition']} | {owners}"
    assert f"| {cells} |" in PAGE


@pytest.mark.parametrize("partition", [0, 1, 63])
def test_the_page_marks_the_highest_score_as_the_owner(partition: int) -> None:
    scores = [r["score"] for r in PLACEMENT["scores"] if r["partition"] == partition]
    marked = [score for score in scores if f"`{score}`, the owner" in PAGE]
    assert marked == [max(scores)]


def test_the_page_shows_the_frozen_frames() -> None:
    shown = {row["bytes"] for row in FRAMES["frames"] if len(row["bytes"]) < 50}
    refused = {r["bytes"] for r in FRAMES["streams"] if r["refused_length"] is not None}
    assert shown <= CODE
    assert {f"{n:08x}" for n in (0, 1, 2**31 - 1, 2**31, 2**32 - 1)} <= CODE
    assert {"00000000", "7fffffff", "80000000", "ffffffff"} <= refused


def test_the_page_names_every_kind_and_range() -> None:
    for kind in Kind:
        assert f"| {kind.value} | {kind.name} |" in PAGE
    for name in ("MEMBERSHIP", "BROADCAST", "REPLICA", "ROUTER"):
        span: range = getattr(kinds, name)
        assert f"| {span[0]} to {span[-1]} | {name.lower()} |" in PAGE


@pytest.mark.parametrize("name", ["FRAME_BYTES_MAX", "FRAME_BYTES_MAX_PREAUTH"])
def test_the_page_gives_the_limits_as_they_are(name: str) -> None:
    assert f"| `{name}` | {grouped(getattr(limits, name))} |" in PAGE
