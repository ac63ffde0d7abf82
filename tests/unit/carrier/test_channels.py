"""Two nodes get a channel, use it, and are told once of each change."""

from __future__ import annotations

import pytest

from barrel_p2p.core.peers import NodeUp
from barrel_p2p.wire.frames import Frame, encode
from tests.channel_nodes import (
    CONTROL_KIND,
    DATA_KIND,
    GOSSIP_KIND,
    connected,
    pair_of_nodes,
)
from tests.endpoints import eventually


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
        assert far.session.package == "0.1.0"
        assert (near.creation, near.up_since > 0) == (7, True)
