"""Nodes whose addresses somebody wrote down.

Source: Barrel P2P documentation, "Discovery" (static).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, final

from barrel_p2p.core.names import Address, host_of, node_name
from barrel_p2p.discovery.backend import checked_address
from barrel_p2p.errors import InvalidValue

__all__ = ["NodeEntry", "StaticDiscovery"]

type NodeEntry = str | Address | tuple[str, tuple[str, int]] | tuple[str, str, int]


@final
class StaticDiscovery:
    """A table that never changes.

    Args:
        nodes: Node name to (host, port); or entries, each ``"name@host:port"``, an
            Address, ``(name, (host, port))`` or ``(name, host, port)``.

    Raises:
        InvalidValue: An entry is none of these.
    """

    name: ClassVar[str] = "static"
    publishes: ClassVar[bool] = False

    def __init__(
        self, nodes: Mapping[str, tuple[str, int]] | Iterable[NodeEntry] = ()
    ) -> None:
        entries = nodes.items() if isinstance(nodes, Mapping) else nodes
        addresses = [_address(entry) for entry in entries]
        self._table = {address.name: address for address in addresses}

    def init(self, opts: Mapping[str, object]) -> None:
        """Nothing to do: the table came with the constructor."""

    async def register(self, node: str, host: str, port: int) -> None:
        """Nothing to do: nobody else reads this table."""

    async def lookup(self, node: str) -> Address | None:
        """The entry of exactly this name."""
        return self._table.get(node)

    async def list_nodes(self, host: str) -> list[Address]:
        """The entries whose name ends in ``@host``, or all when that is empty."""
        return [a for a in self._table.values() if host in ("", host_of(a.name))]


def _address(entry: object) -> Address:
    match entry:
        case Address():
            return checked_address(entry)
        case str():
            return Address.parse(entry)
        case (str(name), (str(host), int(port))) | (str(name), str(host), int(port)):
            return checked_address(Address(node_name(name), host, port))
        case _:
            raise InvalidValue(
                f"{entry!r} is no entry of a static table",
                hint="write name@host:port, or (name, (host, port))",
            )
