"""The chain that a configuration asks for."""

from __future__ import annotations

from pathlib import Path

from barrel_p2p.config import Config
from barrel_p2p.core.clock import Clock
from barrel_p2p.discovery.backend import Discovery
from barrel_p2p.discovery.chain import Chain
from barrel_p2p.discovery.dns import PORT_DEFAULT, DnsDiscovery
from barrel_p2p.discovery.file import FileDiscovery
from barrel_p2p.discovery.static import StaticDiscovery
from barrel_p2p.errors import ConfigError, InvalidValue

__all__ = ["chain_of"]


def chain_of(config: Config, *, clock: Clock) -> Chain:
    """Build the back-ends that ``discovery_backends`` names, in its order.

    ``discovery_dir`` is relative to the working directory, so that nodes of one host
    find each other. DNS assumes ``listen_port``, or ``PORT_DEFAULT`` if that is 0.

    Raises:
        ConfigError: ``nodes`` holds something that is no address.
    """
    options = {
        "discovery_dir": config.discovery_dir,
        "dns_servers": config.dns_servers,
        "listen_port": config.listen_port,
        "nodes": config.nodes,
    }
    backends = [_backend(item, config, clock) for item in config.discovery_backends]
    return Chain(backends, clock=clock, options=options)


def _backend(item: object, config: Config, clock: Clock) -> Discovery:
    match item:
        case "static":
            try:
                return StaticDiscovery(config.nodes)
            except InvalidValue as error:
                raise ConfigError(f"nodes: {error}", hint=error.hint) from error
        case "file":
            return FileDiscovery(Path(config.discovery_dir), clock=clock)
        case "dns":
            port = config.listen_port or PORT_DEFAULT
            return DnsDiscovery(port=port, servers=config.dns_servers)
        case Discovery():
            return item
        case _:
            raise ConfigError(
                f"a {type(item).__name__} is no discovery back-end",
                hint="it needs init, register, lookup and list_nodes",
            )
