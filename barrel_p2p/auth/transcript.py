"""What a signature and a proof cover: everything that makes a handshake this one.

A signature over less can be carried elsewhere: to the other leg of a relay, back to its
maker, into a session with another version. So the transcript names the protocol and the
signer's role, repeats all that both nodes said, and ends with the certificate and a
value that only the two ends of one TLS connection share. Each part stands behind its
length, so that no byte can move from one field to the next.

Source: docs/reference/wire.md, "Handshake"; RFC 9266 and RFC 5929 (channel bindings).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from barrel_p2p.auth.messages import Challenge, Hello

__all__ = [
    "EXPORTER_BYTES",
    "EXPORTER_LABEL",
    "HASH_BYTES",
    "LABEL",
    "Exchange",
    "Role",
    "is_proof",
    "proof",
    "transcript",
]

LABEL: Final = b"barrel_p2p/auth/v1"
"""First part of every transcript. Nothing else we sign begins like it."""

EXPORTER_LABEL: Final = "EXPORTER-barrel_p2p/auth/v1"
"""The TLS exporter label; its context is empty."""

EXPORTER_BYTES: Final = 32
HASH_BYTES: Final = 32


class Role(IntEnum):
    """Which end of the connection a node is."""

    DIALLER = 1
    ACCEPTOR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """All that both sides said before they prove it, and what binds it to TLS.

    Args:
        protocol: The version chosen, 1 to 65,535.
        dialler: The dialler's HELLO.
        acceptor: The acceptor's HELLO.
        dialler_challenge: The dialler's CHALLENGE.
        acceptor_challenge: The acceptor's CHALLENGE.
        certificate_hash: SHA-256 of the acceptor's certificate in DER.
        exporter: ``EXPORTER_BYTES`` bytes of keying material of the connection.
    """

    protocol: int
    dialler: Hello
    acceptor: Hello
    dialler_challenge: Challenge
    acceptor_challenge: Challenge
    certificate_hash: bytes
    exporter: bytes


def transcript(exchange: Exchange, signer: Role) -> bytes:
    """The bytes that ``signer`` signs."""
    dialler, acceptor = exchange.dialler, exchange.acceptor
    asked, answered = exchange.dialler_challenge, exchange.acceptor_challenge
    parts = [
        LABEL,
        bytes([signer]),
        exchange.protocol.to_bytes(2),
        _range(dialler),
        _range(acceptor),
        # The two are equal, or nobody would sign.
        bytes([dialler.mode]),
        bytes([acceptor.mode]),
        dialler.name.encode("ascii"),
        acceptor.name.encode("ascii"),
        dialler.public_key,
        acceptor.public_key,
        asked.nonce,
        answered.nonce,
        asked.wall_ms.to_bytes(8),
        answered.wall_ms.to_bytes(8),
        exchange.certificate_hash,
        exchange.exporter,
    ]
    return b"".join(len(part).to_bytes(2) + part for part in parts)


def proof(cookie_key: bytes, exchange: Exchange, prover: Role) -> bytes:
    """What shows, in this handshake only, that ``prover`` knows the cookie."""
    covered = hashlib.sha256(transcript(exchange, prover)).digest()
    return hmac.digest(cookie_key, bytes([prover]) + covered, "sha256")


def is_proof(cookie_key: bytes, exchange: Exchange, prover: Role, shown: bytes) -> bool:
    """Whether ``shown`` is the proof of ``prover``, found out in constant time."""
    return hmac.compare_digest(proof(cookie_key, exchange, prover), shown)


def _range(hello: Hello) -> bytes:
    return hello.protocol_min.to_bytes(2) + hello.protocol_max.to_bytes(2)
