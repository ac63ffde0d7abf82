"""Whole nodes on loopback, with directories of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from barrel_p2p.config import Config
from barrel_p2p.node.node import Node

__all__ = ["COOKIE", "config", "node", "nodes"]

COOKIE = "a cookie of the tests"


def config(directory: Path, name: str, **changes: object) -> Config:
    """A configuration that touches nothing outside ``directory``."""
    settings: dict[str, object] = {
        "node_name": name,
        "data_dir": str(directory / name),
        "discovery_dir": str(directory / "discovery"),
        "dist_cookie": COOKIE,
        "strict_messages": True,
    }
    return Config.load(None, env={}, **(settings | changes))


def node(directory: Path, name: str, **changes: object) -> Node:
    """A node that is not started yet."""
    return Node(config=config(directory, name, **changes))


@asynccontextmanager
async def nodes(
    directory: Path, *names: str, joined: bool = True, **changes: object
) -> AsyncIterator[list[Node]]:
    """Running nodes; each is connected to all before it, if ``joined``."""
    async with AsyncExitStack() as stack:
        made: list[Node] = []
        for name in names:
            each = await stack.enter_async_context(node(directory, name, **changes))
            for other in made if joined else ():
                await each.connect(other)
            made.append(each)
        yield made
