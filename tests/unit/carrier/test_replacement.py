"""A peer that comes back takes the place of its old channel, exactly once."""

from __future__ import annotations

from pathlib import Path

import pytest

from barrel_p2p.carrier.channel import Channel
from barrel_p2p.carrier.inbound import FrameSink, InboundStream
from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.errors import KeyMismatch, PeerUnreachable
from barrel_p2p.wire.frames import Frame, encode
from tests.channel_nodes import (
    CONTROL_KIND,
    DATA_KIND,
    GOSSIP_KIND,
    connected,
    node,
    pair_of_nodes,
)
from tests.endpoints import eventually, within

REPLACED = [NodeUp("a@h"), NodeDown("a@h", "superseded"), NodeUp("a@h")]


async def test_a_new_life_of_a_node_supersedes_its_old_channel(tmp_path: Path) -> None:
    home = tmp_path / "a"
    home.mkdir()
    async with node("b@h") as b, node("a@h", directory=home) as old:
        await connected(old, b)
        async with node("a@h", directory=home, creation=8) as new:
            channel = await within(new.channels.connect(b.ref))
            channel.open_data_stream(0).write_nowait(encode(DATA_KIND, 0, b"new"))
            await eventually(lambda: bool(b.frames))
            assert b.events == REPLACED
            await eventually(lambda: old.downs == ["superseded"])
            found = b.channels.get("a@h")
            assert found is not None
            assert found.creation == 8
        await eventually(lambda: b.downs == ["superseded", "shutdown"])


async def test_a_redial_by_the_same_life_replaces_a_channel_we_still_hold(
    tmp_path: Path,
) -> None:
    home = tmp_path / "a"
    home.mkdir()
    async with node("b@h") as b, node("a@h", directory=home) as first:
        await connected(first, b)
        # The same node over another socket, as after a connection that died unheard.
        async with node("a@h", directory=home) as second:
            await within(second.channels.connect(b.ref))
            await eventually(lambda: b.events == REPLACED)


async def test_an_earlier_life_does_not_replace_a_later_one(tmp_path: Path) -> None:
    home = tmp_path / "a"
    home.mkdir()
    async with node("b@h") as b, node("a@h", directory=home, creation=9) as new:
        await connected(new, b)
        async with node("a@h", directory=home, creation=8) as old:
            with pytest.raises(PeerUnreachable, match="stale_creation"):
                await within(old.channels.connect(b.ref))
            assert b.events == [NodeUp("a@h")]
            assert new.channels.nodes() == ["b@h"]


async def test_another_key_does_not_replace_a_channel() -> None:
    async with pair_of_nodes() as (a, b):
        await connected(a, b)
        async with node("a@h", creation=99) as thief:
            with pytest.raises(KeyMismatch):
                await within(thief.channels.connect(b.ref))
        assert b.events == [NodeUp("a@h")]


async def test_the_old_line_gets_nothing_after_down_and_the_new_one_nothing_before_up(
    tmp_path: Path,
) -> None:
    home = tmp_path / "a"
    home.mkdir()
    story: list[object] = []

    async with node("b@h") as b, node("a@h", directory=home) as old:

        def line(channel: Channel) -> FrameSink:
            story.append(("line", channel.creation))
            return FrameSink()

        b.channels.line = line
        b.channels.listen(story.append)
        near, _ = await connected(old, b)
        near.open_data_stream(0).write_nowait(encode(DATA_KIND, 0, b"1"))
        await eventually(lambda: len(b.frames) == 1)
        async with node("a@h", directory=home, creation=8) as new:
            await within(new.channels.connect(b.ref))
            await eventually(lambda: len(story) == 5)
        assert story[:5] == [
            ("line", 7),
            NodeUp("a@h"),
            NodeDown("a@h", "superseded"),
            ("line", 8),
            NodeUp("a@h"),
        ]


async def test_a_line_gets_every_frame_that_comes_once_its_channel_is_up() -> None:
    taken: list[tuple[int, bytes]] = []

    class Line(FrameSink):
        def frame_received(self, stream: InboundStream, frame: Frame) -> None:
            taken.append((stream.role, frame.body))
            super().frame_received(stream, frame)

    async with pair_of_nodes() as (a, b):
        b.channels.line = lambda channel: Line()
        near, _ = await connected(a, b)
        near.send_control(CONTROL_KIND, b"c")
        near.send_gossip(GOSSIP_KIND, b"g")
        near.open_data_stream(0).write_nowait(encode(DATA_KIND, 0, b"d"))
        await eventually(lambda: len(b.frames) == 3)
        assert sorted(taken) == [(1, b"c"), (2, b"g"), (3, b"d")]
