"""Which address to give to others: bound here, reached there."""

from __future__ import annotations

import ipaddress

from barrel_p2p.core.names import Address, host_of
from barrel_p2p.discovery.backend import checked_address

__all__ = ["advertised_address"]


def advertised_address(
    name: str,
    *,
    bind_host: str,
    bound_port: int,
    advertise_host: str | None = None,
    advertise_port: int | None = None,
) -> Address:
    """Where other nodes are told to find this one.

    Args:
        name: This node's name.
        bind_host: What the socket is bound to.
        bound_port: The port it really has.
        advertise_host: What others are told; None is ``bind_host``, unless that is a
            wildcard, which nobody can dial: then it is the host part of ``name``.
        advertise_port: What others are told; None is ``bound_port``.

    Raises:
        InvalidValue: What comes of it is no address.
    """
    host = advertise_host or (host_of(name) if _is_wildcard(bind_host) else bind_host)
    return checked_address(Address(name, host, advertise_port or bound_port))


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
