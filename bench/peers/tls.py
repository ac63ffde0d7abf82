"""TLS 1.3 over TCP on uvloop: what encrypts a stream in Python without QUIC.

Driven exactly as raw TCP is. OpenSSL's default cipher suites and session tickets; the
client takes any certificate, still checking the handshake's signature, and never
resumes a session, so that every handshake is a full one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from bench.peers.certificate import Certificate, client_context
from bench.peers.tcp import TcpPeer

__all__ = ["PEER", "TlsPeer"]


class TlsPeer(TcpPeer):
    """TCP with an SSL context on either side."""

    name = "tls"
    phases = frozenset({"rtt", "msgs", "bulk", "handshake", "idle"})
    share: ClassVar[Mapping[str, int]] = {"msgs_single": 4, "idle": 2}

    def __init__(self, certificate: Certificate) -> None:
        super().__init__(certificate)
        self.server_context = certificate.server_context()
        self.client_context = client_context()


PEER = TlsPeer
