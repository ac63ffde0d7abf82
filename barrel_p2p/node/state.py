"""The stage of the boot order that keeps state: maps, leaders, shards, reminders.

docs/design/0006-state.md is its shape.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from barrel_p2p.node.leaders import leaders
from barrel_p2p.node.maps import maps
from barrel_p2p.node.parts import Parts, Stage
from barrel_p2p.node.reminders import reminders
from barrel_p2p.node.shards import shards
from barrel_p2p.node.store import store

__all__ = ["state"]

_PARTS: Final[tuple[Stage, ...]] = (store, shards, leaders, maps, reminders)
"""In the order in which they start; each stands beside the methods of ``Node``."""


@asynccontextmanager
async def state(parts: Parts) -> AsyncIterator[None]:
    """Open what lasts, take part in what is decided; close it all at the end."""
    if parts.hidden:
        yield
        return
    async with AsyncExitStack() as stack:
        for part in _PARTS:
            await stack.enter_async_context(part(parts))
        yield
