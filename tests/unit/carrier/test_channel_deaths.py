"""However a peer goes, its channel is down once, for the reason that fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.quic.settings import EngineSettings
from tests.channel_nodes import ChannelNode, connected, node, pair_of_nodes
from tests.endpoints import eventually, within

QUICK = EngineSettings(idle_timeout_ms=600)


def vanish(one: ChannelNode) -> tuple[str, int]:
    """Free the engine without a word, as a killed process does."""
    address = one.endpoint.address
    engine = one.endpoint._alive()
    one.endpoint._shut(engine)
    return address


@pytest.mark.every_loop
async def test_a_peer_that_vanished_is_found_out_by_the_network_or_the_silence() -> (
    None
):
    async with node("a@h", settings=QUICK) as a, node("b@h") as b:
        await connected(a, b)
        vanish(b)
        await eventually(lambda: bool(a.downs))
        assert a.downs[0] in ("unreachable", "idle_timeout")
        assert a.events == [NodeUp("b@h"), NodeDown("b@h", a.downs[0])]


async def test_a_peer_that_forgot_the_connection_resets_it() -> None:
    async with pair_of_nodes(settings=QUICK) as (a, b):
        near, _ = await connected(a, b)
        near.connection.abort()
        await eventually(lambda: b.downs == ["stateless_reset"])
        await eventually(lambda: len(a.downs) == 1)
        again, _ = await connected(a, b)
        assert again is not near
        assert a.ups == b.ups == 2


async def test_a_node_that_comes_back_on_its_port_is_dialled_anew(
    tmp_path: Path,
) -> None:
    home = tmp_path / "b"
    home.mkdir()
    async with node("a@h", settings=QUICK) as a:
        async with node("b@h", directory=home) as first:
            await connected(a, first)
            _, port = vanish(first)
        async with node("b@h", directory=home, port=port, creation=8) as second:
            await eventually(lambda: len(a.downs) == 1)
            channel = await within(a.channels.connect(second.ref))
            assert channel.creation == 8
        assert a.ups == 2
