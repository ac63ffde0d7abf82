"""Members that lie to replicas: nothing raises, nothing grows, the others go on."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from barrel_p2p.core.hlc import HLC, Timestamp
from barrel_p2p.core.inputs import Received
from barrel_p2p.core.ormap import Entry, OrMap
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.errors import WireError
from barrel_p2p.replica.driver import topic_of
from barrel_p2p.replica.limits import ANSWER_BURST_MAX, ROUNDS_PER_PEER_MAX
from barrel_p2p.replica.machine import Gossiped, ReplicaMachine, Start
from barrel_p2p.replica.messages import (
    DIGEST_BYTES,
    CustomMessage,
    DeltaMessage,
    Origin,
    Status,
    SyncChunk,
    SyncDone,
    SyncRequest,
    decode,
    decode_gossip,
    encode,
    encode_gossip,
)
from barrel_p2p.wire.crdt_ingest import encode_delta
from barrel_p2p.wire.kinds import REPLICA, Kind
from barrel_p2p.wire.terms import key_bytes
from tests.endpoints import eventually, within
from tests.replica_nodes import NAME, ReplicaNode, replica_nodes
from tests.tools import rounds

FAR_FUTURE_MS = 4_000_000_000_000


async def still_works(first: ReplicaNode, second: ReplicaNode) -> None:
    key = f"still {len(second.entries)}"
    await first.add(key, 1)
    await within(eventually(lambda: second.entries.get(key) == 1))


@given(st.sampled_from([*REPLICA]), st.binary(max_size=64) | st.binary(max_size=4_000))
def test_a_body_decodes_or_is_refused(kind: int, body: bytes) -> None:
    try:
        message = decode(kind, body)
    except WireError:
        return
    assert encode(message) == (kind, body)


@given(st.binary(max_size=64))
def test_a_payload_decodes_or_is_refused(payload: bytes) -> None:
    try:
        message = decode_gossip(payload)
    except WireError:
        return
    assert encode_gossip(message) == payload


MESSAGE = st.one_of(
    st.builds(
        SyncRequest,
        st.sampled_from(["r", "other"]),
        st.integers(0, 3),
        st.sampled_from([bytes(DIGEST_BYTES), b"\1" * DIGEST_BYTES]),
    ),
    st.builds(
        SyncChunk, st.sampled_from(["r", "other"]), st.integers(0, 3), st.binary()
    ),
    st.builds(
        SyncDone,
        st.sampled_from(["r", "other"]),
        st.integers(0, 3),
        st.sampled_from(Status),
        st.sampled_from([0, 1, 2**32 - 1]),
        st.just(b"\2" * DIGEST_BYTES),
    ),
    st.builds(DeltaMessage, st.just(Origin("x@h", 1, 1)), st.binary()),
    st.builds(CustomMessage, st.just(Origin("m@h", 7, 1)), st.binary()),
)


@settings(max_examples=rounds(200, whole=5_000))
@given(st.lists(st.tuples(st.sampled_from(["a@h", "z@h"]), MESSAGE), max_size=30))
def test_no_order_of_frames_raises_in_the_machine_or_piles_up(
    steps: list[tuple[str, object]],
) -> None:
    machine = ReplicaMachine(
        node="m@h", creation=7, rng=SeededRng(1), anti_entropy_ms=0
    )
    store = OrMap("m@h", HLC())
    store.add("k", 1)
    machine.handle(Start("r", store), now_ms=0)
    for peer, message in steps:
        event: object = Received(peer, message)
        if isinstance(message, DeltaMessage | CustomMessage):
            event = Gossiped("r", message)
        machine.handle(event, now_ms=0)
    assert machine.rounds.open() <= 2 * ROUNDS_PER_PEER_MAX


async def test_garbage_in_gossip_is_counted_and_ends_nothing() -> None:
    """E14."""
    rng = random.Random(1)
    async with replica_nodes(2) as (first, second):
        origin = Origin("x@h", 1, 1)
        payloads = [rng.randbytes(rng.randrange(40)) for _ in range(50)]
        payloads += [
            encode_gossip(DeltaMessage(origin, rng.randbytes(30))) for _ in range(50)
        ]
        payloads.append(encode_gossip(CustomMessage(origin, b"\x83\xff")))
        for payload in payloads:
            await first.broadcast.broadcast(topic_of(NAME), payload)
        await eventually(lambda: second.replicas.stats()["malformed"] >= 100)
        await still_works(first, second)
        assert first.node.downs == second.node.downs == []


async def test_a_stamp_from_the_far_future_moves_no_clock() -> None:
    async with replica_nodes(2) as (first, second):
        poison = {
            key_bytes("k"): Entry("k", Timestamp(FAR_FUTURE_MS, 0), "n0@h", "poison")
        }
        first.running.publish(poison)
        await still_works(first, second)
        assert "k" not in second.entries
        assert second.clock.now().wall_ms < FAR_FUTURE_MS
        assert sum(second.store.refused.values()) == 1


async def test_a_chunk_nobody_asked_for_is_dropped_and_a_broken_one_ends_it() -> None:
    async with replica_nodes(2) as (first, second):
        await eventually(lambda: bool(first.synced) and bool(second.synced))
        channel = first.node.channels.get(second.name)
        assert channel is not None
        chunk = encode_delta({key_bytes("k"): Entry("k", Timestamp(1, 0), "n0@h", 1)})
        channel.send_gossip(*encode(SyncChunk(NAME, 1, chunk[0])))
        channel.send_gossip(*encode(SyncDone(NAME, 1, Status.OVER)))
        await eventually(lambda: second.replicas.stats()["rounds_strayed"] == 2)
        await still_works(first, second)
        assert "k" not in second.entries
        # A round of its own makes it worth reading, and then it has to be a delta.
        asked = encode(SyncRequest(NAME, 9, b"\1" * DIGEST_BYTES))
        channel.send_gossip(*asked)
        await eventually(lambda: second.replicas.stats()["rounds_answered"] >= 2)
        channel.send_gossip(*encode(SyncChunk(NAME, 9, b"no delta")))
        await eventually(lambda: bool(first.node.downs))
        assert second.node.downs == ["protocol_error"]


async def test_a_frame_without_its_layout_ends_the_channel() -> None:
    async with replica_nodes(2) as (first, second):
        channel = first.node.channels.get(second.name)
        assert channel is not None
        channel.send_gossip(Kind.SYNC_REQUEST, b"\1x\0\0\0\1short")
        await eventually(lambda: second.node.downs == ["protocol_error"])


async def test_a_flood_of_requests_costs_an_answer_each_at_most() -> None:
    async with replica_nodes(2) as (first, second):
        await eventually(lambda: bool(first.synced) and bool(second.synced))
        for number in range(2_000):
            second.entries.add(number, bytes(100))
        channel = first.node.channels.get(second.name)
        assert channel is not None
        before = second.replicas.stats()["rounds_chunks_sent"]
        for number in range(1_000):
            channel.send_gossip(
                *encode(SyncRequest(NAME, number, b"\1" * DIGEST_BYTES))
            )
            channel.send_gossip(
                *encode(SyncRequest(f"no {number}", number, b"\1" * DIGEST_BYTES))
            )
        await eventually(lambda: second.replicas.stats()["rounds_unknown"] == 1_000)
        stats = second.replicas.stats()
        assert stats["rounds_answered"] <= 2 * ANSWER_BURST_MAX + 1
        assert stats["rounds_refused"] >= 1_000 - 2 * ANSWER_BURST_MAX
        await asyncio.sleep(0)
        assert stats["rounds_chunks_sent"] - before <= 2 * ANSWER_BURST_MAX
        await still_works(second, first)
