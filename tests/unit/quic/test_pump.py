"""One wake-up delivers a whole batch, whatever its handlers do, and then sends."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable

import pytest

from barrel_p2p.errors import (
    Busy,
    NotConnected,
    NotStarted,
    PeerUnreachable,
    StreamClosed,
)
from barrel_p2p.quic._engine import ffi, lib
from barrel_p2p.quic.pump import Pump, RawConnection, RawStream
from barrel_p2p.quic.settings import EngineSettings
from tests.engines import Driven, Noted, NotedStream, connected, engines, run_until

LOCAL, APPLICATION = 1, 2


def ignore(argument: object) -> None:
    """A callback for nobody."""


def opened_streams(
    near: Driven, far: Driven, count: int = 2
) -> tuple[list[NotedStream], list[NotedStream]]:
    """``count`` two-way streams on a fresh connection, both ends, one byte received."""
    dialled, accepted = connected(near, far)
    ours = [dialled.open() for _ in range(count)]
    for stream in ours:
        stream.write_nowait(b"-")
    run_until(lambda: len(accepted.opened) == count, near, far)
    theirs = sorted(accepted.opened, key=lambda stream: stream.id)
    return ours, theirs


def one_batch(near: Driven, far: Driven) -> None:
    """Send what ``near`` has written, then let ``far`` take all of it in one turn."""
    hand_over(near)
    far.engine.pump.wake()


def hand_over(near: Driven) -> None:
    """Return once all that ``near`` has written is in the other's socket."""

    def gone() -> bool:
        near.engine.pump.flush()
        return near.unsent == 0

    run_until(gone, near)


def test_events_of_one_batch_reach_every_stream_though_one_handler_fails() -> None:
    with engines() as (near, far):
        ours, theirs = opened_streams(near, far)
        failure = ValueError("handler")

        def fail(event: object) -> None:
            raise failure

        theirs[0].react = fail
        for stream in ours:
            stream.write_nowait(b"x")
        one_batch(near, far)
        assert far.errors == [failure]
        assert theirs[1].received == b"-x"
        ours[0].write_nowait(b"y")
        one_batch(near, far)
        assert theirs[0].received == b"-xy"


def test_an_interrupt_in_a_handler_comes_out_after_the_batch() -> None:
    with engines() as (near, far):
        ours, theirs = opened_streams(near, far)

        def interrupt(event: object) -> None:
            raise KeyboardInterrupt

        theirs[0].react = interrupt
        for stream in ours:
            stream.write_nowait(b"x")
        hand_over(near)
        with pytest.raises(KeyboardInterrupt):
            far.engine.pump.wake()
        assert theirs[1].received == b"-x"
        assert far.errors == []


def test_an_engine_goes_on_after_an_interrupt() -> None:
    with engines() as (near, far):
        ours, theirs = opened_streams(near, far)

        def interrupt(event: object) -> None:
            theirs[0].react = lambda event: None
            theirs[0].write_nowait(b"answer")
            raise KeyboardInterrupt

        theirs[0].react = interrupt
        ours[0].write_nowait(b"x")
        hand_over(near)
        with pytest.raises(KeyboardInterrupt):
            far.engine.pump.wake()
        far.run_calls()
        near.engine.pump.wake()
        assert ours[0].received == b"answer"


def test_what_a_handler_writes_leaves_in_the_same_wake_up() -> None:
    with engines() as (near, far):
        ours, theirs = opened_streams(near, far, 1)

        def answer(event: object) -> None:
            theirs[0].write_nowait(b"pong")

        theirs[0].react = answer
        ours[0].write_nowait(b"ping")
        one_batch(near, far)
        assert not far.calls
        near.engine.pump.wake()
        assert ours[0].received == b"pong"


def test_many_writes_schedule_one_flush() -> None:
    with engines() as (near, far):
        ours, theirs = opened_streams(near, far, 1)
        near.run_calls()
        for _ in range(100):
            ours[0].write_nowait(b"x")
        assert len(near.calls) == 1
        run_until(lambda: len(theirs[0].received) == 101, near, far)


