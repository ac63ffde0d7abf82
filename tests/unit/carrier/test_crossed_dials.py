"""One channel a peer: crossed dials, redials and new lives settle on one."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable

import pytest

from barrel_p2p.carrier.channel import Channel
from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.errors import PeerUnreachable
from barrel_p2p.wire.frames import encode
from barrel_p2p.wire.kinds import Kind
from tests.channel_nodes import (
    DATA_KIND,
    ChannelNode,
    pair_of_nodes,
)
from tests.endpoints import HOST, eventually, within
from tests.tools import rounds


async def settled(a: ChannelNode, b: ChannelNode) -> tuple[Channel, Channel]:
    """The two ends of the only connection that is left between the nodes."""
    await eventually(
        lambda: (
            sum(c.is_up for c in a.endpoint.connections) == 1
            and sum(c.is_up for c in b.endpoint.connections) == 1
        )
    )
    near, far = a.channels.get(b.name), b.channels.get(a.name)
    assert near is not None
    assert far is not None
    return near, far


async def test_crossed_dials_settle_on_that_of_the_smaller_name() -> None:
    """Both nodes dial at once, again and again: one channel, one NodeUp each."""
    async with pair_of_nodes() as (a, b):
        for turn in range(rounds(100, whole=1_000)):
            dials = [a.channels.connect(b.ref), b.channels.connect(a.ref)]
            if turn % 2:
                dials.reverse()
            await within(asyncio.gather(*dials))
            near, far = await settled(a, b)
            assert near.dialled
            assert not far.dialled
            assert a.events == [NodeUp("b@h")]
            assert b.events == [NodeUp("a@h")]
            near.open_data_stream(0).write_nowait(encode(DATA_KIND, 0, b"there"))
            far.open_data_stream(0).write_nowait(encode(DATA_KIND, 0, b"back"))
            await eventually(lambda: bool(a.frames and b.frames))
            assert a.channels.disconnect("b@h")
            await eventually(lambda: "a@h" not in b.channels.nodes())
            for one in (a, b):
                one.events.clear()
                one.frames.clear()


async def test_dials_that_cross_at_any_distance_end_with_one_channel() -> None:
    """One dial starts a little after the other, at every stage of its handshake."""
    async with pair_of_nodes() as (a, b):
        first, second = a, b
        for turn in range(rounds(40, whole=200)):
            first, second = second, first
            one = asyncio.ensure_future(first.channels.connect(second.ref))
            for _ in range(turn // 2):
                await asyncio.sleep(0)  # not synchronisation: the distance
            other = asyncio.ensure_future(second.channels.connect(first.ref))
            await within(asyncio.gather(one, other))
            await settled(a, b)
            assert [e for e in a.events if isinstance(e, NodeDown)] == []
            assert [e for e in b.events if isinstance(e, NodeDown)] == []
            assert (a.ups, b.ups) == (1, 1)
            assert first.channels.disconnect(second.name)
            await eventually(lambda: not a.channels.nodes() and not b.channels.nodes())
            a.events.clear()
            b.events.clear()


async def test_a_dial_into_nothing_does_not_refuse_the_one_that_works() -> None:
    """The smaller name cannot reach the other, as behind a firewall; it is reached."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind((HOST, 0))
        async with pair_of_nodes() as (a, b):
            nowhere = f"b@h={HOST}:{deaf.getsockname()[1]}"
            waiting = asyncio.ensure_future(a.channels.connect(nowhere))
            await eventually(lambda: bool(a.endpoint.connections))
            far = await within(b.channels.connect(a.ref), seconds=3.0)
            near = await within(waiting, seconds=3.0)
            assert far.dialled
            assert not near.dialled
            await settled(a, b)
            assert (a.events, b.events) == ([NodeUp("b@h")], [NodeUp("a@h")])


def hold_sessions(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Have diallers keep their SESSION back; each is said by calling what is listed."""
    held: list[Callable[[], None]] = []
    say = Channel._say

    def say_later(channel: Channel, role: StreamRole, kind: int, body: bytes) -> None:
        if kind == Kind.SESSION and channel.dialled:
            held.append(lambda: say(channel, role, kind, body))
        else:
            say(channel, role, kind, body)

    monkeypatch.setattr(Channel, "_say", say_later)
    return held


async def connect_without_a_dial(
    a: ChannelNode,
    b: ChannelNode,
    dial: asyncio.Future[Channel],
    *,
    then: Callable[[], None],
) -> None:
    """Node a wants the channel that b is opening: it gets that one, after ``then``."""
    other = asyncio.ensure_future(a.channels.connect(b.ref))
    with pytest.raises(TimeoutError):  # Time for the dial that must not happen.
        await asyncio.wait_for(asyncio.shield(other), 0.3)
    assert len(a.endpoint.connections) == 1
    then()
    near, far = await within(other), await within(dial)
    assert (near.dialled, far.dialled) == (False, True)
    assert (a.events, b.events) == ([NodeUp("b@h")], [NodeUp("a@h")])


async def test_who_has_said_ok_waits_for_the_session_and_does_not_dial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A dial between OK and SESSION would take the place of a channel in use."""
    held = hold_sessions(monkeypatch)
    async with pair_of_nodes() as (a, b):
        dial = asyncio.ensure_future(b.channels.connect(a.ref))
        await eventually(lambda: bool(held))
        await connect_without_a_dial(a, b, dial, then=held.pop())


async def test_who_stores_the_pin_of_a_peer_it_takes_does_not_dial_it_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk may take long between the decision to say OK and the OK itself."""
    stored = threading.Event()
    async with pair_of_nodes() as (a, b):
        pin, begun = a.trust.pin, threading.Event()

        def pin_later(name: str, key: bytes) -> None:
            begun.set()
            assert stored.wait(10)
            pin(name, key)

        monkeypatch.setattr(a.trust, "pin", pin_later)
        dial = asyncio.ensure_future(b.channels.connect(a.ref))
        await eventually(begun.is_set)
        await connect_without_a_dial(a, b, dial, then=stored.set)


async def test_a_session_that_never_comes_leaves_the_way_to_a_dial_of_our_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The peer's connection dies between OK and SESSION; whoever waits gets there."""
    held = hold_sessions(monkeypatch)
    async with pair_of_nodes() as (a, b):
        dial = asyncio.ensure_future(b.channels.connect(a.ref))
        await eventually(lambda: bool(held))
        other = asyncio.ensure_future(a.channels.connect(b.ref))
        (first,) = b.endpoint.connections
        held.clear()
        first.close(0, "changed its mind")
        with pytest.raises(PeerUnreachable):
            await within(dial)
        await eventually(lambda: bool(held))
        held.pop()()
        near, far = await within(other), await within(b.channels.connect(a.ref))
        assert (near.dialled, far.dialled) == (True, False)
        assert (a.events, b.events) == ([NodeUp("b@h")], [NodeUp("a@h")])
