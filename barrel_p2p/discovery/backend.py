"""What a back-end of discovery can do; applications may bring their own.

A back-end that only looks up may leave ``register`` and ``list_nodes`` empty. Two more
methods are used where they exist: ``lookup_all`` for those who may know several
addresses of one node, and ``withdraw`` for those who keep what was published.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from barrel_p2p.core.names import Address, NodeReference
from barrel_p2p.errors import InvalidValue

__all__ = ["Discovery", "LooksUpAll", "Withdraws", "checked_address"]


@runtime_checkable
class Discovery(Protocol):
    """Anything that knows where nodes listen."""

    def init(self, opts: Mapping[str, object]) -> None:
        """Called once, before anything else.

        Args:
            opts: ``discovery_dir``, ``dns_servers``, ``listen_port`` and ``nodes`` of
                the node's configuration.
        """
        ...

    async def register(self, node: str, host: str, port: int) -> None:
        """Let others know that ``node`` listens on ``host`` and ``port``."""
        ...

    async def lookup(self, node: str) -> Address | None:
        """Where ``node`` listens, or None when there is no entry."""
        ...

    async def list_nodes(self, host: str) -> list[Address]:
        """The nodes known on ``host``, or all when that is empty."""
        ...


@runtime_checkable
class LooksUpAll(Protocol):
    """A back-end that may know several addresses of one node."""

    async def lookup_all(self, node: str) -> list[Address]:
        """Where ``node`` listens, the best address first."""
        ...


@runtime_checkable
class Withdraws(Protocol):
    """A back-end that keeps what was published until it is taken back."""

    async def withdraw(self, node: str) -> None:
        """Take back what ``register`` published, if it is still there."""
        ...


def checked_address(value: object) -> Address:
    """What a back-end gave for an address, checked like a user's.

    Raises:
        InvalidValue: It is none.
    """
    if not isinstance(value, Address):
        raise InvalidValue(f"a {type(value).__name__} is no Address")
    found = NodeReference.parse(value)
    if found.host is None or found.port is None:
        raise InvalidValue(f"{value} is no address")
    return Address(found.name, found.host, found.port)