def test_a_writer_that_outruns_the_loop_is_sent_without_it() -> None:
    with engines() as (near, far):
        ours, _ = opened_streams(near, far, 1)
        near.run_calls()
        before = near.engine.stats().bytes_out
        while near.engine.stats().bytes_out == before:  # Pacing may hold it back first.
            ours[0].write_nowait(bytes(1024))
        assert len(near.calls) == 1


def test_freeing_the_engine_inside_a_handler_ends_the_batch() -> None:
    with engines() as (near, far):
        ours, theirs = opened_streams(near, far, 3)
        theirs[0].react = lambda event: far.engine.close()
        for stream in ours:
            stream.write_nowait(b"x")
        one_batch(near, far)
        assert [bytes(s.received) for s in theirs] == [b"-x", b"-", b"-"]
        with pytest.raises(NotStarted):
            theirs[1].write_nowait(b"late")
        theirs[1].consumed(1)
        theirs[1].reset_nowait(1)
        theirs[1].stop_sending(1)
        theirs[1].set_priority(1)
        assert theirs[1].queued == 0
        with pytest.raises(PeerUnreachable):
            far.accepted[0].open_raw_stream(False)
        far.engine.pump.wake()
        far.engine.pump.flush()


def test_closing_a_connection_inside_its_own_handler_is_told_to_both_ends() -> None:
    with engines() as (near, far):
        ours, theirs = opened_streams(near, far, 2)
        accepted = far.accepted[0]

        def close(event: object) -> None:
            far.engine.close_connection(accepted.handle, 0x55, "enough")

        theirs[0].react = close
        ours[0].write_nowait(b"x")
        dialled = ours[0].connection
        assert isinstance(dialled, Noted)
        run_until(lambda: dialled.closed and accepted.closed, near, far)
        assert dialled.events[-1] == ("closed", APPLICATION, 0x55)
        assert accepted.events[-1] == ("closed", LOCAL, 0x55)
        assert [s.events[-1] for s in (*ours, *theirs)] == ["released"] * 4


def test_aborting_a_connection_inside_a_handler_silences_its_later_events() -> None:
    with engines() as (near, far):
        ours, theirs = opened_streams(near, far, 2)
        accepted = far.accepted[0]

        def abort_once(event: object) -> None:
            theirs[0].react = lambda event: None
            far.engine.abort_connection(accepted.handle)

        for stream in ours:
            stream.write_nowait(b"x")
        theirs[0].react = abort_once
        one_batch(near, far)
        run_until(lambda: accepted.closed, far)
        assert accepted.events[-1] == ("closed", LOCAL, 0)
        assert far.errors == []
        with pytest.raises(PeerUnreachable):
            theirs[1].write_nowait(b"late")


def test_a_close_is_ours_though_the_peer_has_forgotten_the_connection() -> None:
    """It answers our last data with a stateless reset, which comes before the end."""
    with engines() as (near, far):
        ours, _ = opened_streams(near, far, 1)
        dialled = ours[0].connection
        assert isinstance(dialled, Noted)
        ours[0].write_nowait(bytes(200))
        hand_over(near)
        far.engine.abort_connection(far.accepted[0].handle)
        near.engine.close_connection(dialled.handle, 0x66, "bye")
        run_until(lambda: dialled.closed, far, near)
        assert dialled.events[-1] == ("closed", LOCAL, 0x66)


def test_a_write_beside_the_end_of_its_connection_blames_the_peer() -> None:
    """The end is in the same batch, behind the event whose handler writes."""
    with engines() as (near, far):
        ours, theirs = opened_streams(near, far, 1)
        others, lost = opened_streams(near, far, 1)
        outcomes: list[BaseException] = []

        def write_there(event: object) -> None:
            try:
                lost[0].write_nowait(b"x")
            except PeerUnreachable as error:
                outcomes.append(error)

        theirs[0].react = write_there
        ours[0].write_nowait(b"x")
        hand_over(near)
        near.engine.close_connection(others[0].connection.handle, 1, "")
        near.engine.pump.flush()
        far.engine.pump.wake()
        assert len(outcomes) == 1
        assert lost[0].released


