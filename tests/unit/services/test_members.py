"""Members over real channels: who comes, who goes, and what a frame may hold."""

from __future__ import annotations

import asyncio
import logging

import pytest

from barrel_p2p.core.members import MemberDead, MemberUp
from barrel_p2p.services.member_messages import Leases, Suspect, encode
from barrel_p2p.wire.kinds import Kind
from tests.channel_nodes import connected
from tests.endpoints import eventually
from tests.service_nodes import service_node, service_nodes


async def test_all_nodes_know_all_members_and_their_lives() -> None:
    async with service_nodes(3) as nodes:
        for node in nodes:
            assert node.members.alive() == ["n0@h", "n1@h", "n2@h"]
            assert [node.members.life(n) for n in node.members.alive()] == [7, 7, 7]
            ups = [e for e in node.member_events if isinstance(e, MemberUp)]
            assert sorted(e.node for e in ups) == ["n0@h", "n1@h", "n2@h"]
            assert node.members.suspects() == []


async def test_a_member_behind_another_is_known_too() -> None:
    async with (
        service_node("a@h") as a,
        service_node("b@h", creation=3) as b,
        service_node("c@h") as c,
    ):
        await connected(a.replica.node, b.replica.node)
        await connected(b.replica.node, c.replica.node)
        await eventually(lambda: c.members.alive() == ["a@h", "b@h", "c@h"])
        assert a.members.life("b@h") == 3
        # Leases keep growing from end to end, for much longer than one lasts.
        await asyncio.sleep(1.5)  # not synchronisation: no verdict may come meanwhile
        assert [e for e in c.member_events if isinstance(e, MemberDead)] == []


async def test_who_leaves_is_dead_at_once_and_who_stops_soon() -> None:
    async with service_nodes(2) as (a, b):
        async with service_node("n2@h") as c:
            await connected(c.replica.node, a.replica.node)
            await connected(c.replica.node, b.replica.node)
            await eventually(lambda: b.members.life("n2@h") == 7)
            c.members.leave()
            await eventually(lambda: a.members.is_dead("n2@h"))
        dead = [e for e in a.member_events if isinstance(e, MemberDead)]
        assert dead == [MemberDead("n2@h", 7, "left")]
        async with service_node("n3@h") as d:
            await connected(d.replica.node, a.replica.node)
            await eventually(lambda: b.members.life("n3@h") == 7)
        await eventually(lambda: b.members.is_dead("n3@h"))
        assert MemberDead("n3@h", 7, "unreachable") in b.member_events


async def test_a_lost_channel_between_living_nodes_kills_nobody() -> None:
    async with service_nodes(3) as nodes:
        a, b, _ = nodes
        channel = a.replica.node.channels.get(b.name)
        assert channel is not None
        channel.connection.close(0x105, "for a test")
        await eventually(lambda: b.replica.node.downs != [])
        await asyncio.sleep(1.5)  # not synchronisation: no verdict may come meanwhile
        for node in nodes:
            assert node.members.alive() == ["n0@h", "n1@h", "n2@h"]
            assert [e for e in node.member_events if isinstance(e, MemberDead)] == []


async def test_a_malformed_frame_ends_the_channel() -> None:
    async with service_nodes(2) as (a, b):
        channel = a.replica.node.channels.get(b.name)
        assert channel is not None
        channel.send_gossip(Kind.LEASES, b"nonsense")
        await eventually(lambda: b.replica.node.downs == ["protocol_error"])


async def test_a_suspicion_of_a_living_node_is_refuted() -> None:
    async with service_nodes(3) as (a, b, c):
        channel = a.replica.node.channels.get(b.name)
        assert channel is not None
        lie = Suspect(c.name, 7, 1 << 19, a.name, True)
        channel.send_gossip(*encode(lie))
        await eventually(lambda: c.members.stats().refutations > 0)
        await eventually(lambda: b.members.suspects() == [])
        assert not b.members.is_dead(c.name)


async def test_a_clock_that_is_ahead_is_named_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with service_nodes(2) as (a, b):
        channel = a.replica.node.channels.get(b.name)
        assert channel is not None
        with caplog.at_level(logging.WARNING, "barrel_p2p.services"):
            channel.send_gossip(*encode(Leases(4_000_000_000_000, ())))
            await eventually(lambda: "n0@h is no member here" in caplog.text)
        assert "member_skew_ms=5000" in caplog.text


async def test_a_listener_that_fails_does_not_keep_the_others_from_hearing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with service_node("a@h") as a:
        heard: list[object] = []
        a.members.listen(lambda event: 1 / 0)  # type: ignore[arg-type]
        forget = a.members.listen(heard.append)
        async with service_node("b@h") as b:
            await connected(a.replica.node, b.replica.node)
            await eventually(lambda: heard == [MemberUp("b@h", 7)])
            forget()
            forget()
        await eventually(lambda: a.members.is_dead("b@h"))
        assert len(heard) == 1
        assert "a listener failed" in caplog.text


async def test_a_refused_node_is_no_member_until_it_is_allowed() -> None:
    async with service_nodes(2) as (a, b):
        await b.serve("cart")
        await eventually(lambda: a.registry.list_services() == ["cart"])
        a.members.refuse(b.name)
        assert a.members.alive() == [a.name]
        assert a.registry.list_services() == []
        a.members.allow(b.name)
        await eventually(lambda: a.registry.list_services() == ["cart"])
