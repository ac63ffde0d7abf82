"""The systems that ``bench.messages`` drives side by side, one small file each.

Every peer offers calls and one-way messages through the interfaces of
``bench.message_peers.adapter`` and is used the way its own documentation suggests, with
its own defaults unless its docstring says otherwise. Each runs as two processes, a
server and a client, on loopback, and a broker where the system needs one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.message_peers.adapter import Peer

__all__ = ["PEERS", "PeerMissing", "load"]

PEERS = ("tcp", "grpc", "pyzmq", "nats", "casty", "xoscar", "barrel")
"""Names of all systems, in the order in which a round runs them."""


class PeerMissing(Exception):
    """A system cannot take part here; the text says what it lacks."""


def load(name: str) -> type[Peer]:
    """Return the adapter class of ``name``; only that system's packages are imported.

    Raises:
        ValueError: ``name`` is not in ``PEERS``.
        PeerMissing: Its package or its broker is not installed.
    """
    if name not in PEERS:
        raise ValueError(f"unknown system {name!r}, one of {', '.join(PEERS)}")
    try:
        peer: type[Peer] = import_module(f"bench.message_peers.{name}").PEER
    except ImportError as error:
        raise PeerMissing(f"cannot be imported: {error}") from error
    peer.check()
    return peer
