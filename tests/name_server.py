"""A name server on loopback, for tests of what is asked of DNS and believed.

It answers from a dict of zone-file lines; a name that is not there does not exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

__all__ = ["SILENCE", "NameServer", "name_server"]

# In place of an answer: none at all.
SILENCE = b""

_TTL_S = 1


class NameServer(asyncio.DatagramProtocol):
    """Answers questions; ``asked`` holds them as (name, type)."""

    def __init__(self, zone: dict[tuple[str, str], list[str] | bytes]) -> None:
        self.zone = zone
        self.asked: list[tuple[str, str]] = []
        self.text = ""
        self.transport: asyncio.DatagramTransport | None = None

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        kind = question.rdtype.name
        self.asked.append((name, kind))
        answer = self.zone.get((name, kind))
        if isinstance(answer, bytes):
            if answer != SILENCE:
                self._send(data[:2] + answer, addr)
            return
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if answer:
            response.answer.append(
                dns.rrset.from_text_list(question.name, _TTL_S, "IN", kind, answer)
            )
        elif not any(known == name for known, _ in self.zone):
            response.set_rcode(dns.rcode.NXDOMAIN)
        self._send(response.to_wire(), addr)

    def _send(self, data: bytes, addr: tuple[str | object, int]) -> None:
        assert self.transport is not None
        self.transport.sendto(data, addr)


@asynccontextmanager
async def name_server(
    zone: dict[tuple[str, str], list[str] | bytes],
) -> AsyncIterator[NameServer]:
    """Serve ``zone`` on a loopback port of its own; ``text`` says which."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: NameServer(zone), local_addr=("127.0.0.1", 0)
    )
    host, port = transport.get_extra_info("sockname")[:2]
    protocol.transport = transport
    protocol.text = f"{host}:{port}"
    try:
        yield protocol
    finally:
        transport.close()
