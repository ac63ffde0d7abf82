"""Frames reach the handler of their kind; what a handler does wrong stays with it."""

from __future__ import annotations

import logging
from typing import cast

import pytest

from barrel_p2p.carrier.channel import Channel
from barrel_p2p.carrier.complaints import PEERS_MAX, Complaints
from barrel_p2p.carrier.connection import Closed, ClosedBy
from barrel_p2p.carrier.dispatcher import Dispatcher
from barrel_p2p.carrier.reasons import reason_of
from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.errors import Conflict, WireError
from barrel_p2p.wire import kinds
from barrel_p2p.wire.frames import Frame
from tests.channel_nodes import CONTROL_KIND, connected, pair_of_nodes
from tests.endpoints import eventually


class Named:
    """All that a dispatcher asks of a channel."""

    name = "b@h"


CHANNEL = cast("Channel", Named())


def test_a_kind_has_one_handler() -> None:
    dispatcher = Dispatcher()
    dispatcher.register(
        kinds.MEMBERSHIP, lambda channel, frame: None, role=StreamRole.GOSSIP
    )
    for taken in (40, [80, 33], kinds.Kind.SESSION, kinds.Kind.BYE):
        with pytest.raises(Conflict):
            dispatcher.register(
                taken, lambda channel, frame: None, role=StreamRole.GOSSIP
            )
    # Nothing of the refused list was added.
    dispatcher.register(80, lambda channel, frame: None, role=StreamRole.DATA)


def test_a_frame_on_a_stream_of_another_role_is_refused() -> None:
    dispatcher = Dispatcher()
    got: list[Frame] = []
    dispatcher.register(40, lambda c, frame: got.append(frame), role=StreamRole.GOSSIP)
    dispatcher.dispatch(CHANNEL, StreamRole.GOSSIP, Frame(40, 0, b"x"))
    with pytest.raises(WireError, match="b@h on a stream of role 3"):
        dispatcher.dispatch(CHANNEL, StreamRole.DATA, Frame(40, 0, b"y"))
    assert got == [Frame(40, 0, b"x")]


def test_a_rule_that_a_handler_finds_broken_is_the_channel_s_affair() -> None:
    def refuse(channel: Channel, frame: Frame) -> None:
        raise WireError("no such message")

    dispatcher = Dispatcher()
    dispatcher.register(40, refuse, role=StreamRole.GOSSIP)
    with pytest.raises(WireError, match="no such message"):
        dispatcher.dispatch(CHANNEL, StreamRole.GOSSIP, Frame(40, 0, b""))
    assert dispatcher.failed == 0


async def test_a_handler_that_fails_costs_its_frame_and_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with pair_of_nodes() as (a, b):

        def fail(channel: Channel, frame: Frame) -> None:
            raise ZeroDivisionError

        b.channels.dispatcher.register(41, fail, role=StreamRole.CONTROL)
        near, _ = await connected(a, b)
        for _ in range(50):
            near.send_control(41, b"")
        near.send_control(CONTROL_KIND, b"after")
        await eventually(lambda: bool(b.frames))
        assert b.channels.dispatcher.failed == 50
        assert near.is_up
        lines = [r for r in caplog.records if "frame kind 41" in r.getMessage()]
        assert 1 <= len(lines) <= 3
        assert CONTROL_KIND != 41


def test_a_peer_gets_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    now = [0]
    complaints = Complaints(logging.getLogger("test"), now_ms=lambda: now[0])
    for _ in range(100):
        complaints.add("b@h", "again")
    complaints.add("c@h", "\x1b[2J\n")
    now[0] = 1_000
    complaints.add("b@h", "later")
    assert [record.getMessage() for record in caplog.records] == [
        "b@h: again",
        "c@h: \\x1b[2J\\n",
        "b@h: later (99 more left out)",
    ]
    assert complaints.total == 102


def test_peers_that_are_remembered_are_bounded() -> None:
    complaints = Complaints(logging.getLogger("test"), now_ms=lambda: 0)
    for number in range(10 * PEERS_MAX):
        complaints.add(f"n{number}@h", "x")
    assert len(complaints._last) <= PEERS_MAX


@pytest.mark.parametrize(
    ("closed", "reason"),
    [
        (Closed(ClosedBy.APPLICATION, 0), "disconnect"),
        (Closed(ClosedBy.APPLICATION, 0x101), "protocol_error"),
        (Closed(ClosedBy.APPLICATION, 0x102), "busy"),
        (Closed(ClosedBy.APPLICATION, 77), "disconnect"),
        (Closed(ClosedBy.LOCAL, 0), "disconnect"),
        (Closed(ClosedBy.LOCAL, 0x102), "busy"),
        (Closed(ClosedBy.LOCAL, 1), "transport_error"),
        (Closed(ClosedBy.TRANSPORT, 1), "transport_error"),
        (Closed(ClosedBy.RESET, 0x41E), "stateless_reset"),
        (Closed(ClosedBy.IDLE, 0), "idle_timeout"),
        (Closed(ClosedBy.UNREACHABLE, 0), "unreachable"),
        (Closed(ClosedBy.HANDSHAKE, 0), "unreachable"),
    ],
)
def test_every_end_of_a_connection_has_a_reason(closed: Closed, reason: str) -> None:
    assert reason_of(closed) == reason
