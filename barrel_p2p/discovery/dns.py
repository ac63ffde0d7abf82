"""The host part of a node's name, asked of DNS.

An address literal is taken as it is; a name in the hosts file comes next. Then SRV
records of ``_barrel-p2p._udp.<host>``, which carry a port each, and where there are
none, A and AAAA records with the port that all nodes are assumed to share.

Bounded by ``ADDRESSES_MAX``, ``TARGETS_MAX`` and ``HOSTS_BYTES_MAX``.

Source: RFC 2782 (SRV); RFC 6761, 6.3 (localhost).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, final

from barrel_p2p.core.names import Address, host_of, node_name
from barrel_p2p.discovery.backend import checked_address
from barrel_p2p.errors import PeerUnreachable, StorageError
from barrel_p2p.storage.files import read_file

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver
    from dns.nameserver import Nameserver

__all__ = [
    "ADDRESSES_MAX",
    "HOSTS_BYTES_MAX",
    "PORT_DEFAULT",
    "SERVICE",
    "TARGETS_MAX",
    "DnsDiscovery",
]

ADDRESSES_MAX = 16
HOSTS_BYTES_MAX = 1_048_576
PORT_DEFAULT = 9_100
SERVICE = "_barrel-p2p._udp"
TARGETS_MAX = 8

_HOSTS_FILE = Path("/etc/hosts")
_LOCALHOST = ("127.0.0.1", "::1")


@final
class DnsDiscovery:
    """Addresses from DNS.

    Args:
        port: Assumed where no SRV record says another one.
        servers: Name servers as ``host:port`` or ``[host]:port``; empty for the
            system's.
        timeout_ms: Longest that one question is asked, over all servers and retries.
        hosts_file: Read on every lookup; None for none.
    """

    name: ClassVar[str] = "dns"
    publishes: ClassVar[bool] = False

    def __init__(
        self,
        *,
        port: int = PORT_DEFAULT,
        servers: Sequence[str] = (),
        timeout_ms: int = 2_500,
        hosts_file: Path | None = _HOSTS_FILE,
    ) -> None:
        self._port = port
        self._servers = tuple(servers)
        self._timeout_ms = timeout_ms
        self._hosts_file = hosts_file
        self._made: Resolver | None = None

    def init(self, opts: Mapping[str, object]) -> None:
        """Nothing to do: everything came with the constructor."""

    async def register(self, node: str, host: str, port: int) -> None:
        """Nothing to do: a zone is not ours to write."""

    async def list_nodes(self, host: str) -> list[Address]:
        """Nothing: DNS knows hosts, not the nodes on them."""
        return []

    async def lookup(self, node: str) -> Address | None:
        """The first of ``lookup_all``, or None.

        Raises:
            InvalidValue: ``node`` is no node name.
            PeerUnreachable: No name server gave an answer.
        """
        found = await self.lookup_all(node)
        return found[0] if found else None

    async def lookup_all(self, node: str) -> list[Address]:
        """Up to ``ADDRESSES_MAX`` addresses, IPv4 before IPv6 for each host.

        Raises:
            InvalidValue: ``node`` is no node name.
            PeerUnreachable: No name server gave an answer.
        """
        host = host_of(node_name(node))
        if known := self._without_dns(host):
            places = [(address, self._port) for address in known]
        else:
            places = await self._ask(host)
        return [
            checked_address(Address(node, address, port))
            for address, port in islice(places, ADDRESSES_MAX)
        ]

    def _without_dns(self, host: str) -> list[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            return self._from_hosts_file(host) or (
                list(_LOCALHOST) if host == "localhost" else []
            )

    def _from_hosts_file(self, host: str) -> list[str]:
        if self._hosts_file is None:
            return []
        try:
            data = read_file(self._hosts_file, bytes_max=HOSTS_BYTES_MAX)
        except StorageError:
            return []  # As for the system's own resolver, no file is an empty one.
        found = []
        for line in data.decode("utf-8", errors="replace").splitlines():
            words = line.partition("#")[0].lower().split()
            if host in words[1:] and _is_address(words[0]):
                found.append(words[0])
        return sorted(found, key=lambda address: ":" in address)

    async def _ask(self, host: str) -> list[tuple[str, int]]:
        services, addresses = await asyncio.gather(
            self._services(host), self._addresses(host), return_exceptions=True
        )
        if isinstance(services, BaseException):
            # Some servers fail on types they do not know: addresses will do.
            services = []
        if services:
            return services
        if isinstance(addresses, BaseException):
            raise addresses
        return [(address, self._port) for address in addresses]

    async def _services(self, host: str) -> list[tuple[str, int]]:
        records = await self._records(f"{SERVICE}.{host}", "SRV")
        found = sorted(
            (int(priority), -int(weight), int(port), target.rstrip("."))
            for priority, weight, port, target in (text.split() for text in records)
            # A lone dot means that there is decidedly no such service.
            if target != "." and int(port) > 0
        )[:TARGETS_MAX]
        answers = await asyncio.gather(
            *(self._addresses(target) for *_, target in found), return_exceptions=True
        )
        return [
            (address, port)
            for (_, _, port, _), addresses in zip(found, answers, strict=True)
            if not isinstance(addresses, BaseException)
            for address in addresses
        ]

    async def _addresses(self, host: str) -> list[str]:
        v4, v6 = await asyncio.gather(
            self._records(host, "A"),
            self._records(host, "AAAA"),
            return_exceptions=True,
        )
        found = [
            record
            for records in (v4, v6)
            if not isinstance(records, BaseException)
            for record in records
        ]
        if not found:
            for records in (v4, v6):
                if isinstance(records, BaseException):
                    raise records
        return found

    async def _records(self, host: str, kind: str) -> list[str]:
        """The data of the records of one kind, as text; none is no error."""
        import dns.exception
        import dns.resolver

        try:
            answer = await self._resolver().resolve(
                host, kind, raise_on_no_answer=False, search=True
            )
        except dns.resolver.NXDOMAIN:
            return []
        except dns.resolver.LifetimeTimeout as error:
            raise PeerUnreachable(
                f"no answer for {kind} {host} within {self._timeout_ms} ms"
            ) from error
        except (dns.exception.DNSException, OSError) as error:
            raise PeerUnreachable(f"{kind} {host}: {error}") from error
        return [record.to_text() for record in islice(answer, ADDRESSES_MAX)]

    def _resolver(self) -> Resolver:
        # Imported late: it takes longer than all the rest of this room.
        import dns.asyncresolver
        import dns.nameserver
        import dns.resolver

        if self._made is not None:
            return self._made
        try:
            made = dns.asyncresolver.Resolver(configure=not self._servers)
        except dns.resolver.NoResolverConfiguration as error:
            raise PeerUnreachable(
                f"the system names no name server: {error}",
                hint="set dns_servers, or mend /etc/resolv.conf",
            ) from error
        if self._servers:
            made.nameservers = [_server(text) for text in self._servers]
        made.lifetime = self._timeout_ms / 1_000
        self._made = made
        return made


def _server(text: str) -> Nameserver:
    import dns.nameserver

    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    return dns.nameserver.Do53Nameserver(host, int(port))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
