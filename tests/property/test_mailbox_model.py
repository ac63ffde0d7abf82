"""A mailbox is a list that a receiver may wait for, whatever interleaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.runtime.mailbox import EMPTY
from barrel_p2p.runtime.processes import Processes
from barrel_p2p.runtime.switch import Switch
from tests.models.mailbox import NOTHING, MailboxModel

LIMIT = 5
TAGS = ("a", "b", 7)
MATCHES: list[tuple[Any, Callable[[Any], bool]]] = [
    (None, lambda m: True),
    ("a", lambda m: type(m) is tuple and m[0] == "a"),
    (7, lambda m: type(m) is tuple and m[0] == 7),
    (int, lambda m: isinstance(m, int)),
    (lambda m: m == ("b", 1), lambda m: bool(m == ("b", 1))),
]
MESSAGE = st.tuples(st.sampled_from(TAGS), st.integers(0, 1)) | st.integers(0, 3)
WHICH = st.integers(0, len(MATCHES) - 1)
STEP = st.one_of(
    st.tuples(st.just("put"), st.lists(MESSAGE, min_size=1, max_size=40)),
    st.tuples(st.just("put"), st.lists(MESSAGE, min_size=1, max_size=2)),
    st.tuples(st.just("first"), MESSAGE),
    st.tuples(st.just("take"), WHICH),
    st.tuples(st.just("discard"), WHICH),
    st.tuples(st.just("drain"), st.just(0)),
    st.tuples(st.just("park"), WHICH),
    st.tuples(st.just("cancel"), st.just(0)),
)


class Both:
    """The mailbox and its model, and a receiver that may be parked."""

    def __init__(self) -> None:
        switch = Switch("a@h", 1, asyncio.get_running_loop())
        processes = Processes(switch, node=None)
        self.process = processes._make(None, LIMIT)
        self.box = self.process._box
        self.model = MailboxModel(LIMIT)
        self.parked: asyncio.Task[Any] | None = None
        self.which = 0
        self.close = switch.close

    async def step(self, verb: str, value: Any) -> None:
        if verb == "put":
            for message in value:
                self.box.offer(message)
                self.model.put(message)
        elif verb == "first":
            self.box.offer_first(value)
            self.model.put_first(value)
        elif verb == "cancel":
            await self.cancel()
        elif verb == "discard":
            found = self.model.take(MATCHES[value][1])
            assert self.box.discard(MATCHES[value][1]) == (found is not NOTHING)
        elif self.parked is not None:
            pass  # One receiver at a time.
        elif verb == "take":
            real, model = MATCHES[value]
            got = self.box.take() if real is None else self.box.find(real)
            expected = self.model.take(model)
            assert got == (EMPTY if expected is NOTHING else expected)
        elif verb == "drain":
            assert self.box.drain() == self.model.drain()
        elif verb == "park":
            self.which = value
            self.parked = asyncio.create_task(self.process.receive(MATCHES[value][0]))
        await self.settle()

    async def settle(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)
        if self.parked is not None:
            expected = self.model.take(MATCHES[self.which][1])
            assert self.parked.done() == (expected is not NOTHING)
            if self.parked.done():
                assert self.parked.result() == expected
                self.parked = None
        assert len(self.box) == len(self.model.messages)
        assert self.box.full == self.model.full

    async def cancel(self) -> None:
        if self.parked is not None:
            self.parked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await self.parked
            self.parked = None


@given(st.lists(STEP, max_size=40))
def test_the_mailbox_agrees_with_its_model(steps: list[tuple[str, Any]]) -> None:
    async def run() -> None:
        both = Both()
        try:
            for verb, value in steps:
                await both.step(verb, value)
            await both.cancel()
            assert both.box.close() == both.model.messages
        finally:
            both.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_a_cancelled_receive_loses_nothing(cancels: list[bool]) -> None:
    # The message and the cancellation come in the same turn of the loop.
    async def run() -> None:
        both = Both()
        try:
            got = []
            for i, cancel_first in enumerate(cancels):
                task = asyncio.create_task(both.process.receive())
                await asyncio.sleep(0)
                for verb in ("cancel", "put") if cancel_first else ("put", "cancel"):
                    if verb == "put":
                        both.box.offer(i)
                    else:
                        task.cancel()
                try:
                    got.append(await task)
                except asyncio.CancelledError:
                    got += both.box.drain()
            assert got == list(range(len(cancels)))
        finally:
            both.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