def test_a_refused_connection_object_is_survived_together_with_its_streams() -> None:
    with engines() as (near, far):
        refusal = RuntimeError("no room for another")

        def refuse() -> Noted:
            raise refusal

        far.make_accepted = refuse
        dialled = near.dial(far)
        run_until(lambda: "connected" in dialled.events, near, far)
        stream = dialled.open()
        stream.write_nowait(b"hello")
        run_until(lambda: far.engine.stats().streams == 1, near, far)
        assert far.errors == [refusal]
        far.make_accepted = Noted
        connected(near, far)


def test_a_table_of_another_version_is_refused() -> None:
    table = ffi.new("uint32_t[64]", [99, 7])
    address = int(ffi.cast("uintptr_t", table))
    with pytest.raises(ImportError, match=r"version 99|has 99 .*7; rebuild both"):
        Pump(0, address, ignore, ignore, RawConnection)


def test_a_table_of_another_size_is_refused() -> None:
    real = ffi.cast("uint32_t *", lib.bp_engine_hot())
    table = ffi.new("uint32_t[64]", [real[0], real[1] - 8])
    address = int(ffi.cast("uintptr_t", table))
    with pytest.raises(ImportError, match="rebuild both"):
        Pump(0, address, ignore, ignore, RawConnection)


def test_a_connection_that_was_never_dialled_refuses_everything() -> None:
    lone = RawConnection()
    assert (lone.closed, lone.handle, lone.unsent) == (False, 0, 0)
    with pytest.raises(PeerUnreachable):
        lone.open_raw_stream(False)
    with pytest.raises(TypeError):
        RawStream(None, 1, 0)  # type: ignore[arg-type]
    with pytest.raises(NotConnected):
        RawStream(lone, 1, 0)


def test_a_stale_stream_handle_does_not_reach_a_newer_stream() -> None:
    with engines() as (near, far):
        ours, theirs = opened_streams(near, far, 1)
        theirs[0].write_nowait(b"", fin=True)
        ours[0].write_nowait(b"", fin=True)
        run_until(lambda: ours[0].released and theirs[0].released, near, far)
        old = ours[0]
        dialled = old.connection
        assert isinstance(dialled, Noted)
        fresh = [dialled.open() for _ in range(8)]
        assert any(s.handle & 0xFFFFFFFF == old.handle & 0xFFFFFFFF for s in fresh)
        with pytest.raises(StreamClosed):
            old.write_nowait(b"x")
        old.consumed(1)
        old.reset_nowait(1)
        assert sum(s.queued for s in fresh) == 0


def test_a_dial_that_is_aborted_at_once_leaves_nothing_in_the_engine() -> None:
    with engines() as (near, far):
        dialled = near.dial(far)
        near.engine.abort_connection(dialled.handle)
        run_until(lambda: dialled.closed, near)
        assert dialled.events == [("closed", LOCAL, 0)]
        stats = near.engine.stats()
        assert (stats.connections, stats.half_open) == (0, 0)


def test_a_full_send_queue_refuses_the_whole_write() -> None:
    settings = EngineSettings(send_high=4096, send_low=0, send_max=65_536)
    with engines(settings=settings) as (near, far):
        ours, theirs = opened_streams(near, far, 1)
        ours[0].write_nowait(bytes(60_000))
        queued = ours[0].queued
        with pytest.raises(Busy) as raised:
            ours[0].write_nowait(bytes(65_537))
        assert ours[0].queued == queued
        assert "65537 bytes" in str(raised.value)
        assert raised.value.hint is not None
        run_until(lambda: len(theirs[0].received) == 60_001, near, far)


def test_an_engine_that_is_closed_refuses_every_call_and_closes_twice() -> None:
    with engines(1) as (one,):
        one.engine.close()
        one.engine.close()
        calls: list[Callable[[], object]] = [
            one.engine.address,
            one.engine.stats,
            lambda: one.engine.bind("127.0.0.1", 0),
            lambda: one.engine.certificate(1),
            lambda: one.engine.dial(Noted(), "127.0.0.1", 1),
            lambda: one.engine.fd,
        ]
        for call in calls:
            with pytest.raises(NotStarted):
                call()


def test_an_engine_that_nobody_closed_says_so_and_is_freed() -> None:
    forgotten = [Driven()]
    fd = forgotten[0].engine.fd
    forgotten.clear()
    with pytest.warns(ResourceWarning, match="unclosed engine"):
        gc.collect()
    with pytest.raises(OSError):
        os.fstat(fd)
