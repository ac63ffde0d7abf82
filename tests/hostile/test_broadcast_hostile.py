"""Neighbours who lie about broadcasts, flood, or answer nothing."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.broadcast.dedup import ID_BYTES, SeenIds
from barrel_p2p.broadcast.machine import Plumtree
from barrel_p2p.broadcast.messages import (
    GRAFT_IDS_MAX,
    IHAVE_IDS_MAX,
    KINDS,
    PAYLOAD_BYTES_MAX,
    PRUNE,
    Gossip,
    Graft,
    IHave,
    decode,
    encode,
)
from barrel_p2p.broadcast.repair import MISSING_PEER_MAX
from barrel_p2p.core.effects import Send
from barrel_p2p.core.inputs import Received, TimerFired
from barrel_p2p.core.peers import PeerUp
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.errors import WireError
from tests.broadcast_nodes import TOPIC, mesh
from tests.endpoints import eventually

EVIL, GOOD = "evil@h", "good@h"


def target() -> Plumtree:
    machine = Plumtree("me@h", SeededRng(1))
    for peer in (EVIL, GOOD):
        machine.handle(PeerUp(peer), now_ms=0)
    return machine


def announcement(first: int) -> IHave:
    ids = [n.to_bytes(ID_BYTES) for n in range(first, first + IHAVE_IDS_MAX)]
    return IHave(b"".join(ids), b"\1" * IHAVE_IDS_MAX)


@given(kind=st.sampled_from([*KINDS, 52, 255]), body=st.binary(max_size=200))
def test_no_bytes_of_a_peer_raise_anything_but_a_wire_error(
    kind: int, body: bytes
) -> None:
    with contextlib.suppress(WireError):
        assert encode(decode(kind, body, peer=EVIL)) == (kind, body)


def test_a_payload_over_the_limit_is_refused() -> None:
    kind, body = encode(Gossip(1, bytes(16), "t", bytes(PAYLOAD_BYTES_MAX)))
    decode(kind, body)
    with pytest.raises(WireError, match="PAYLOAD_BYTES_MAX=1048576") as refused:
        decode(kind, body + b"x", peer=EVIL)
    assert refused.value.peer == EVIL


def test_endless_announcements_cost_a_bounded_share_and_leave_room_for_others() -> None:
    machine = target()
    tracemalloc.start()
    for i in range(64):
        lie = announcement(i * IHAVE_IDS_MAX)
        machine.handle(Received(EVIL, lie), now_ms=i)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert machine.stats()["pending_ihaves"] == MISSING_PEER_MAX
    assert machine.stats()["ihave_refused"] == 64 * IHAVE_IDS_MAX - MISSING_PEER_MAX
    assert held < 64 << 20
    honest = b"an honest message"[:ID_BYTES]
    machine.handle(Received(GOOD, IHave(honest, b"\1")), now_ms=64)
    assert machine.stats()["pending_ihaves"] == MISSING_PEER_MAX + 1


def test_ids_that_nobody_sends_are_forgotten() -> None:
    machine = target()
    machine.handle(Received(EVIL, announcement(0)), now_ms=0)
    asked = 0
    for now_ms in range(1_000, 10_000, 200):
        effects = machine.handle(TimerFired("repair"), now_ms=now_ms)
        asked += sum(isinstance(effect, Send) for effect in effects)
    assert machine.stats()["pending_ihaves"] == 0
    assert machine.stats()["given_up"] == IHAVE_IDS_MAX
    assert asked <= 10


def test_asking_again_and_again_for_the_same_costs_no_memory() -> None:
    machine = target()
    for i in range(8):
        gossip = Gossip(1, i.to_bytes(16), "t", bytes(PAYLOAD_BYTES_MAX))
        machine.handle(Received(GOOD, gossip), now_ms=0)
    wanted = Graft(b"".join((i % 8).to_bytes(16) for i in range(GRAFT_IDS_MAX)))
    sent = 0
    for _ in range(50):
        effects = machine.handle(Received(EVIL, wanted), now_ms=1)
        sent += sum(isinstance(effect, Send) for effect in effects)
    assert machine.stats()["backlog_ids"] <= 8
    assert sent <= 50


def test_ids_that_differ_in_few_bits_are_all_told_apart() -> None:
    seen = SeenIds(1 << 17, ttl_ms=1_000, key=SeededRng(2).below(1 << 128))
    chosen = {n << shift for shift in (0, 32, 64, 112) for n in range(1 << 14)}
    made = [number.to_bytes(ID_BYTES) for number in sorted(chosen)]
    assert all(seen.add(one, 0) for one in made)
    assert seen.unknown(b"".join(made), 0) == []


async def test_a_malformed_broadcast_ends_only_the_channel_it_came_on() -> None:
    async with mesh(3) as (first, evil, other):
        channel = evil.node.channels.get(first.name)
        assert channel is not None
        channel.send_gossip(48, b"\0\0" + bytes(30))
        await eventually(lambda: first.node.downs == ["protocol_error"])
        await other.broadcast.broadcast(TOPIC, b"still here")
        await eventually(lambda: first.payloads == [b"still here"])
        assert first.machine.eager + first.machine.lazy == [other.name]


async def test_a_neighbour_who_prunes_and_grafts_for_ever_stops_nobody() -> None:
    async with mesh(3) as (first, evil, other):
        channel = evil.node.channels.get(first.name)
        assert channel is not None
        for i in range(200):
            channel.send_gossip(*encode(PRUNE if i % 2 else Graft(bytes(16))))
        await first.broadcast.broadcast(TOPIC, b"to all")
        await eventually(lambda: other.payloads == [b"to all"])
        await eventually(lambda: evil.payloads == [b"to all"])
        # And one from each of the two when it came.
        assert first.machine.stats()["graft_received"] == 100 + 2
