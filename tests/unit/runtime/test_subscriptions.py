"""Subscribers are told what they want, in order, and never more than they can hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from barrel_p2p import Lagged, Node, NoProc, Pid
from barrel_p2p.errors import Busy, InvalidValue
from barrel_p2p.runtime import subscriptions
from barrel_p2p.runtime.process import Process
from barrel_p2p.runtime.subscriptions import Subscriptions
from tests.endpoints import within


@asynccontextmanager
async def _node(tmp_path: Path) -> AsyncIterator[Node]:
    name = "a@127.0.0.1"
    async with Node(name, data_dir=str(tmp_path), discovery_backends=()) as node:
        yield node


def _subscriptions(process: Process) -> Subscriptions:
    return Subscriptions(process._box.switch)


async def test_a_process_gets_the_event_itself_once(tmp_path: Path) -> None:
    async with _node(tmp_path) as node, node.mailbox() as me:
        told = _subscriptions(me)
        told.add(me.pid)
        told.add(me.pid)
        event = object()
        told.tell(event)
        told.tell("second")
        assert await within(me.receive()) is event
        assert await within(me.receive()) == "second"


async def test_a_filter_that_raises_wants_nothing(tmp_path: Path) -> None:
    async with _node(tmp_path) as node, node.mailbox() as me:
        told = _subscriptions(me)
        stream = told.stream(8, lambda event: event.missing)
        told.add(me.pid, lambda event: bool(event > 1))
        for event in (1, 2, "text"):
            told.tell(event)
        assert await within(me.receive()) == 2
        with pytest.raises(TimeoutError):
            await stream.next(timeout=0.01)


async def test_only_processes_of_this_node_subscribe(tmp_path: Path) -> None:
    async with _node(tmp_path) as node, node.mailbox() as me:
        told = _subscriptions(me)
        with pytest.raises(InvalidValue, match="is no process of a@127"):
            told.add(Pid("b@127.0.0.1", 1, 1))
        with pytest.raises(NoProc):
            told.add(Pid(node.name, 1 << 40, node.creation))
        assert len(told) == 0


async def test_a_full_mailbox_is_told_what_it_missed(tmp_path: Path) -> None:
    async with _node(tmp_path) as node, node.mailbox() as me:
        told = _subscriptions(me)
        told.add(me.pid)
        limit = me._box.limit
        for number in range(limit + 3):
            told.tell(number)
        for number in range(limit):
            assert await within(me.receive()) == number
        told.tell("after")
        assert await within(me.receive()) == Lagged(3)
        assert await within(me.receive()) == "after"


async def test_a_process_that_ended_is_forgotten(tmp_path: Path) -> None:
    async with _node(tmp_path) as node:
        async with node.mailbox() as me:
            told = _subscriptions(me)
            told.add(me.pid)
        told.tell("nobody hears it")
        assert len(told) == 0


async def test_the_number_of_processes_is_bounded_and_the_ended_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "SUBSCRIBERS_MAX", 2)
    async with _node(tmp_path) as node, node.mailbox() as me:
        told = _subscriptions(me)
        told.add(me.pid)
        async with node.mailbox() as second, node.mailbox() as third:
            told.add(second.pid)
            told.add(second.pid, lambda event: True)
            with pytest.raises(Busy, match="SUBSCRIBERS_MAX=2"):
                told.add(third.pid)
        async with node.mailbox() as fourth:
            told.add(fourth.pid)
        assert len(told) == 2
