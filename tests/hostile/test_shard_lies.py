"""What a member lies about others moves their partitions for a moment at most."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from barrel_p2p.core.rendezvous import Ring
from barrel_p2p.services.member_messages import Leases, Suspect, encode
from barrel_p2p.wire.kinds import Kind
from tests.endpoints import eventually
from tests.malicious_members import CREATION, EVIL, member
from tests.unit.node.nodes import node

EVERYTHING = list(range(64))

pytestmark = pytest.mark.timeout(60)


def leases(*rows: tuple[str, int, int, int]) -> tuple[int, bytes]:
    return encode(Leases(time.time_ns() // 1_000_000, rows))


async def test_malformed_gossip_moves_nothing_and_a_good_lease_still_counts(
    tmp_path: Path,
) -> None:
    """SHD-08: each bad frame costs its sender the channel, and this node nothing."""
    async with node(tmp_path, "a@127.0.0.1") as victim, member() as evil:
        good = leases((EVIL, CREATION, 1, 0))
        bad = [
            (Kind.LEASES, b""),
            (Kind.LEASES, b"nonsense"),
            (Kind.LEASES, good[1][:-1]),
            (Kind.LEASES, good[1] + b"\0"),
            (Kind.LEASES, bytes(8) + b"\xff\xff"),
            (Kind.SUSPECT, b"\xff" * 40),
            (Kind.ALIVE, b"\x00"),
            (Kind.LEAVE, b"\x05a@h"),
        ]
        for kind, body in bad:
            channel = await evil.connect(victim)
            channel.send_gossip(kind, body)
            await eventually(lambda: EVIL not in victim.nodes())
            await eventually(lambda: evil._own.channels.get(victim.name) is None)
            assert victim.members() == [victim.name]
            assert victim.owned_partitions() == EVERYTHING
        channel = await evil.connect(victim)
        channel.send_gossip(*good)
        await eventually(lambda: victim.members() == [victim.name, EVIL])
        owners = Ring(64, [victim.name, EVIL]).owners
        mine = [p for p in EVERYTHING if owners[p] == victim.name]
        await eventually(lambda: victim.owned_partitions() == mine)


async def test_members_that_do_not_exist_take_partitions_for_a_lease_at_most(
    tmp_path: Path,
) -> None:
    """A member may invent others; nobody renews their leases."""
    settings = {"member_heartbeat_ms": 200, "member_ttl_ms": 800, "suspect_ms": 200}
    async with node(tmp_path, "a@127.0.0.1", **settings) as victim, member() as evil:
        channel = await evil.connect(victim)
        channel.send_gossip(*leases(*((f"x{i}@h", 1, 1, 0) for i in range(500))))
        await eventually(lambda: len(victim.members()) == 501)
        assert victim.owned_partitions() != EVERYTHING
        await eventually(lambda: victim.owned_partitions() == EVERYTHING)


async def test_nobody_is_talked_out_of_its_own_partitions(tmp_path: Path) -> None:
    """A suspicion of a node, told to itself, is refuted and changes no owner."""
    async with node(tmp_path, "a@127.0.0.1") as victim, member() as evil:
        channel = await evil.connect(victim)
        lie = Suspect(victim.name, victim.creation, 1 << 19, EVIL, True)
        async with victim.shard_events() as events:
            channel.send_gossip(*encode(lie))
            members = victim._overlay().members
            await eventually(lambda: members.stats().refutations > 0)
            assert victim.owned_partitions() == EVERYTHING
            assert not events._events
