"""All stores of one node: opened by path, watched, and closed together.

In a simulation something else stands in its place; ``Stores`` is what both offer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from typing import Final, Protocol, final
from urllib.parse import quote

from xxhash import xxh3_128_hexdigest

from barrel_p2p.core.hlc import HLC
from barrel_p2p.storage.committer import Committer
from barrel_p2p.storage.database import log_path
from barrel_p2p.storage.files import remove_file
from barrel_p2p.storage.replica_log import Log, ReplicaLog

__all__ = ["DiskStores", "StoreFolder", "Stores", "store_file_name"]

_FILE_NAME_BYTES_MAX: Final = 200
_HASHED_CHARS: Final = 160

_log = logging.getLogger("barrel_p2p.storage")


def store_file_name(name: str) -> str:
    """The file name for the store of ``name``: that, percent-encoded, with ``.db``.

    Of a name that is too long for a file the first part and a hash stand there.
    """
    encoded = quote(name, safe="", errors="surrogatepass")
    if len(encoded) > _FILE_NAME_BYTES_MAX:
        mark = xxh3_128_hexdigest(name.encode(errors="surrogatepass"))
        encoded = f"{encoded[:_HASHED_CHARS]}+{mark}"  # quote() leaves no plus.
    return f"{encoded}.db"


class Stores(Protocol):
    """Where the rooms of a node get their stores."""

    def open(self, path: Path, *, store: str) -> Awaitable[Log]:
        """Open the store at ``path``, or make it; see ``ReplicaLog.open``."""
        ...

    def remove(self, path: Path) -> Awaitable[None]:
        """Remove the files of a store that is not open, if there are any."""
        ...

    def opened(self) -> list[Log]:
        """The stores that are open, in the order in which they were opened."""
        ...

    async def close(self) -> None:
        """Close them all."""


@final
class DiskStores:
    """The stores of one node on its disk.

    Args:
        node: Its name.
        committer: Commits for all of them. Its owner closes it.
        hlc: The node's clock.
    """

    def __init__(self, node: str, *, committer: Committer, hlc: HLC) -> None:
        self._node = node
        self._committer = committer
        self._hlc = hlc
        self._opened: dict[Path, ReplicaLog] = {}

    async def open(self, path: Path, *, store: str) -> Log:
        """Open the store at ``path``, or make it.

        Args:
            path: The file; its directory is made if it is missing.
            store: What the store is called; kept in it, and compared.

        Raises:
            StoreCorrupt: The file is no whole store. It was left as it is.
            Conflict: It is open already.
            StorageError: It cannot be opened, is another's, or others have access.
        """
        log = await ReplicaLog.open(
            path,
            store=store,
            node=self._node,
            committer=self._committer,
            hlc=self._hlc,
        )
        self._opened[path] = log
        log.listen(self._state_changed)
        return log

    async def remove(self, path: Path) -> None:
        """Remove the files of a store that is not open, if there are any.

        Raises:
            StorageError: A file could not be removed.
        """
        for file in (log_path(path), path):
            await self._committer.run_on_disk(partial(remove_file, file))

    def opened(self) -> list[Log]:
        """The stores that are open, in the order in which they were opened."""
        return list(self._opened.values())

    async def close(self) -> None:
        """Close them all. Idempotent."""
        await asyncio.gather(*(log.close() for log in self.opened()))

    def _state_changed(self, log: ReplicaLog) -> None:
        if log.state == "closed":
            self._opened.pop(log.path, None)
        elif log.state == "degraded":
            _log.error(
                "%s: store %r is degraded: %s",
                self._node,
                log.name,
                log.fault,
                extra={"event": "store_degraded", "node": self._node},
            )
        else:
            _log.warning(
                "%s: store %r takes writes again",
                self._node,
                log.name,
                extra={"event": "store_open", "node": self._node},
            )


@final
class StoreFolder:
    """Stores that one room keeps in a directory of its own, by their names.

    Args:
        stores: All of the node's.
        directory: Theirs.
        kind: Stands before their names inside the files, so that the file of a map is
            not taken for something else's.
    """

    def __init__(self, stores: Stores, directory: Path, kind: str) -> None:
        self._stores = stores
        self._directory = directory
        self._kind = kind

    async def open(self, name: str) -> Log:
        """Open the store of ``name``, or make it; see ``DiskStores.open``."""
        return await self._stores.open(self._file(name), store=f"{self._kind}/{name}")

    async def delete(self, name: str) -> None:
        """Remove the files of a store that is not open, if there are any."""
        await self._stores.remove(self._file(name))

    def _file(self, name: str) -> Path:
        return self._directory / store_file_name(name)
