"""An ICMP error ends the dial it is about, whatever the family, and leaves nothing."""

from __future__ import annotations

import asyncio
import socket

import pytest

from barrel_p2p.carrier.connection import ClosedBy
from barrel_p2p.errors import PeerUnreachable
from barrel_p2p.quic.settings import EngineSettings
from tests.endpoints import (
    HOST,
    HOST6,
    endpoint,
    eventually,
    within,
)
from tests.tools import require_ipv6

PATIENT = EngineSettings(handshake_timeout_ms=60_000, idle_timeout_ms=60_000)


def closed_ports(count: int, host: str = HOST) -> list[int]:
    """Ports of ``host`` that nobody listens to any more."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockets = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(count)]
    for one in sockets:
        one.bind((host, 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


async def test_it_is_so_over_ipv6_and_from_a_wildcard_address() -> None:
    require_ipv6()
    for bound, host in ((HOST6, HOST6), ("::", HOST6), ("0.0.0.0", HOST)):
        async with endpoint(PATIENT, host=bound) as near:
            (port,) = closed_ports(1, host)
            with pytest.raises(PeerUnreachable, match=ClosedBy.UNREACHABLE):
                await within(near.connect(host, port))


async def test_a_crowd_of_dead_ports_leaves_nothing_behind() -> None:
    async with endpoint(PATIENT) as near:
        dials = [near.connect(HOST, port) for port in closed_ports(100)]
        outcomes = await within(asyncio.gather(*dials, return_exceptions=True))
        assert {type(outcome) for outcome in outcomes} == {PeerUnreachable}
        await eventually(lambda: near.connections == frozenset())
        await eventually(lambda: near.stats().connections + near.stats().half_open == 0)
