"""Two nodes get a channel, use it, and are told once of each change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from barrel_p2p.carrier.channel import Channel
from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.errors import (
    Conflict,
    InvalidValue,
    NotConnected,
    NotStarted,
    PeerUnreachable,
    RingSizeMismatch,
    StreamReset,
)
from barrel_p2p.quic.settings import EngineSettings
from barrel_p2p.wire.frames import Frame, encode
from tests.channel_nodes import (
    CONTROL_KIND,
    DATA_KIND,
    GOSSIP_KIND,
    connected,
    node,
    pair_of_nodes,
)
from tests.endpoints import HOST6, drained, eventually, within
from tests.tools import require_ipv6


@pytest.mark.every_loop
async def test_two_nodes_connect_with_proof_of_identity_and_exchange_frames() -> None:
    """CAR-04, QUI-17."""
    async with pair_of_nodes() as (a, b):
        near, far = await connected(a, b)
        near.send_control(CONTROL_KIND, b"control")
        near.send_gossip(GOSSIP_KIND, b"gossip")
        near.open_data_stream(0).write_nowait(encode(DATA_KIND, 0, b"data"))
        far.open_data_stream(7).write_nowait(encode(DATA_KIND, 0, b"back"))
        await eventually(lambda: len(b.frames) == 3 and len(a.frames) == 1)
        assert sorted(b.frames, key=lambda f: f[1].kind) == [
            ("a@h", Frame(DATA_KIND, 0, b"data")),
            ("a@h", Frame(GOSSIP_KIND, 0, b"gossip")),
            ("a@h", Frame(CONTROL_KIND, 0, b"control")),
        ]
        assert a.frames == [("b@h", Frame(DATA_KIND, 0, b"back"))]
        assert (a.events, b.events) == ([NodeUp("b@h")], [NodeUp("a@h")])
        assert (a.channels.nodes(), b.channels.nodes()) == (["b@h"], ["a@h"])
        assert near.dialled
        assert not far.dialled
        assert near.identity.key == b.public_key
        assert far.identity.key == a.public_key
        assert far.session.package == "0.1.0"
        assert (near.creation, near.up_since > 0) == (7, True)


async def test_nodes_connect_over_ipv6() -> None:
    require_ipv6()
    async with pair_of_nodes(host=HOST6) as (a, b):
        near, far = await connected(a, b)
        assert near.address == b.endpoint.address
        assert far.address == a.endpoint.address


@pytest.mark.every_loop
async def test_a_peer_hears_of_a_disconnect_within_a_second() -> None:
    async with pair_of_nodes() as (a, b):
        for _ in range(3):
            near, _ = await connected(a, b)
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            assert a.channels.disconnect("b@h")
            assert not near.is_up
            assert a.channels.get("b@h") is None
            await eventually(lambda: not b.channels.nodes())
            assert loop.time() - began_s < 1.0
            assert not a.channels.disconnect("b@h")
        once = [NodeUp("b@h"), NodeDown("b@h", "disconnect")]
        assert a.events == once * 3
        assert b.events == [NodeUp("a@h"), NodeDown("a@h", "disconnect")] * 3


async def test_the_reason_of_a_disconnect_travels() -> None:
    async with pair_of_nodes() as (a, b):
        await connected(a, b)
        a.channels.disconnect("b@h", "revoked_key")
        await eventually(lambda: b.downs == ["revoked_key"])


async def test_many_who_connect_at_once_share_one_dial() -> None:
    async with pair_of_nodes() as (a, b):
        channels = await within(
            asyncio.gather(*(a.channels.connect(b.ref) for _ in range(50)))
        )
        assert len(set(channels)) == 1
        assert len(b.endpoint.connections) == 1
        assert await a.channels.connect("b@h") is channels[0]


async def test_a_waiter_that_gives_up_does_not_end_the_dial_of_the_others() -> None:
    async with pair_of_nodes() as (a, b):
        first = asyncio.ensure_future(a.channels.connect(b.ref))
        second = asyncio.ensure_future(a.channels.connect(b.ref))
        await asyncio.sleep(0)  # not synchronisation: both wait now
        first.cancel()
        assert (await within(second)).is_up
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_dial_that_nobody_waits_for_is_given_up() -> None:
    async with pair_of_nodes() as (a, b):
        dial = asyncio.ensure_future(a.channels.connect(b.ref))
        await eventually(lambda: bool(a.endpoint.connections))
        dial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dial
        await eventually(lambda: not a.endpoint.connections)
        await eventually(lambda: not b.endpoint.connections)
        assert a.channels.dialer.pending("b@h") is None
        assert a.events == []
        # Our SESSION may have been on its way.
        assert b.events in ([], [NodeUp("a@h"), NodeDown("a@h", "disconnect")])


async def test_a_node_does_not_dial_itself() -> None:
    async with pair_of_nodes() as (a, b):
        with pytest.raises(Conflict, match="is this node itself"):
            await a.channels.connect(a.ref)
        # Under another name it is found out by what answers.
        host, port = a.endpoint.address
        with pytest.raises(Conflict):
            await within(a.channels.connect(f"b@h={host}:{port}"))
        assert a.events == b.events == []


async def test_what_names_no_node_is_refused() -> None:
    async with node("a@h") as a:
        with pytest.raises(InvalidValue):
            await a.channels.connect("nobody")


async def test_other_ring_sizes_are_refused_and_named_on_both_sides() -> None:
    async with node("a@h") as a, node("b@h", ring_size=128) as b:
        with pytest.raises(RingSizeMismatch) as caught:
            await within(a.channels.connect(b.ref))
        assert "ring_size=64" in str(caught.value)
        assert "128" in str(caught.value)
        await eventually(lambda: not b.endpoint.connections)
        assert (a.events, b.events) == ([], [])


async def test_a_reference_that_names_another_key_is_refused_on_an_open_channel() -> (
    None
):
    async with pair_of_nodes() as (a, b):
        await connected(a, b)
        wrong = f"{b.ref}#SHA256:{'A' * 43}"
        with pytest.raises(Exception, match="does not have the key"):
            await a.channels.connect(wrong)
        assert a.channels.nodes() == ["b@h"]


async def test_frames_cannot_be_sent_before_up_nor_after_down() -> None:
    async with pair_of_nodes() as (a, b):
        near, _ = await connected(a, b)
        with pytest.raises(InvalidValue, match="data stream 8"):
            near.open_data_stream(8)
        near.close("disconnect")
        for attempt in (
            lambda: near.send_control(CONTROL_KIND, b""),
            lambda: near.send_gossip(GOSSIP_KIND, b""),
            lambda: near.open_data_stream(0),
        ):
            with pytest.raises(NotConnected, match="the channel to b@h is down"):
                attempt()


async def test_a_user_stream_is_refused_where_nobody_takes_them() -> None:
    async with pair_of_nodes() as (a, b):
        near, _ = await connected(a, b)
        stream = near.connection.open_stream()
        await stream.write(b"\3tag")
        with pytest.raises(StreamReset) as caught:
            await within(stream.read())
        assert caught.value.error_code == 0x100
        assert near.is_up


async def test_a_user_stream_reaches_its_handler_once_the_channel_is_up() -> None:
    async with pair_of_nodes() as (a, b):
        taken: list[tuple[str, Stream]] = []

        def take(channel: Channel, stream: Stream) -> None:
            assert channel.is_up
            taken.append((channel.name, stream))

        b.channels.on_user_stream = take
        near, _ = await connected(a, b)
        stream = near.connection.open_stream(priority=128)
        await stream.write(b"\3tag payload")
        stream.finish()
        await eventually(lambda: bool(taken))
        assert taken[0][0] == "a@h"
        assert await within(drained(taken[0][1])) == b"\3tag payload"


async def test_a_peer_that_shuts_down_says_so_after_what_it_had_to_send() -> None:
    async with pair_of_nodes() as (a, b):
        near, _ = await connected(a, b)
        stream = near.open_data_stream(0)
        body = bytes(100_000)
        for _ in range(20):
            stream.write_nowait(encode(DATA_KIND, 0, body))
        await a.channels.close(drain=5.0)
        await eventually(lambda: b.downs == ["shutdown"])
        assert len(b.frames) == 20
        assert a.downs == ["shutdown"]
        with pytest.raises(NotStarted):
            await a.channels.connect(b.ref)
        with pytest.raises(PeerUnreachable):
            await b.channels.connect(a.ref, timeout=1.0)


async def test_a_dial_in_progress_ends_when_the_channels_are_closed() -> None:
    async with pair_of_nodes() as (a, b):
        dial = asyncio.ensure_future(a.channels.connect(b.ref))
        await eventually(lambda: bool(a.endpoint.connections))
        await a.channels.close(drain=0.1)
        with pytest.raises(NotStarted):
            await dial


async def test_closing_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    for _ in range(10):
        async with pair_of_nodes() as (a, b):
            await connected(a, b)
    await eventually(lambda: asyncio.all_tasks() == before)


async def test_what_listeners_do_wrong_does_not_reach_the_others() -> None:
    async with pair_of_nodes() as (a, b):
        heard: list[object] = []

        def fail(event: object) -> None:
            raise RuntimeError("a bug in a listener")

        forget = a.channels.listen(fail)
        a.channels.listen(heard.append)
        await connected(a, b)
        forget()
        a.channels.disconnect("b@h")
        assert heard == [NodeUp("b@h"), NodeDown("b@h", "disconnect")]


@pytest.mark.parametrize(
    "write",
    [
        lambda near: near.send_control(77, b"unknown kind"),
        lambda near: near.send_control(GOSSIP_KIND, b"wrong stream"),
        lambda near: near.send_control(1, b"a second SESSION"),
        lambda near: near.send_control(15, b"a bad BYE"),
        lambda near: near._open(StreamRole.CONTROL),
        lambda near: near._open(StreamRole.AUTH),
        lambda near: near.connection.open_stream(uni=True).write_nowait(b"\4"),
        lambda near: near.connection.open_stream(uni=True).finish(),
        lambda near: near._own[StreamRole.CONTROL].finish(),
        lambda near: near._own[StreamRole.CONTROL].reset(1),
        lambda near: near.open_data_stream(0).write_nowait(b"\0\0\0\0"),
    ],
)
async def test_a_peer_that_breaks_a_rule_loses_its_channel_and_nothing_else(
    write: Callable[[Channel], object],
) -> None:
    async with pair_of_nodes() as (a, b), node("c@h") as c:
        near, _ = await connected(a, b)
        await connected(c, b)
        write(near)
        await eventually(lambda: NodeDown("a@h", "protocol_error") in b.events)
        await eventually(lambda: a.downs == ["protocol_error"])
        assert b.channels.nodes() == ["c@h"]
        await within(a.channels.connect(b.ref))


async def test_one_data_stream_more_than_allowed_ends_the_channel() -> None:
    settings = EngineSettings(streams_uni_max=200)
    async with pair_of_nodes(settings=settings) as (a, b):
        near, _ = await connected(a, b)
        for _ in range(64):
            near._open(StreamRole.DATA)
        near.send_control(CONTROL_KIND, b"alive")
        await eventually(lambda: bool(b.frames))
        near._open(StreamRole.DATA)
        await eventually(lambda: b.downs == ["protocol_error"])


async def test_unknown_kinds_are_skipped_where_the_sender_allows_it() -> None:
    async with pair_of_nodes() as (a, b):
        near, _ = await connected(a, b)
        near._own[StreamRole.CONTROL].write_nowait(encode(200, 1, b"of the future"))
        near.send_control(CONTROL_KIND, b"known")
        await eventually(lambda: bool(b.frames))
        assert b.channels.dispatcher.skipped == 1


async def test_a_peer_with_other_lease_times_is_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with node("a@h") as a, node("b@h", member_ttl_ms=1_000) as b:
        await connected(a, b)
        assert "b@h: has member_ttl_ms=1000, this node has 45000" in caplog.text
