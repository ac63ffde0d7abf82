"""An ICMP error ends the dial it is about, whatever the family, and leaves nothing."""

from __future__ import annotations

import asyncio

import pytest

from barrel_p2p.carrier.connection import ClosedBy
from barrel_p2p.errors import PeerUnreachable
from barrel_p2p.quic.settings import EngineSettings
from tests.endpoints import (
    HOST,
    HOST6,
    closed_ports,
    endpoint,
    eventually,
    within,
)
from tests.tools import require_ipv6

PATIENT = EngineSettings(handshake_timeout_ms=60_000, idle_timeout_ms=60_000)


async def test_it_is_so_over_ipv6_and_from_a_wildcard_address() -> None:
    require_ipv6()
    for bound, host in ((HOST6, HOST6), ("::", HOST6), ("0.0.0.0", HOST)):
        async with endpoint(PATIENT, host=bound) as near:
            with (
                closed_ports(1, host) as [address],
                pytest.raises(PeerUnreachable, match=ClosedBy.UNREACHABLE),
            ):
                await within(near.connect(*address))


async def test_a_crowd_of_dead_ports_leaves_nothing_behind() -> None:
    with closed_ports(100) as addresses:
        async with endpoint(PATIENT) as near:
            dials = [near.connect(*address) for address in addresses]
            outcomes = await within(asyncio.gather(*dials, return_exceptions=True))
            assert {type(outcome) for outcome in outcomes} == {PeerUnreachable}
            await eventually(lambda: near.connections == frozenset())
            stats = near.stats
            await eventually(lambda: stats().connections + stats().half_open == 0)
