"""A directory that nodes share, with one small file for each.

``<directory>/<node>.endpoint`` is a JSON object with ``host``, ``port`` and
``written_at`` (wall-clock milliseconds). It is written whole or not at all. Whoever can
write to the directory can send dials astray, and no more: a node proves who it is.

A node that is killed leaves its file behind, so an entry counts for ``FRESH_MS`` only,
and a node that lives longer publishes again every ``REFRESH_MS``.

Bounded by ``ENDPOINT_BYTES_MAX`` and ``ENTRIES_MAX``. Reads and writes happen on the
event loop: the directory belongs on a file system that answers.

Source: Barrel P2P documentation, "Discovery" (file).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, ClassVar, final

import msgspec

from barrel_p2p.core.clock import WallClock
from barrel_p2p.core.names import Address, host_of, node_name
from barrel_p2p.discovery.backend import checked_address
from barrel_p2p.errors import BarrelError, InvalidValue, StorageError
from barrel_p2p.storage.files import PUBLIC_MODE, read_file, remove_file, write_atomic

__all__ = [
    "ENDPOINT_BYTES_MAX",
    "ENTRIES_MAX",
    "FRESH_MS",
    "REFRESH_MS",
    "FileDiscovery",
]

ENDPOINT_BYTES_MAX = 4_096
ENTRIES_MAX = 10_000
FRESH_MS = 24 * 3_600_000
REFRESH_MS = 3_600_000

_SUFFIX = ".endpoint"


class _Endpoint(msgspec.Struct, frozen=True):
    host: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    written_at: Annotated[int, msgspec.Meta(ge=0, le=2**53)]


@final
class FileDiscovery:
    """Endpoints in files.

    Args:
        directory: Made on the first write if it does not exist.
        clock: Dates what is written, and tells what is stale.
    """

    name: ClassVar[str] = "dir"
    publishes: ClassVar[bool] = True

    def __init__(self, directory: Path, *, clock: WallClock) -> None:
        self._directory = directory
        self._clock = clock
        self._written: dict[str, bytes] = {}  # node -> what we last put in its file

    def init(self, opts: Mapping[str, object]) -> None:
        """Nothing to do: the directory came with the constructor."""

    async def register(self, node: str, host: str, port: int) -> None:
        """Write the file of ``node``, over whatever is there.

        Raises:
            InvalidValue: ``node``, ``host`` or ``port`` is none.
            StorageError: The file could not be written.
        """
        address = checked_address(Address(node, host, port))
        path = self._path(node)
        data = msgspec.json.encode(
            _Endpoint(address.host, address.port, self._clock.wall_ms())
        )
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot create {self._directory}: {error.strerror}",
                hint="discovery_dir must be writable",
            ) from error
        write_atomic(path, data, mode=PUBLIC_MODE)
        self._written[node] = data

    async def lookup(self, node: str) -> Address | None:
        """What the file of ``node`` says.

        Raises:
            InvalidValue: ``node`` is no node name.
            StorageError: The file is stale, malformed or cannot be read.
        """
        path = self._path(node)
        return self._read(node, path) if _exists(path) else None

    async def list_nodes(self, host: str) -> list[Address]:
        """The fresh and well-formed entries of nodes on ``host``, or all when empty.

        Raises:
            StorageError: The directory cannot be read.
        """
        found, _ = self.scan()
        return [a for a in found if host in ("", host_of(a.name))]

    async def withdraw(self, node: str) -> None:
        """Remove the file of ``node``, unless somebody has written to it since.

        Raises:
            StorageError: The file cannot be read or removed.
        """
        written = self._written.pop(node, None)
        if written is None:
            return
        path = self._path(node)
        if not _exists(path):
            return
        if read_file(path, bytes_max=ENDPOINT_BYTES_MAX) == written:
            remove_file(path)

    def scan(self) -> tuple[list[Address], list[str]]:
        """Read the first ``ENTRIES_MAX`` names in the directory.

        Returns:
            What is fresh and well-formed, by name; and why the rest is not.

        Raises:
            StorageError: The directory cannot be read.
        """
        found: list[Address] = []
        problems: list[str] = []
        for name in self._file_names():
            try:
                node = _node_of(name)
                found.append(self._read(node, self._directory / name))
            except BarrelError as error:
                problems.append(str(error))
        return sorted(found), problems

    def _file_names(self) -> list[str]:
        try:
            with os.scandir(self._directory) as entries:
                names = [entry.name for entry in islice(entries, ENTRIES_MAX)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(
                f"cannot list {self._directory}: {error.strerror}"
            ) from error
        return sorted(name for name in names if name.endswith(_SUFFIX))

    def _path(self, node: str) -> Path:
        # A node name holds no separator and does not start with a dot; a name that
        # somebody else made up might.
        if node_name(node) != node:
            raise InvalidValue(f"node name {node!r} is not in lower case")
        return self._directory / f"{node}{_SUFFIX}"

    def _read(self, node: str, path: Path) -> Address:
        data = read_file(path, bytes_max=ENDPOINT_BYTES_MAX)
        try:
            endpoint = msgspec.json.decode(data, type=_Endpoint)
            address = checked_address(Address(node, endpoint.host, endpoint.port))
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise StorageError(f"{path.name} is malformed: {error}") from error
        except InvalidValue as error:
            raise StorageError(f"{path.name} is malformed: {error}") from error
        age_ms = self._clock.wall_ms() - endpoint.written_at
        if abs(age_ms) > FRESH_MS:
            when = "ago" if age_ms > 0 else "ahead of our clock"
            raise StorageError(
                f"{path.name} is stale: written {abs(age_ms) // 3_600_000} h {when}",
                hint=f"if the node is gone, remove {path}",
            )
        return address


def _exists(path: Path) -> bool:
    return os.path.lexists(path)  # A dangling link is something, and refused later.


def _node_of(file_name: str) -> str:
    node = file_name.removesuffix(_SUFFIX)
    try:
        if node_name(node) == node:
            return node
    except InvalidValue:
        pass
    raise StorageError(f"{file_name!r} is not called after a node")
