"""A disk that takes long to sync holds no loop up, and nobody is let in before it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from barrel_p2p.errors import BarrelError
from tests.endpoints import eventually, within
from tests.unit.node.nodes import nodes

A, B, C = "a@127.0.0.1", "b@127.0.0.1", "c@127.0.0.1"


class Disk:
    """The syncs of this process, which can be held up."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.waiting = 0
        self._fsync = os.fsync

    def fsync(self, file: int) -> None:
        self.waiting += 1
        assert self.goes_on.wait(20.0)
        self._fsync(file)
        self.waiting -= 1


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk()
    monkeypatch.setattr(os, "fsync", made.fsync)
    yield made
    made.goes_on.set()


def pin_of(tmp_path: Path, of: str, at: str) -> Path:
    return tmp_path / at / "keys" / "trusted" / f"{of}.pub"


async def test_a_first_contact_waits_for_the_disk_and_nobody_else_does(
    tmp_path: Path, disk: Disk
) -> None:
    async with nodes(tmp_path, A, B, C, joined=False) as (a, b, c):
        await c.connect(a)
        disk.goes_on.clear()
        meeting = asyncio.create_task(a.connect(b))
        await eventually(lambda: disk.waiting > 0)
        started = time.monotonic()
        for _ in range(5):
            c.disconnect(A)
            await eventually(lambda: not a.nodes())
            assert await c.connect(a) == A
        assert time.monotonic() - started < 3.0
        assert not meeting.done()
        assert (a.nodes(), b.nodes()) == ([C], [])
        disk.goes_on.set()
        assert await within(meeting) == B
        assert pin_of(tmp_path, B, A).read_bytes() == b.public_key
        assert pin_of(tmp_path, A, B).read_bytes() == a.public_key


async def test_a_node_that_is_seen_again_is_noted_without_the_loop(
    tmp_path: Path, disk: Disk
) -> None:
    async with nodes(tmp_path, A, B, joined=False) as (a, b):
        a.keys.store_key(B, b.public_key)  # Never seen: it is due.
        b.keys.store_key(A, a.public_key)
        disk.goes_on.clear()
        assert await within(a.connect(b)) == B
        await eventually(lambda: disk.waiting > 0)
        disk.goes_on.set()
        await eventually(lambda: a.keys.list_trusted()[0].last_seen > 0)


async def test_who_is_revoked_while_its_pin_is_stored_has_no_session_left(
    tmp_path: Path, disk: Disk
) -> None:
    async with nodes(tmp_path, A, B, joined=False) as (a, b):
        disk.goes_on.clear()
        meeting = asyncio.create_task(a.connect(b))
        await eventually(lambda: disk.waiting > 0)
        revoking = asyncio.create_task(asyncio.to_thread(a.keys.revoke, B))
        disk.goes_on.set()
        await within(revoking)
        with contextlib.suppress(BarrelError):
            await within(meeting)
        await eventually(lambda: not a.nodes() and not b.nodes())
        assert a.keys.list_trusted() == []


async def test_a_deadline_passes_while_the_disk_is_slow(
    tmp_path: Path, disk: Disk
) -> None:
    async with nodes(tmp_path, A, B, joined=False, auth_handshake_timeout=500) as both:
        a, b = both
        disk.goes_on.clear()
        with pytest.raises(BarrelError):
            await within(a.connect(b, timeout=3.0))
        disk.goes_on.set()
        await eventually(lambda: disk.waiting == 0)
        assert (a.nodes(), b.nodes()) == ([], [])
        assert await within(b.connect(a)) == A


async def test_a_node_that_stops_leaves_no_pin_half_stored(
    tmp_path: Path, disk: Disk
) -> None:
    async with nodes(tmp_path, B) as (b,):
        async with nodes(tmp_path, A) as (a,):
            disk.goes_on.clear()
            meeting = asyncio.create_task(a.connect(b))
            await eventually(lambda: disk.waiting > 0)
            asyncio.get_running_loop().call_later(0.2, disk.goes_on.set)
        with pytest.raises(BarrelError):
            await within(meeting)
        stored = pin_of(tmp_path, B, A)
        assert not stored.exists() or stored.read_bytes() == b.public_key
        assert not list(stored.parent.glob("*.tmp*"))
