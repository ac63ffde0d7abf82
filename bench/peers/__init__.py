"""The systems that ``bench.transport`` drives side by side, one small file each.

Every peer speaks through the same two interfaces of ``bench.peers.adapter`` and is used
the way its own documentation suggests, with its own defaults unless its docstring says
otherwise. Each runs as two processes, a server and a client, on loopback.
"""

from __future__ import annotations

from importlib import import_module

from bench.peers.adapter import Peer

__all__ = ["PEERS", "load"]

PEERS = ("udp", "tcp", "tls", "aiopquic", "aioquic", "barrel")
"""Names of all systems, in the order in which a round runs them."""


def load(name: str) -> type[Peer]:
    """Return the adapter class of ``name``; only that system's packages are imported.

    Raises:
        ValueError: ``name`` is not in ``PEERS``.
        ImportError: Its package is not installed or not built.
    """
    if name not in PEERS:
        raise ValueError(f"unknown system {name!r}, one of {', '.join(PEERS)}")
    peer: type[Peer] = import_module(f"bench.peers.{name}").PEER
    return peer
