"""Broadcasts between real nodes: QUIC on loopback, several nodes in this process."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest

from barrel_p2p.broadcast import driver
from barrel_p2p.broadcast.driver import Broadcast
from barrel_p2p.broadcast.messages import (
    PAYLOAD_BYTES_MAX,
    TOPIC_BYTES_MAX,
    Delivery,
)
from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.errors import Busy, InvalidValue, NotStarted
from barrel_p2p.quic.settings import EngineSettings
from tests.broadcast_nodes import TOPIC, mesh
from tests.endpoints import eventually, within

NARROW = EngineSettings(
    send_high=8_192, send_low=2_048, stream_window=16_384, stream_window_first=8_192
)


async def test_a_broadcast_reaches_every_node_once_and_its_own_listeners() -> None:
    """PLT-01."""
    async with mesh(4) as nodes:
        made = await nodes[0].broadcast.broadcast(TOPIC, b"hello")
        await eventually(lambda: all(node.heard for node in nodes))
        for node in nodes:
            own = node is nodes[0]
            assert node.heard == [Delivery(TOPIC, b"hello", made, own)]


async def test_no_delivery_comes_after_the_subscription_has_ended() -> None:
    """PLT-02."""
    async with mesh(2) as (first, second):
        early: list[Delivery] = []
        forget = second.broadcast.subscribe(TOPIC, early.append)
        await first.broadcast.broadcast(TOPIC, b"1")
        await eventually(lambda: second.payloads == [b"1"])
        forget()
        forget()
        await first.broadcast.broadcast(TOPIC, b"2")
        await eventually(lambda: second.payloads == [b"1", b"2"])
        assert [delivery.payload for delivery in early] == [b"1"]


async def test_topics_and_payloads_arrive_unchanged() -> None:
    """PLT-05."""
    sizes = [b"", b"\0\xff", b"x" * PAYLOAD_BYTES_MAX]
    topics = ["a", "ä" * (TOPIC_BYTES_MAX // 2), "replica/x"]
    async with mesh(2) as (first, second):
        heard: list[tuple[str, bytes]] = []
        for topic in topics:
            second.broadcast.subscribe(
                topic, lambda delivery: heard.append((delivery.topic, delivery.payload))
            )
        wanted = [(topic, payload) for topic in topics for payload in sizes]
        for topic, payload in wanted:
            await first.broadcast.broadcast(topic, payload)
        await eventually(lambda: len(heard) == len(wanted))
        assert heard == wanted


async def test_the_statistics_have_the_documented_names() -> None:
    """PLT-04."""
    async with mesh(3) as nodes:
        await nodes[0].broadcast.broadcast(TOPIC, b"x")
        await eventually(lambda: all(node.heard for node in nodes))
        stats = nodes[0].broadcast.stats()
        assert stats["eager_peers"] + stats["lazy_peers"] == 2
        assert stats["cached_messages"] == 1
        assert stats["gossip_sent"] == 2
        assert stats["gossip_received"] == stats["pending_ihaves"] == 0
        assert {"ihave_sent", "graft_sent", "prune_sent", "cache_bytes"} <= set(stats)
        assert {"duplicates", "delivered", "congested"} <= set(stats)


async def test_duplicates_end_when_the_tree_has_settled() -> None:
    async with mesh(4) as nodes:

        async def told(payload: bytes) -> None:
            await nodes[0].broadcast.broadcast(TOPIC, payload)
            await eventually(lambda: all(payload in n.payloads for n in nodes))

        def settled() -> bool:
            return sum(len(node.machine.eager) for node in nodes) == 2 * (4 - 1)

        for i in range(3):
            await told(b"%d" % i)
        await eventually(settled)
        before = sum(node.broadcast.stats()["duplicates"] for node in nodes)
        for i in range(10):
            await told(b"more %d" % i)
        assert sum(n.broadcast.stats()["duplicates"] for n in nodes) == before
        assert all(len(node.heard) == 13 for node in nodes)


async def test_a_given_id_makes_a_second_broadcast_of_it_silent() -> None:
    async with mesh(2) as (first, second):
        message_id = bytes(range(16))
        for payload in (b"once", b"twice"):
            told = first.broadcast.broadcast(TOPIC, payload, message_id=message_id)
            assert await told == message_id
        await second.broadcast.broadcast(TOPIC, b"after")
        await eventually(lambda: b"after" in first.payloads)
        await eventually(lambda: len(second.heard) == 2)
        assert first.payloads == [b"once", b"after"]
        assert sorted(second.payloads) == [b"after", b"once"]
        assert first.broadcast.stats()["repeated"] == 1


async def test_a_listener_that_fails_does_not_harm_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def failing(delivery: Delivery) -> None:
        raise ValueError("a bug of the application")

    async with mesh(2) as (first, second):
        late: list[Delivery] = []
        second.broadcast.subscribe(TOPIC, failing)
        second.broadcast.subscribe(TOPIC, late.append)
        with caplog.at_level(logging.WARNING, "barrel_p2p.broadcast"):
            for payload in (b"1", b"2"):
                await first.broadcast.broadcast(TOPIC, payload)
            await eventually(lambda: len(late) == 2)
        assert second.broadcast.listener_failures == 2
        assert "a bug of the application" in caplog.text


async def test_a_listener_may_broadcast_and_unsubscribe() -> None:
    async with mesh(2) as (first, second):

        def answer(delivery: Delivery) -> None:
            if delivery.payload == b"ping":
                forget()
                second.broadcast.broadcast_nowait(TOPIC, b"pong")

        forget = second.broadcast.subscribe(TOPIC, answer)
        await first.broadcast.broadcast(TOPIC, b"ping")
        await eventually(lambda: b"pong" in first.payloads)
        assert second.payloads == [b"ping", b"pong"]


@pytest.mark.parametrize(
    ("topic", "payload", "message_id", "named"),
    [
        ("", b"", None, "TOPIC_BYTES_MAX=255"),
        ("ä" * 128, b"", None, "TOPIC_BYTES_MAX=255"),
        ("\ud800", b"", None, "TOPIC_BYTES_MAX=255"),
        (b"topic", b"", None, "a topic is a str"),
        ("t", "text", None, "a payload is bytes, not str"),
        ("t", bytes(PAYLOAD_BYTES_MAX + 1), None, "PAYLOAD_BYTES_MAX=1048576"),
        ("t", b"", bytes(15), "a message id is 16 bytes"),
        ("t", b"", "x" * 16, "a message id is 16 bytes"),
    ],
)
async def test_what_cannot_be_broadcast_is_refused_by_name(
    topic: str, payload: bytes, message_id: bytes | None, named: str
) -> None:
    async with mesh(1) as (one,):
        with pytest.raises(InvalidValue, match=named):
            await one.broadcast.broadcast(topic, payload, message_id=message_id)
        with pytest.raises(InvalidValue, match=named):
            one.broadcast.broadcast_nowait(topic, payload, message_id=message_id)


async def test_a_stopped_node_says_so() -> None:
    async with mesh(2) as (first, _):
        await first.broadcast.close()
        with pytest.raises(NotStarted):
            await first.broadcast.broadcast(TOPIC, b"x")


async def test_a_full_queue_holds_the_originator_and_loses_nothing() -> None:
    count = 3_000
    async with mesh(3, settings=NARROW) as nodes:
        for i in range(count):
            await within(nodes[0].broadcast.broadcast(TOPIC, b"%d" % i + bytes(100)))
        await eventually(lambda: all(len(n.heard) == count for n in nodes))
        for node in nodes:
            assert set(Counter(node.payloads).values()) == {1}
        assert nodes[0].broadcast.stats()["unsent"] == 0


def until_refused(broadcast: Broadcast) -> None:
    while True:
        broadcast.broadcast_nowait(TOPIC, bytes(1_000))


async def test_a_full_queue_is_busy_for_those_who_do_not_wait() -> None:
    async with mesh(2, settings=NARROW) as (first, second):
        with pytest.raises(Busy, match="the gossip queue to n1@h is full"):
            until_refused(first.broadcast)
        sent = len(first.heard)
        assert sent > 1
        await eventually(lambda: len(second.heard) == sent)
        await within(first.broadcast.broadcast(TOPIC, b"there is room again"))
        await eventually(lambda: len(second.heard) == sent + 1)


async def test_everyone_broadcasts_at_once_and_nothing_is_lost() -> None:
    count = 500
    async with mesh(4, settings=NARROW) as nodes:

        async def talk(i: int) -> None:
            for k in range(count):
                await nodes[i].broadcast.broadcast(TOPIC, b"%d %d" % (i, k))

        await within(asyncio.gather(*(talk(i) for i in range(4))), 30)
        await eventually(lambda: all(len(n.heard) == 4 * count for n in nodes))
        wanted = {b"%d %d" % (i, k) for i in range(4) for k in range(count)}
        assert all(set(node.payloads) == wanted for node in nodes)


async def test_a_marker_after_a_burst_reaches_all_five_nodes() -> None:
    """SOK-01."""
    async with mesh(5) as nodes:
        for i in range(40):
            await nodes[i % 5].broadcast.broadcast(TOPIC, b"burst %d" % i)
        await nodes[0].broadcast.broadcast(TOPIC, b"marker")
        async with asyncio.timeout(15):
            await eventually(lambda: all(b"marker" in n.payloads for n in nodes))
        await eventually(lambda: all(len(n.heard) == 41 for n in nodes))


async def test_a_node_that_stops_reading_holds_nobody_up_and_misses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(driver, "PATIENCE_S", 0.05)
    count = 1_000
    async with mesh(3, settings=NARROW) as (first, deaf, other):
        await first.broadcast.broadcast(TOPIC, b"before")
        await eventually(lambda: deaf.payloads == other.payloads == [b"before"])
        channels = [deaf.node.channels.get(node.name) for node in (first, other)]
        streams = [
            stream
            for channel in channels
            if channel is not None
            for stream in channel._inbound
            if stream.role == StreamRole.GOSSIP
        ]
        assert streams
        for stream in streams:
            stream.wait()
        for i in range(count):
            await within(first.broadcast.broadcast(TOPIC, b"%d" % i + bytes(100)))
        await eventually(lambda: len(other.heard) == 1 + count)
        stats = first.broadcast.stats()
        assert stats["congested"] > 0
        assert stats["congested_peers"] == 1
        assert len(deaf.heard) == 1
        for stream in streams:
            stream.go_on()
        await eventually(lambda: len(deaf.heard) == 1 + count)
        assert set(Counter(deaf.payloads).values()) == {1}


async def test_a_queue_that_fills_with_its_channel_gone_holds_nobody() -> None:
    async with mesh(2, settings=NARROW) as (first, second):
        with pytest.raises(Busy):
            until_refused(first.broadcast)
        waiting = asyncio.ensure_future(first.broadcast.broadcast(TOPIC, b"x"))
        assert first.node.channels.disconnect(second.name)
        await within(waiting)
        assert first.machine.stats()["congested_peers"] == 0
