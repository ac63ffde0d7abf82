"""A peer may look at a node's cluster, and do nothing to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p import Node
from barrel_p2p.errors import InvalidValue
from barrel_p2p.node.cluster_operations import LOOK, LOOK_BYTES_MAX
from tests.endpoints import within

REFUSED = [
    {"op": "leave"},
    {"op": "join", "ref": "b@127.0.0.1:1"},
    {"op": "stop"},
    {"op": "nodes"},
    {"op": "config"},
    {"op": "events"},
    {"op": "keys.list"},
    {"op": "keys.mode", "mode": "strict"},
    {"op": "call", "to": "x", "method": "m"},
    {"op": "members", "extra": 1},
    {"op": "whereis", "name": "x", "wait_ms": 10**9},
    {"op": "whereis", "name": {"a": 1}},
    {"op": "whereis", "name": 1.5},
]


@asynccontextmanager
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    settings: dict[str, Any] = {
        "discovery_backends": (),
        "dist_cookie": "a cookie of the tests",
    }
    a, b = (
        Node(f"{name}@127.0.0.1", data_dir=str(tmp_path / name), **settings)
        for name in "ab"
    )
    async with a, b:
        await within(b.join(a))
        yield a, b


async def look(b: Node, a: Node, question: object) -> Any:
    asked = question if isinstance(question, bytes) else json.dumps(question).encode()
    return await within(b.rpc(a.name, LOOK, asked))


async def test_what_is_no_question_is_refused_and_changes_nothing(
    tmp_path: Path,
) -> None:
    async with pair(tmp_path) as (a, b):
        for question in (*REFUSED, b"", b"\xff", b" " * (LOOK_BYTES_MAX + 1)):
            answer = await look(b, a, question)
            assert set(answer) == {"error"}, question
        assert a.active_view() == [b.name]
        assert a.keys.get_trust_mode() == "tofu"
        whole = await look(b, a, {"op": "members"})
        assert [each["node"] for each in whole["ok"]["members"]] == [a.name, b.name]


async def test_a_question_is_bytes_and_nothing_else(tmp_path: Path) -> None:
    async with pair(tmp_path) as (a, b):
        for argument in ("text", 5, None, [b"x"]):
            with pytest.raises(InvalidValue):
                await within(b.rpc(a.name, LOOK, argument))
