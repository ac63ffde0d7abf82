"""A peer's one-way stream becomes a role and frames, however it is cut or held up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from barrel_p2p.carrier.inbound import FrameSink, InboundStream
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.errors import WireError
from barrel_p2p.quic.settings import EngineSettings
from barrel_p2p.wire.frames import Frame, encode
from tests.endpoints import Pair, drained, eventually, pair, stream_pair, within

FRAME_BYTES_MAX = 65_536


class Owner:
    """Writes down what a sink is told, and does what a test asks on a frame."""

    def __init__(self) -> None:
        self.streams: list[InboundStream] = []
        self.frames: list[Frame] = []
        self.ends: list[bool] = []
        self.faults: list[str] = []
        self.roles = {3}
        self.on_frame: Callable[[InboundStream, Frame], None] | None = None

    def role_announced(self, stream: InboundStream) -> None:
        self.streams.append(stream)
        if stream.role not in self.roles:
            raise WireError(f"role {stream.role} is not expected")

    def frame_received(self, stream: InboundStream, frame: Frame) -> None:
        self.frames.append(frame)
        if self.on_frame is not None:
            self.on_frame(stream, frame)

    def stream_over(self, stream: InboundStream, clean: bool) -> None:
        self.ends.append(clean)

    def stream_broken(
        self, stream: InboundStream, error: WireError | MemoryError
    ) -> None:
        self.faults.append(str(error))


@asynccontextmanager
async def sinking(
    settings: EngineSettings | None = None,
) -> AsyncIterator[tuple[Pair, Owner]]:
    async with pair(acceptor_settings=settings) as both:
        owner = Owner()
        sink = FrameSink()
        sink.owner = owner
        both.accepted.sink = sink
        both.accepted.frame_bytes_max = FRAME_BYTES_MAX
        both.accepted.peer = "b@h"
        yield both, owner


def frame(number: int) -> bytes:
    return encode(40, 0, number.to_bytes(2))


def numbers(owner: Owner) -> list[int]:
    return [int.from_bytes(f.body) for f in owner.frames]


@pytest.mark.every_loop
async def test_a_role_byte_and_frames_arrive_in_order() -> None:
    async with sinking() as (both, owner):
        stream = both.dialled.open_stream(uni=True)
        await stream.write(b"\3" + b"".join(frame(i) for i in range(1_000)))
        stream.finish()
        await eventually(lambda: owner.ends == [True])
        assert numbers(owner) == list(range(1_000))
        assert [s.role for s in owner.streams] == [3]
        assert owner.faults == []


async def test_frames_torn_at_every_byte_arrive_whole() -> None:
    async with sinking() as (both, owner):
        stream = both.dialled.open_stream(uni=True)
        for byte in b"\3" + frame(1) + frame(2):
            sent = both.accepted.stats().bytes_received
            await stream.write(bytes([byte]))
            await eventually(
                lambda sent=sent: both.accepted.stats().bytes_received > sent  # type: ignore[misc]
            )
        await eventually(lambda: numbers(owner) == [1, 2])


async def test_user_streams_and_our_own_one_way_streams_stay_what_they_are() -> None:
    async with sinking() as (both, owner):
        _, far = await stream_pair(both)
        assert type(far) is Stream
        ours = both.accepted.open_stream(uni=True)
        await ours.write(b"to the dialler")
        ours.finish()
        theirs = await within(both.dialled.accept_stream())
        assert await within(drained(theirs)) == b"to the dialler"
        assert owner.streams == []


async def test_a_stream_that_waits_hands_over_nothing_until_it_goes_on() -> None:
    async with sinking() as (both, owner):
        first = frame(1)

        def wait(stream: InboundStream, got: Frame) -> None:
            if got.body == b"\0\1":
                stream.wait()

        owner.on_frame = wait
        stream = both.dialled.open_stream(uni=True)
        await stream.write(b"\3" + first + frame(2) + frame(3))
        stream.finish()
        await eventually(lambda: numbers(owner) == [1])
        other = both.dialled.open_stream(uni=True)
        await other.write(b"\3" + frame(9))
        await eventually(lambda: 9 in numbers(owner))
        assert numbers(owner) == [1, 9]
        assert owner.ends == []
        owner.streams[0].go_on()
        assert numbers(owner) == [1, 9, 2, 3]
        assert owner.ends == [True]


async def test_a_waiting_stream_stops_its_sender_at_the_window() -> None:
    settings = EngineSettings(stream_window=65_536, stream_window_first=65_536)
    async with sinking(settings) as (both, owner):
        owner.on_frame = lambda stream, got: stream.wait()
        stream = both.dialled.open_stream(uni=True)
        body = bytes(16_000)
        await stream.write(b"\3" + encode(40, 0, body) * 64)
        await eventually(lambda: len(owner.frames) == 1)
        await eventually(lambda: both.dialled.in_flight == 0 and stream.queued > 0)
        left = stream.queued
        assert left > 64 * 16_000 - 2 * 65_536
        owner.on_frame = None
        owner.streams[0].go_on()
        await eventually(lambda: len(owner.frames) == 64)


async def test_a_refused_role_breaks_the_stream_and_drops_what_follows() -> None:
    async with sinking() as (both, owner):
        stream = both.dialled.open_stream(uni=True)
        await stream.write(b"\7" + frame(1))
        await eventually(lambda: bool(owner.faults))
        await stream.write(frame(2))
        stream.finish()
        other = both.dialled.open_stream(uni=True)
        await other.write(b"\3" + frame(9))
        await eventually(lambda: numbers(owner) == [9])
        assert owner.faults == ["role 7 is not expected"]
        assert owner.ends == []


async def test_an_oversized_frame_is_refused_from_its_length() -> None:
    async with sinking() as (both, owner):
        stream = both.dialled.open_stream(uni=True)
        await stream.write(b"\3" + frame(1) + (FRAME_BYTES_MAX + 1).to_bytes(4))
        await eventually(lambda: bool(owner.faults))
        assert numbers(owner) == [1]
        assert "frame of 65537 bytes from b@h" in owner.faults[0]


async def test_a_stream_that_ends_inside_a_frame_is_broken() -> None:
    async with sinking() as (both, owner):
        stream = both.dialled.open_stream(uni=True)
        await stream.write(b"\3" + frame(1) + frame(2)[:-1])
        stream.finish()
        await eventually(lambda: bool(owner.faults))
        assert numbers(owner) == [1]
        assert owner.ends == []


async def test_a_stream_that_ends_before_its_role_is_over() -> None:
    async with sinking() as (both, owner):
        both.dialled.open_stream(uni=True).finish()
        await eventually(lambda: owner.ends == [True])
        assert owner.streams == []


async def test_a_reset_stream_is_over_and_not_clean() -> None:
    async with sinking() as (both, owner):
        stream = both.dialled.open_stream(uni=True)
        await stream.write(b"\3" + frame(1))
        await eventually(lambda: numbers(owner) == [1])
        stream.reset(5)
        await eventually(lambda: owner.ends == [False])


async def test_a_frame_that_breaks_a_rule_ends_the_use_of_its_stream_only() -> None:
    async with sinking() as (both, owner):

        def refuse(stream: InboundStream, got: Frame) -> None:
            if got.body == b"\0\1":
                raise WireError("no such thing")

        owner.on_frame = refuse
        stream = both.dialled.open_stream(uni=True)
        await stream.write(b"\3" + frame(1) + frame(2))
        other = both.dialled.open_stream(uni=True)
        await other.write(b"\3" + frame(9))
        await eventually(lambda: 9 in numbers(owner))
        assert numbers(owner) == [1, 9]
        assert owner.faults == ["no such thing"]


@pytest.mark.parametrize("where", ["role", "frame"])
async def test_a_handler_that_fails_is_reported_and_loses_one_frame_at_most(
    where: str,
) -> None:
    async with sinking() as (both, owner):
        loop_errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: loop_errors.append(context["exception"])
        )

        def fail(stream: InboundStream, got: Frame) -> None:
            if got.body == b"\0\1":
                raise RuntimeError("a bug")

        owner.on_frame = fail
        if where == "role":
            owner.roles = {3, 4}
            owner.streams = None  # type: ignore[assignment]
        stream = both.dialled.open_stream(uni=True)
        await stream.write(b"\3" + frame(1) + frame(2))
        await eventually(lambda: bool(loop_errors))
        if where == "frame":
            await eventually(lambda: numbers(owner) == [1, 2])
            assert owner.faults == []
        else:
            # Nobody knows what the stream is for, so nothing of it counts.
            assert numbers(owner) == []
            assert owner.faults == ["a stream of role 3 was not taken"]


async def test_a_want_of_memory_breaks_the_stream_because_a_frame_is_lost() -> None:
    async with sinking() as (both, owner):

        def fail(stream: InboundStream, got: Frame) -> None:
            raise MemoryError("no memory for a value")

        owner.on_frame = fail
        stream = both.dialled.open_stream(uni=True)
        await stream.write(b"\3" + frame(1) + frame(2))
        await eventually(lambda: owner.faults == ["no memory for a value"])
        assert numbers(owner) == [1]


async def test_a_sink_that_belongs_to_nobody_refuses_every_role() -> None:
    async with pair() as both:
        both.accepted.sink = FrameSink()
        stream = both.dialled.open_stream(uni=True)
        await stream.write(b"\3" + frame(1))
        other = both.dialled.open_stream()
        await other.write(b"x")
        await within(both.accepted.accept_stream())
        assert not both.accepted.closed


async def test_a_large_transfer_is_credited_as_it_is_split() -> None:
    async with sinking() as (both, owner):
        stream = both.dialled.open_stream(uni=True)
        await stream.write(b"\3")
        body = bytes(60_000)
        for _ in range(300):  # 18 MB through a window of 8
            await within(stream.write(encode(40, 0, body)))
        stream.finish()
        await eventually(lambda: owner.ends == [True])
        assert len(owner.frames) == 300
