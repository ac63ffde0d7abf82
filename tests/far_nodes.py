"""Nodes in a row, each with its neighbours only, that no discovery tells of others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from barrel_p2p.node.node import Node
from barrel_p2p.node.parts import Parts
from barrel_p2p.runtime.process import Process
from barrel_p2p.runtime.switch import Call, Cast
from tests.endpoints import eventually, within
from tests.unit.node.nodes import node

__all__ = ["A", "B", "C", "answering", "far_nodes", "keeping", "parts_of"]

A, B, C = (f"{letter}@127.0.0.1" for letter in "abc")


@asynccontextmanager
async def far_nodes(directory: Path, **changes: Any) -> AsyncIterator[list[Node]]:
    """``a``, ``b`` and ``c``, where only ``b`` has channels to both others."""
    async with AsyncExitStack() as stack:
        made = []
        for name in (A, B, C):
            own = str(directory / f"discovery of {name}")
            settings: dict[str, Any] = {
                "active_size": 2,
                "discovery_dir": own,
                "discovery_backends": ("file",),
            }
            each = node(directory, name, **(settings | changes))
            made.append(await stack.enter_async_context(each))
        a, b, c = made
        # Or the views would sometimes meet, and there would be nothing to find out.
        a.block_peers([C])
        c.block_peers([A])
        await within(a.join(b.address))
        await within(c.join(b.address))
        await eventually(lambda: b.active_view() == [A, C])
        await eventually(lambda: all(n.members() == [A, B, C] for n in made))
        assert (a.nodes(), c.nodes()) == ([B], [B])
        yield made


def parts_of(node: Node) -> Parts:
    """What a running node is made of."""
    return node._running()


async def answering(me: Process, said: object) -> None:
    """Answers each call with ``said``, its request, and its caller's node; an ``Event``
    in place of a request is waited for, and an error is raised there."""
    async for message in me:
        if isinstance(message, Call):
            if message.request == "fail":
                message.fail("error", "as you wish", "ValueError", "line 1")
            elif message.request != "wait":
                message.reply((said, message.request, message.caller.node))


async def keeping(me: Process, kept: list[object]) -> None:
    """Keeps what it is sent, casts as ``("cast", request)``."""
    async for message in me:
        kept.append(("cast", message.request) if isinstance(message, Cast) else message)
