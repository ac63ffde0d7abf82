"""An endpoint survives its handlers, ends in words, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from barrel_p2p.carrier.connection import Closed, ClosedBy
from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.errors import NotStarted, PeerUnreachable
from barrel_p2p.quic.settings import EngineSettings
from tests.endpoints import (
    HOST,
    certificate,
    drained,
    echo,
    endpoint,
    eventually,
    pair,
    stream_pair,
    within,
)
from tests.tools import rounds
from tests.tree import ROOT

LOOPS = [uvloop.new_event_loop, asyncio.SelectorEventLoop]

CYCLES = """
import asyncio, gc, os, sys, tempfile
from pathlib import Path
import uvloop
from barrel_p2p.auth.certs import ensure_certificate
from barrel_p2p.carrier.endpoint import Endpoint

async def once(files):
    near = await Endpoint.open("127.0.0.1", 0, certificate=files)
    far = await Endpoint.open("127.0.0.1", 0, certificate=files)
    async with asyncio.timeout(20):
        dialled, accepted = await asyncio.gather(
            near.connect(*far.address), far.accept())
        stream = dialled.open_stream()
        await stream.write(b"ping")
        other = await accepted.accept_stream()
        assert await other.readexactly(4) == b"ping"
    accepting = asyncio.create_task(far.accept())
    reading = asyncio.create_task(stream.read())
    await asyncio.sleep(0)
    await far.close()
    await near.close()
    await asyncio.gather(accepting, reading, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}, asyncio.all_tasks()

async def main(count):
    asyncio.get_running_loop().slow_callback_duration = 60  # No fault of ours.
    with tempfile.TemporaryDirectory() as directory:
        files = ensure_certificate(Path(directory))
        await once(files)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(count):
            await once(files)
        assert len(os.listdir("/proc/self/fd")) == before
        await asyncio.sleep(0)
        gc.collect()
        left = [o for o in gc.get_objects() if isinstance(o, Endpoint)]
        assert len(left) <= 2, "more than the loop may keep from its last turns"

factory = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}
with asyncio.Runner(loop_factory=factory[sys.argv[1]]) as runner:
    runner.run(main(int(sys.argv[2])))
"""


@asynccontextmanager
async def reports() -> AsyncIterator[list[BaseException]]:
    """The exceptions that reach the loop's exception handler."""
    seen: list[BaseException] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda loop, context: seen.append(context["exception"]))
    try:
        yield seen
    finally:
        loop.set_exception_handler(before)


@pytest.mark.every_loop
async def test_a_failing_handler_is_reported_and_everything_goes_on() -> None:
    failure = ValueError("in a handler")

    def fail(*_: object) -> None:
        raise failure

    async with reports() as seen, pair() as both:
        near, far = await stream_pair(both)
        far.on_data = fail
        await near.write(b"one")
        await eventually(lambda: seen == [failure])
        far.on_data = None
        await near.write(b"two")
        assert await within(far.readexactly(3)) == b"two"
        both.accepted.on_stream = fail
        await both.dialled.open_stream().write(b"x")
        await eventually(lambda: seen == [failure, failure])
        both.accepted.on_stream = None
        await stream_pair(both)


