"""Frozen terms: a change here is a change of the protocol.

``terms.json`` writes a value as JSON does where it can, and else as an object of one
field: ``int`` (decimal), ``float`` (hexadecimal, or inf, -inf, nan), ``bytes`` (hex),
``tuple``, ``dict`` (pairs), ``set``, ``frozenset``, ``atom``, ``pid`` (node, id,
creation) and ``ref`` (node, creation, words).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypedDict

import pytest
from xxhash import xxh3_64_hexdigest

from barrel_p2p.core.terms import ATOM_CHARS_MAX, Atom, Pid, Ref
from barrel_p2p.errors import NotEncodable, WireError
from barrel_p2p.wire import limits
from barrel_p2p.wire.terms import decode, encode, key_bytes
from tests.models import terms as model
from tests.term_values import is_same
from tests.tree import ROOT


class Row(TypedDict):
    name: str
    value: object
    bytes: str


class KeyRow(TypedDict):
    value: object
    bytes: str
    hash: str


class RefusedRow(TypedDict):
    name: str
    bytes: str


class Vectors(NamedTuple):
    terms: list[Row]
    other_spellings: list[Row]
    keys: list[KeyRow]
    no_keys: list[object]
    refused: list[RefusedRow]


VECTORS = Vectors(**json.loads(Path(__file__).with_name("terms.json").read_text()))
PAGE = (ROOT / "docs/reference/wire.md").read_text()


def parsed(shown: object) -> object:
    if isinstance(shown, list):
        return [parsed(element) for element in shown]
    if isinstance(shown, dict):
        ((kind, content),) = shown.items()
        return _BUILDERS[kind](content)
    return shown


def _pairs(content: list[list[object]]) -> dict[object, object]:
    return {parsed(key): parsed(value) for key, value in content}


_BUILDERS: dict[str, Callable[..., object]] = {
    "int": int,
    "float": float.fromhex,
    "bytes": bytes.fromhex,
    "tuple": lambda content: tuple(map(parsed, content)),
    "dict": _pairs,
    "set": lambda content: set(map(parsed, content)),
    "frozenset": lambda content: frozenset(map(parsed, content)),
    "atom": Atom,
    "pid": lambda content: Pid(*content),
    "ref": lambda content: Ref(content[0], content[1], tuple(content[2])),
}


@pytest.mark.parametrize("row", VECTORS.terms, ids=lambda row: row["name"])
def test_terms_keep_their_bytes(row: Row) -> None:
    value, data = parsed(row["value"]), bytes.fromhex(row["bytes"])
    assert encode(value) == data
    assert model.encode(value) == data
    assert is_same(decode(data), value)


@pytest.mark.parametrize("row", VECTORS.other_spellings, ids=lambda row: row["name"])
def test_other_spellings_keep_their_meaning(row: Row) -> None:
    value, data = parsed(row["value"]), bytes.fromhex(row["bytes"])
    assert is_same(decode(data), value)
    assert is_same(model.decode(data), value)


@pytest.mark.parametrize("row", VECTORS.keys, ids=lambda row: row["hash"])
def test_keys_keep_their_bytes_and_their_hash(row: KeyRow) -> None:
    data = key_bytes(parsed(row["value"]))
    assert data.hex() == row["bytes"]
    assert xxh3_64_hexdigest(data) == row["hash"]


@pytest.mark.parametrize("shown", VECTORS.no_keys, ids=str)
def test_what_is_no_key_term_stays_none(shown: object) -> None:
    assert encode(parsed(shown))
    with pytest.raises(NotEncodable):
        key_bytes(parsed(shown))


@pytest.mark.parametrize("row", VECTORS.refused, ids=lambda row: row["name"])
def test_what_is_refused_stays_refused(row: RefusedRow) -> None:
    data = bytes.fromhex(row["bytes"])
    with pytest.raises(WireError):
        decode(data)
    with pytest.raises(model.Refused):
        model.decode(data)


def test_the_page_shows_every_frozen_key() -> None:
    for row in VECTORS.keys:
        assert f"`{row['bytes']}` | `{row['hash']}` |" in PAGE


def test_the_page_shows_the_short_frozen_terms() -> None:
    shown = [row["bytes"] for row in VECTORS.terms if len(row["bytes"]) <= 32]
    assert [data for data in shown if f"`{data}`" not in PAGE] == []


@pytest.mark.parametrize(
    "name",
    [
        "INT_BITS_MAX",
        "TERM_BYTES_MAX",
        "TERM_DEPTH_MAX",
        "TERM_MEMORY_FREE",
        "TERM_MEMORY_PER_BYTE",
        "TERM_NODES_MAX",
    ],
)
def test_the_page_gives_the_limits_of_terms_as_they_are(name: str) -> None:
    assert f"| `{name}` | {getattr(limits, name):,} |" in PAGE


def test_the_page_gives_the_limits_of_names_and_keys_as_they_are() -> None:
    assert f"| `ATOM_CHARS_MAX` | {ATOM_CHARS_MAX} |" in PAGE
    assert f"`KEY_TERM_DEPTH_MAX` ({limits.KEY_TERM_DEPTH_MAX})" in PAGE
    assert f"`KEY_TERM_BYTES_MAX` ({limits.KEY_TERM_BYTES_MAX:,})" in PAGE
