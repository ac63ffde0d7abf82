"""A leader dies, or stands still: who leads then, and what the leader itself hears."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.cluster.node_process import NodeProcess, node_process
from tests.endpoints import DEADLINE_S

NAME = "roller"
NAMES = ("a@127.0.0.1", "b@127.0.0.1", "c@127.0.0.1")
SETTINGS: dict[str, Any] = {
    "idle_timeout_ms": 1_500,
    "member_heartbeat_ms": 500,
    "member_ttl_ms": 2_000,
    "suspect_ms": 500,
}
POLL_S = 0.02


@asynccontextmanager
async def candidates(directory: Path) -> AsyncIterator[list[NodeProcess]]:
    """Three nodes that are one cluster; each stands, and ``a`` leads."""
    async with AsyncExitStack() as stack:
        starting = [node_process(directory, name, **SETTINGS) for name in NAMES]
        made = await asyncio.gather(*(stack.enter_async_context(s) for s in starting))
        for one in made[1:]:
            await one.ask("join", ref=made[0].ref)
        for one in made:
            await one.until("members", list(NAMES))
            one.pid = await one.ask("stand", name=NAME)
            await one.until("leader", NAMES[0], name=NAME)
        yield list(made)


async def fence_told(one: NodeProcess, after: int = 0) -> int:
    """The fence of an election there that is above ``after``."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            for kind, fence in reversed(await one.ask("told")):
                if kind in ("stands", "Elected") and (fence or 0) > after:
                    return int(fence)
            await asyncio.sleep(POLL_S)  # not synchronisation: the interval of looks


async def test_a_survivor_leads_after_kill_9_with_a_greater_fence(
    tmp_path: Path,
) -> None:
    """And the one that is started again takes over with a greater one still."""
    async with candidates(tmp_path) as (a, b, c):
        first = await fence_told(a)
        await b.until("high_water", first, name=NAME)
        await a.kill()
        second = await fence_told(b, first)
        await c.until("high_water", second, name=NAME)
        await c.until("leader", NAMES[1], name=NAME)
        assert [kind for kind, _ in await c.ask("told")] == ["stands"]
        async with node_process(tmp_path, NAMES[0], **SETTINGS) as again:
            await again.ask("join", ref=b.ref)
            await again.ask("stand", name=NAME)
            third = await fence_told(again)
            assert third > second
            for one in (b, c):
                await one.until("leader", NAMES[0], name=NAME)
            assert (await b.ask("told"))[-1] == ["Revoked", None]


async def test_a_leader_that_stood_still_hears_so_before_it_does_anything(
    tmp_path: Path,
) -> None:
    """C3: ``Revoked`` comes first, its acts end at once, and its fence was replaced."""
    async with candidates(tmp_path) as (a, b, c):
        first = await fence_told(a)
        assert a.process.pid is not None
        os.kill(a.process.pid, signal.SIGSTOP)
        try:
            await c.ask("send", pid=a.pid, content="work")
            second = await fence_told(b, first)
        finally:
            os.kill(a.process.pid, signal.SIGCONT)
        third = await fence_told(a, second)
        assert third > second > first
        told = [kind for kind, _ in await a.ask("told") if kind != "stands"]
        assert told[0] == "Revoked"
        assert "Elected" in told
        acts = await a.ask("acts")
        (still,) = (
            after
            for (before_s, _), (after_s, after) in pairwise(acts)
            if after_s - before_s > 1.0
        )
        assert still is None
        fences = [fence for _, fence in acts if fence is not None]
        assert fences == sorted(fences)
        await b.until("leader", NAMES[0], name=NAME)
