"""What is known to be weak, so that attacks can be shown to work where they should."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from barrel_p2p.auth import machine as machine_module
from barrel_p2p.auth import transcript as transcript_module
from barrel_p2p.auth.machine import Handshake, Role
from barrel_p2p.auth.transcript import Exchange

__all__ = ["unbound", "version_2", "weakened"]


def version_2(exchange: Exchange, signer: Role) -> bytes:
    """What the documentation has a node sign."""
    dialled = signer is Role.DIALLER
    asked = exchange.acceptor_challenge if dialled else exchange.dialler_challenge
    key = exchange.dialler.public_key if dialled else exchange.acceptor.public_key
    return asked.nonce + asked.wall_ms.to_bytes(8) + key + exchange.certificate_hash


def unbound(exchange: Exchange, signer: Role) -> bytes:
    """The same without the certificate."""
    return version_2(exchange, signer)[:-32]


@contextmanager
def weakened(weak: Callable[[Exchange, Role], bytes]) -> Iterator[None]:
    """Sign ``weak`` instead, prove no cookie, and let a node meet itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine_module, "transcript", weak)
        patch.setattr(transcript_module, "transcript", weak)
        patch.setattr(machine_module, "is_proof", lambda *_: True)
        patch.setattr(Handshake, "_name_fault", lambda *_: None)
        yield
