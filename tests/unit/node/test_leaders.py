"""Leaders on real nodes: stood for, elected, revoked, fenced."""

from __future__ import annotations

from pathlib import Path

import pytest

from barrel_p2p import (
    Elected,
    Node,
    NoLeader,
    NotLeader,
    Revoked,
)
from barrel_p2p.testing import cluster, eventually

NAME = "roller"


def leaders_of(nodes: list[Node]) -> list[str]:
    return [node.name for node in nodes if node.is_leader(NAME)]


async def test_a_sole_candidate_leads_at_once(tmp_path: Path) -> None:
    """LDR-01."""
    async with cluster(1, directory=tmp_path) as (a,), a.mailbox() as me:
        with pytest.raises(NoLeader):
            a.leader(NAME)
        role = await a.lead(NAME)
        assert role.leader
        assert type(role.fence) is int
        assert 0 < role.fence < 1 << 63
        assert a.is_leader(NAME)
        assert a.leader(NAME) == (a.name, me.pid)
        assert a.fence(NAME) == a.high_water(NAME) == role.fence
        assert [(c.node, c.pid) for c in a.candidates(NAME)] == [(a.name, me.pid)]
        assert a.elections() == [NAME]


async def test_who_resigns_leads_no_more_and_is_sent_nothing(tmp_path: Path) -> None:
    """LDR-02, LDR-07: and the next term's fence is greater."""
    async with cluster(1, directory=tmp_path) as (a,), a.mailbox() as me:
        first = await a.lead(NAME)
        await a.resign(NAME)
        assert not a.is_leader(NAME)
        with pytest.raises(NoLeader):
            a.leader(NAME)
        with pytest.raises(NotLeader):
            a.fence(NAME)
        assert me.drain() == []
        second = await a.lead(NAME)
        assert first.fence is not None
        assert second.fence is not None
        assert second.fence > first.fence


async def test_two_nodes_agree_and_the_other_takes_over(tmp_path: Path) -> None:
    async with (
        cluster(2, directory=tmp_path) as (a, b),
        a.mailbox() as of_a,
        b.mailbox() as of_b,
    ):
        first = await b.lead(NAME, pid=of_b.pid)
        assert first.fence is not None
        await eventually(lambda: a.high_water(NAME) == first.fence)
        assert a.leader(NAME) == (b.name, of_b.pid)
        second = await a.lead(NAME, pid=of_a.pid)
        assert second.fence is not None
        assert second.fence > first.fence
        assert await of_b.receive(timeout=5) == Revoked(NAME)
        assert not b.is_leader(NAME)
        assert b.leader(NAME) == (a.name, of_a.pid)
        await a.resign(NAME)
        elected = await of_b.receive(timeout=5)
        assert elected == Elected(NAME, b.fence(NAME))
        assert elected.fence > second.fence
