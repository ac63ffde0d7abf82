"""Frozen frames: a change here is a change of the protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple, TypedDict

import pytest

from barrel_p2p.errors import WireError
from barrel_p2p.wire import kinds
from barrel_p2p.wire.frames import Frame, Splitter, encode, encode_many
from barrel_p2p.wire.kinds import Kind, skip_unknown


class FrameRow(TypedDict):
    name: str
    kind: int
    flags: int
    body: str
    bytes: str


class StreamRow(TypedDict):
    name: str
    frame_bytes_max: int
    bytes: str
    frames: list[tuple[int, int, str]]
    refused_length: int | None


class UnknownRow(TypedDict):
    kind: int
    flags: int
    skip: bool


class Vectors(NamedTuple):
    frames: list[FrameRow]
    streams: list[StreamRow]
    kinds: dict[str, int]
    ranges: dict[str, list[int]]
    unknown: list[UnknownRow]


VECTORS = Vectors(**json.loads(Path(__file__).with_name("frames.json").read_text()))


@pytest.mark.parametrize("row", VECTORS.frames, ids=lambda row: row["name"])
def test_frames_keep_their_bytes(row: FrameRow) -> None:
    frame = Frame(row["kind"], row["flags"], bytes.fromhex(row["body"]))
    frozen = bytes.fromhex(row["bytes"])
    assert encode(frame.kind, frame.flags, frame.body) == frozen
    assert encode_many([frame, frame]) == frozen * 2
    assert Splitter().feed(frozen) == [frame]


@pytest.mark.parametrize("row", VECTORS.streams, ids=lambda row: row["name"])
def test_streams_split_and_are_refused_as_ever(row: StreamRow) -> None:
    splitter = Splitter(row["frame_bytes_max"])
    expected = [Frame(k, f, bytes.fromhex(body)) for k, f, body in row["frames"]]
    got: list[Frame] = []
    refused = None
    for byte in bytes.fromhex(row["bytes"]):
        try:
            got += splitter.feed(bytes([byte]))
        except WireError as error:
            refused = str(error)
            break
    assert got == expected
    if row["refused_length"] is None:
        assert refused is None
    else:
        assert f"frame of {row['refused_length']} bytes" in (refused or "")


def test_no_kind_ever_changes_its_number() -> None:
    numbers = {kind.name: int(kind) for kind in Kind}
    assert {name: numbers.get(name) for name in VECTORS.kinds} == VECTORS.kinds
    assert set(numbers) == set(VECTORS.kinds), "freeze the new kind in frames.json"


@pytest.mark.parametrize("name", VECTORS.ranges)
def test_no_range_ever_moves(name: str) -> None:
    first, last = VECTORS.ranges[name]
    assert getattr(kinds, name) == range(first, last + 1)


@pytest.mark.parametrize("row", VECTORS.unknown, ids=lambda row: str(row["kind"]))
def test_unknown_kinds_meet_the_same_fate(row: UnknownRow) -> None:
    frame = Frame(row["kind"], row["flags"], b"")
    if row["skip"]:
        skip_unknown(frame)
    else:
        with pytest.raises(WireError):
            skip_unknown(frame)