@pytest.mark.parametrize("new_loop", LOOPS, ids=["uvloop", "asyncio"])
def test_an_interrupt_in_a_handler_comes_out_of_the_loop(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    got: list[bytes] = []

    def interrupt(chunk: bytes, fin: bool) -> None:
        got.append(chunk)
        if len(got) == 1:
            raise KeyboardInterrupt

    loop = new_loop()
    manager = pair()
    both = loop.run_until_complete(manager.__aenter__())
    near, far = loop.run_until_complete(stream_pair(both))
    far.on_data = interrupt

    async def send(data: bytes) -> None:
        await near.write(data)
        await within(both.accepted.wait_closed())

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(send(b"first"))
    sending = [task for task in asyncio.all_tasks(loop) if not task.done()]
    for task in sending:
        task.cancel()

    async def go_on() -> None:
        await near.write(b"second")
        await eventually(lambda: got == [b"first", b"second"])
        await asyncio.gather(*sending, return_exceptions=True)

    loop.run_until_complete(go_on())
    loop.run_until_complete(manager.__aexit__(None, None, None))
    loop.close()


@pytest.mark.every_loop
async def test_an_endpoint_may_be_closed_by_its_own_handler() -> None:
    async with reports() as seen, pair() as both:
        near, far = await stream_pair(both)
        closing: list[asyncio.Task[None]] = []

        def close(chunk: bytes, fin: bool) -> None:
            closing.append(asyncio.ensure_future(both.acceptor.close()))

        far.on_data = close
        await near.write(b"go away")
        end = await within(both.dialled.wait_closed())
        assert end == Closed(ClosedBy.APPLICATION, 0)
        await within(asyncio.gather(*closing))
        assert seen == []
        with pytest.raises(NotStarted):
            await both.acceptor.accept()


async def test_a_connection_may_be_closed_by_its_own_handler() -> None:
    async with reports() as seen, pair() as both:
        near, far = await stream_pair(both)
        far.on_data = lambda chunk, fin: both.accepted.close(9)
        await near.write(b"go away")
        assert await within(both.dialled.wait_closed()) == Closed(
            ClosedBy.APPLICATION, 9
        )
        assert await within(both.accepted.wait_closed()) == Closed(ClosedBy.LOCAL, 9)
        assert seen == []


@pytest.mark.every_loop
async def test_a_graceful_close_delivers_everything_that_was_written() -> None:
    data = os.urandom(3_000_000)
    async with pair() as both:
        near, far = await stream_pair(both)
        reading = asyncio.create_task(drained(far))
        await near.write(data)
        near.finish()
        await within(both.dialler.close(drain=15))
        assert await within(reading) == data
        assert await within(both.accepted.wait_closed()) == Closed(
            ClosedBy.APPLICATION, 0
        )


async def test_a_close_whose_drain_runs_out_still_tells_the_peer() -> None:
    """The peer never reads, so nothing can drain; it learns of the end all the same."""
    async with pair(EngineSettings(idle_timeout_ms=60_000)) as both:
        near, _ = await stream_pair(both)
        near.write_nowait(bytes(2_000_000))
        await within(both.dialler.close(drain=0.05))
        assert await within(both.accepted.wait_closed()) == Closed(
            ClosedBy.APPLICATION, 0
        )
        assert both.dialled.how_closed is not None


async def test_a_cancelled_close_frees_everything_at_once() -> None:
    async with pair(EngineSettings(idle_timeout_ms=60_000)) as both:
        near, _ = await stream_pair(both)
        near.write_nowait(bytes(2_000_000))
        address = both.dialler.address
        closing = asyncio.create_task(both.dialler.close(drain=60))
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(closing)
        assert await within(both.accepted.wait_closed()) == Closed(
            ClosedBy.APPLICATION, 0
        )
        async with endpoint(port=address[1]):
            pass


async def test_closing_twice_at_once_waits_for_the_one_close() -> None:
    async with pair() as both:
        await within(asyncio.gather(*(both.dialler.close(drain=15) for _ in range(3))))
        with pytest.raises(NotStarted):
            both.dialler.stats()
        await both.dialler.close()


async def test_a_close_does_not_wait_for_an_abandoned_dial() -> None:
    patient = EngineSettings(handshake_timeout_ms=600_000)
    async with endpoint() as mute, endpoint(patient) as one:
        address = mute.address
        asyncio.get_running_loop().remove_reader(mute._fd)  # It hears nothing.
        dial = asyncio.create_task(one.connect(*address))
        await eventually(lambda: bool(one.connections))
        await within(one.close(drain=600))
        with pytest.raises(PeerUnreachable):
            await within(dial)


@pytest.mark.every_loop
async def test_whoever_waits_on_a_connection_learns_that_it_ended() -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        stuck = both.dialled.open_stream()
        waiting = [
            asyncio.ensure_future(work)
            for work in (
                near.read(),
                far.readexactly(1),
                _write_for_ever(stuck),
                both.dialled.accept_stream(),
                both.dialled.accept_stream(),
                both.accepted.accept_stream(),
            )
        ]
        # The peer must have heard of the stream: what is queued here may still be here.
        await eventually(lambda: stuck.blocked and waiting[-1].done())
        both.accepted.close(4)
        for work in waiting[:-1]:
            with pytest.raises(PeerUnreachable):
                await within(work)
        opened = await within(waiting[-1])
        assert isinstance(opened, Stream)
        assert near.released
        assert far.released


@pytest.mark.every_loop
async def test_nobody_complains_about_errors_that_only_cancelled_tasks_waited_for() -> (
    None
):
    async with reports() as seen:
        async with pair() as both:
            near, _ = await stream_pair(both)
            near.write_nowait(bytes(3_000_000))
            waiting = [
                asyncio.ensure_future(work)
                for work in (
                    near.wait_writable(),
                    near.read(),
                    both.dialled.accept_stream(),
                    both.dialled.wait_closed(),
                )
            ]
            await asyncio.sleep(0)
            for work in waiting:
                work.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            both.accepted.close(1)
            await within(both.dialled.wait_closed())
        del near, both, waiting, work
        gc.collect()
        assert seen == []


async def test_a_peer_that_connects_and_closes_in_one_breath_is_no_error() -> None:
    """Both its last handshake packet and its close arrive in one batch."""
    async with reports() as seen, endpoint() as near, endpoint() as far:
        loop = asyncio.get_running_loop()
        for _ in range(20):
            dialled = await within(near.connect(*far.address))
            loop.remove_reader(far._fd)
            dialled.close(6)
            assert near._engine is not None
            near._engine.pump.flush()
            assert far._engine is not None
            loop.add_reader(far._fd, far._engine.pump.wake)
            await within(dialled.wait_closed())
        await eventually(lambda: far.connections == frozenset())
        assert seen == []


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_starting_and_stopping_leaves_no_task_no_descriptor_and_no_warning(
    loop: str,
) -> None:
    count = rounds(25, whole=200)
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", CYCLES]
    done = subprocess.run(
        [*command, loop, str(count)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.every_loop
async def test_an_endpoint_is_a_context_manager() -> None:
    one = await Endpoint.open(HOST, 0, certificate=certificate())
    async with one as same, endpoint() as far:
        assert same is one
        accepting = asyncio.create_task(far.accept())
        connection = await within(one.connect(*far.address))
        stream = connection.open_stream()
        await stream.write(b"text")
        stream.finish()
        accepted = await within(accepting)
        answering = asyncio.create_task(echo(await within(accepted.accept_stream())))
        assert await within(drained(stream)) == b"text"
        await within(answering)
    with pytest.raises(NotStarted):
        _ = one.address


async def _write_for_ever(stream: Stream) -> None:
    while True:
        await stream.write(bytes(100_000))
