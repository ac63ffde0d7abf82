"""A ticket of an earlier session opens nothing, whatever early data comes with it.

The hostile client is aioquic, a QUIC implementation that shares no code with ours.
"""

from __future__ import annotations

import ssl

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent
from aioquic.tls import SessionTicket

from barrel_p2p.quic.settings import ALPN
from tests.endpoints import within
from tests.victims import Victim, victim

FIRST = b"first"
EARLY = b"early"
REPLAYS = 3
EARLY_DATA_MAX = 0xFFFFFFFF  # the only size that QUIC allows, RFC 9001, 4.6.1


class Client(QuicConnectionProtocol):
    """Keeps how its connection ended."""

    ended: ConnectionTerminated | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        super().quic_event_received(event)
        if isinstance(event, ConnectionTerminated):
            self.ended = event


def configuration(ticket: SessionTicket | None = None) -> QuicConfiguration:
    return QuicConfiguration(
        alpn_protocols=[ALPN],
        verify_mode=ssl.CERT_NONE,
        server_name="victim",
        session_ticket=ticket,
    )


async def first_visit(target: Victim) -> list[SessionTicket]:
    """An honest session with bytes both ways; the tickets that it leaves."""
    tickets: list[SessionTicket] = []
    async with connect(
        *target.address,
        configuration=configuration(),
        session_ticket_handler=tickets.append,
    ) as protocol:
        reader, writer = await protocol.create_stream()
        writer.write(FIRST)
        assert await within(reader.readexactly(len(FIRST))) == FIRST
        writer.close()
    return tickets


async def return_visit(target: Victim, ticket: SessionTicket) -> Client:
    """Come back with a ticket and early data; returns once it is over."""
    async with connect(
        *target.address,
        configuration=configuration(ticket),
        create_protocol=Client,
        wait_connected=False,
    ) as protocol:
        assert isinstance(protocol, Client)
        _, writer = await protocol.create_stream()
        writer.write(EARLY)
        writer.close()
        await within(protocol.wait_closed())
    return protocol


async def test_early_data_is_never_delivered_and_a_ticket_opens_nothing() -> None:
    """A9: no byte without a full handshake, however often a ticket is replayed."""
    async with victim() as target:
        tickets = await first_visit(target)
        before = await target.until("connections", 0, 0)
        assert before["stream_bytes"] == len(FIRST)
        for ticket in tickets * REPLAYS:
            ticket.max_early_data_size = EARLY_DATA_MAX
            client = await return_visit(target, ticket)
            assert client.ended is not None
            assert client.ended.error_code != 0
        after = await target.until("half_open", 0, 0)
        for count in ("accepted", "accepted_streams", "stream_bytes"):
            assert after[count] == before[count]
        # A full handshake of the same client is as welcome as ever.
        await first_visit(target)
        assert (await target.counts())["accepted"] == before["accepted"] + 1
