"""A process with a node in it dies, stops, stands still: what the others see of it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.cluster.node_process import NodeProcess, node_process, node_processes

A, B, C = "a@127.0.0.1", "b@127.0.0.1", "c@127.0.0.1"
IDLE_MS = 1_500
MONITORS = 50


async def count_of(one: NodeProcess, kind: str, name: str) -> int:
    kinds: list[list[str]] = await one.ask("kinds")
    return kinds.count([kind, name])


async def test_every_monitor_on_a_killed_node_fires_once_and_every_call_fails(
    tmp_path: Path,
) -> None:
    """And a node that starts in its place is a later life, with other processes."""
    async with node_processes(tmp_path, A, B, idle_timeout_ms=IDLE_MS) as (a, b):
        async with node_process(tmp_path, C, idle_timeout_ms=IDLE_MS) as c:
            for one in (a, b):
                await one.ask("connect", ref=c.ref)
                await one.ask("monitor", pid=c.pid, count=MONITORS)
                await one.ask("hang", pid=c.mute_pid, count=5)
                await one.until("calls_waiting", 5)
                assert await one.ask("call_pid", pid=c.pid, content=1) == 1
            old = c.pid
            await c.kill()
        for one, other in ((a, b), (b, a)):
            assert await one.ask("hung") == ["PeerUnreachable"] * 5
            await one.until("nodes", [other.name])
            assert await one.ask("downs") == {"noconnection": MONITORS}
            assert (await one.ask("call", to=C, content=2))["error"] == (
                "PeerUnreachable"
            )
            await one.ask("monitor", pid=old, count=1)
            await one.until("downs", {"noconnection": 1})
        async with node_process(tmp_path, C, idle_timeout_ms=IDLE_MS) as again:
            assert again.creation > c.creation
            for one in (a, b):
                await one.ask("connect", ref=again.ref)
                refused = await one.ask("call_pid", pid=old, content=3)
                assert refused["error"] == "NoProc"
                await one.ask("monitor", pid=old, count=1)
                await one.until("downs", {"noproc": 1})
                assert await one.ask("call_pid", pid=again.pid, content=4) == 4
                assert await one.ask("downs") == {}
                assert await count_of(one, "NodeDown", C) == 1
                assert await count_of(one, "NodeUp", C) == 2


async def test_a_node_stopped_for_longer_than_the_idle_timeout_comes_back(
    tmp_path: Path,
) -> None:
    async with node_processes(tmp_path, A, B, idle_timeout_ms=IDLE_MS) as (a, b):
        await a.ask("monitor", pid=b.pid, count=MONITORS)
        await b.ask("monitor", pid=a.pid, count=MONITORS)
        assert await a.ask("call_pid", pid=b.pid, content=1) == 1
        assert await b.ask("call_pid", pid=a.pid, content=1) == 1
        os.kill(b.process.pid, signal.SIGSTOP)
        try:
            await a.until("nodes", [])
        finally:
            os.kill(b.process.pid, signal.SIGCONT)
        assert await a.ask("downs") == {"noconnection": MONITORS}
        await b.until("kinds", [["NodeUp", A], ["NodeDown", A]])
        assert await b.ask("downs") == {"noconnection": MONITORS}
        # The same life: old pids are good again as soon as there is a channel.
        assert await a.ask("call_pid", pid=b.pid, content=2) == 2
        assert await b.ask("call_pid", pid=a.pid, content=2) == 2
        for one, other in ((a, b), (b, a)):
            assert await one.ask("downs") == {}
            assert await count_of(one, "NodeUp", other.name) == 2


async def test_both_sides_see_a_disconnect_within_a_second(tmp_path: Path) -> None:
    async with node_processes(tmp_path, A, B) as (a, b):
        for one, other in ((a, b), (b, a)):
            asked_s = await one.ask("disconnect", name=other.name)
            await other.until("nodes", [])
            for side in (one, other):
                kind, _, reason, seen_s = (await side.ask("events"))[-1]
                assert (kind, reason) == ("NodeDown", "disconnect")
                assert seen_s - asked_s <= 1.0
            await one.ask("connect", ref=other.ref)


@pytest.mark.serial
async def test_a_loop_that_is_blocked_for_three_seconds_loses_no_channel(
    tmp_path: Path,
) -> None:
    """With the default idle timeout; calls made meanwhile are answered after it."""
    async with node_processes(tmp_path, A, B, C) as (a, b, c):
        for one in (a, b):
            await one.ask("monitor", pid=c.pid, count=1)
        blocked = asyncio.create_task(c.ask("block", seconds=3.0))
        for one in (a, b):
            assert await one.ask("call", to=C, content="meanwhile") == "meanwhile"
        await blocked
        assert await c.ask("call", to=A, content="afterwards") == "afterwards"
        for one in (a, b, c):
            assert [kind for kind, _ in await one.ask("kinds")] == ["NodeUp"] * 2
            assert await one.ask("downs") == {}
