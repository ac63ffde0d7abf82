"""The part of the boot order that opens the disk for rooms that keep something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from barrel_p2p.storage.committer import Committer
from barrel_p2p.storage.files import remove_leftovers
from barrel_p2p.storage.stores import DiskStores, StoreFolder, Stores

if TYPE_CHECKING:
    from pathlib import Path

    from barrel_p2p.node.parts import Parts

__all__ = ["map_files", "reminder_file", "store"]


@asynccontextmanager
async def store(parts: Parts) -> AsyncIterator[None]:
    """Commit for the stores of the node; close them at the end.

    A simulation has put its own in the place before.
    """
    given: Stores | None = parts.stores
    if given is not None:
        yield
        return
    loop = asyncio.get_running_loop()
    for directory in (_maps(parts), reminder_file(parts).parent):
        if directory.is_dir():
            await loop.run_in_executor(parts.disk, remove_leftovers, directory)
    committer = Committer(parts.disk, loop)
    parts.stores = DiskStores(parts.name, committer=committer, hlc=parts.hlc)
    try:
        yield
    finally:
        await parts.stores.close()
        committer.close()


def map_files(parts: Parts) -> StoreFolder:
    """The files of maps that persist."""
    return StoreFolder(parts.stores, _maps(parts), "map")


def reminder_file(parts: Parts) -> Path:
    """The file of reminders, ``reminders`` being what the store is called."""
    folder = parts.directory.resolve(parts.config.reminder_data_dir)
    return folder / "reminders.db"


def _maps(parts: Parts) -> Path:
    return parts.directory.resolve(parts.config.barrel_p2p_map_data_dir)
