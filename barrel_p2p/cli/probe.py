"""A node for one command: dials a peer, asks, and is gone.

It is hidden: it publishes no address and takes no commands. Its identity is its own and
stays the same from one command to the next, so that a peer pins it once; with
``ephemeral`` it is new each time, and each time the peer pins another name.

Source: Barrel P2P documentation, "Tooling" (barrel_p2p_call).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from barrel_p2p.config import Config
from barrel_p2p.core.names import NodeReference, node_name
from barrel_p2p.errors import Conflict
from barrel_p2p.node.node import Node
from barrel_p2p.storage.files import read_file, write_atomic

__all__ = ["open_probe", "probe_directory"]

_NAME_FILE: Final = "probe_name"
_NAME_BYTES_MAX: Final = 256
_TURN_S: Final = 0.05


def probe_directory() -> Path:
    """Where the probe's identity is kept: below ``XDG_STATE_HOME``."""
    home = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not home.is_absolute():
        home = Path.home() / ".local" / "state"
    return home / "barrel_p2p" / "probe"


@asynccontextmanager
async def open_probe(
    reference: NodeReference,
    *,
    directory: Path | None = None,
    config_path: Path | None = None,
    ephemeral: bool = False,
    timeout_s: float = 10.0,
) -> AsyncIterator[Node]:
    """A hidden node that can reach ``reference``; it is not dialled yet.

    Args:
        reference: Whom it is for; decides which address it is bound to.
        directory: Where its identity is, instead of the usual place; that of a node
            which does not run lends the node's own.
        config_path: A TOML file with the cluster's cookie and discovery, or None.
        ephemeral: Make a new identity and forget it afterwards.
        timeout_s: Seconds to wait for another command that uses the identity.

    Raises:
        ConfigError: The settings do not allow it, for instance the default cookie
            towards another host.
        Conflict: Another command has used the identity all that time.
    """
    with tempfile.TemporaryDirectory(prefix="barrel-p2p-probe-") as temporary:
        kept = probe_directory() if directory is None else directory
        place = Path(temporary) if ephemeral else kept
        config = Config.load(
            config_path,
            data_dir=str(place),
            auth_key_dir="keys",
            quic_cert_dir="quic",
            bind_host=await _bind_host(reference),
            advertise_host=None,
            advertise_port=None,
            listen_port=0,
        )
        node = await _started(config, place, timeout_s)
        try:
            yield node
        finally:
            await node.stop(drain=1.0)


async def _started(config: Config, directory: Path, timeout_s: float) -> Node:
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + timeout_s
    while True:
        node = Node(_name_in(directory), config, hidden=True)
        try:
            await node.start()
        except Conflict as error:
            # Two with one name would take each other's channel away.
            if loop.time() >= give_up_s:
                error.add_note("another command uses the probe; or say --ephemeral")
                raise
            await asyncio.sleep(_TURN_S)
        else:
            if node.name != directory.name:
                write_atomic(directory / _NAME_FILE, node.name.encode("ascii"))
            return node


def _name_in(directory: Path) -> str:
    """The name that belongs to the keys in ``directory``, or a new one."""
    if "@" in directory.name:
        return node_name(directory.name)
    path = directory / _NAME_FILE
    if os.path.lexists(path):
        return node_name(read_file(path, bytes_max=_NAME_BYTES_MAX).decode("ascii"))
    return f"probe-{secrets.token_hex(8)}@localhost"


async def _bind_host(reference: NodeReference) -> str:
    """The narrowest address from which the peer can be reached."""
    host = reference.host or reference.name.partition("@")[2]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, reference.port or 1, type=socket.SOCK_DGRAM
        )
    except OSError:
        found = []  # The connect will say so, with its other steps.
    addresses = [ipaddress.ip_address(str(each[4][0])) for each in found]
    if not addresses:
        return "127.0.0.1"
    first = addresses[0]
    if first.is_loopback:
        return "127.0.0.1" if first.version == 4 else "::1"
    return "0.0.0.0" if first.version == 4 else "::"
