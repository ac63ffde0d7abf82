"""The file in which former peers outlive the process. Whoever wrote it may be wrong.

Bounded by ``FILE_BYTES_MAX`` and ``REMEMBERED_MAX``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from barrel_p2p.core.names import PORT_MAX, Address, node_name
from barrel_p2p.errors import InvalidValue, StorageError
from barrel_p2p.membership.messages import is_wire_host
from barrel_p2p.membership.views import REMEMBERED_MAX
from barrel_p2p.storage.files import read_file, write_atomic

__all__ = ["FILE_BYTES_MAX", "load_peers", "save_peers"]

FILE_BYTES_MAX: Final = 256 * 1024

_FORMAT: Final = 1


class _Peer(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    host: str
    port: int


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    peers: list[_Peer]


def load_peers(path: Path) -> tuple[Address, ...]:
    """The peers in the file; none if there is no file.

    Args:
        path: A private file that ``save_peers`` wrote.

    Raises:
        StorageError: It cannot be read, or holds something else.
    """
    if not os.path.lexists(path):
        return ()
    data = read_file(path, bytes_max=FILE_BYTES_MAX, private=True)
    try:
        found = msgspec.json.decode(data, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(path, str(error)) from error
    if found.format != _FORMAT:
        raise _bad(path, f"format {found.format} is not {_FORMAT}")
    if len(found.peers) > REMEMBERED_MAX:
        count = len(found.peers)
        raise _bad(path, f"{count} peers exceed REMEMBERED_MAX={REMEMBERED_MAX}")
    return tuple([_address(path, peer) for peer in found.peers])


def save_peers(path: Path, peers: Iterable[Address]) -> None:
    """Replace what the file holds.

    Args:
        path: In a directory that exists.
        peers: At most ``REMEMBERED_MAX``.

    Raises:
        StorageError: It could not be written; it holds what it held before.
    """
    rows = [_Peer(peer.name, peer.host, peer.port) for peer in peers]
    write_atomic(path, msgspec.json.encode(_File(_FORMAT, rows)) + b"\n")


def _address(path: Path, peer: _Peer) -> Address:
    try:
        is_name = node_name(peer.name) == peer.name
    except InvalidValue:
        is_name = False
    nowhere = not peer.host and not peer.port
    somewhere = is_wire_host(peer.host) and 1 <= peer.port <= PORT_MAX
    if not is_name or not (nowhere or somewhere):
        raise _bad(path, f"{peer!r} is no node and its address")
    return Address(peer.name, peer.host, peer.port)


def _bad(path: Path, what: str) -> StorageError:
    return StorageError(
        f"{path} does not hold remembered peers: {what[:200]}",
        hint=f"remove {path}: the node then starts from its contact_nodes",
    )
