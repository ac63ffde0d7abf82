"""The one thread that commits for all stores of a node, in groups.

Stores say that something waits; the thread goes round them and takes all that waits for
one into one transaction. So 64 writers share one flush of the disk, and many stores
share one thread. Opening a store and reading it takes longer and has the disk's thread.

Source: Gray, Reuter, "Transaction Processing", 1993 (group commit).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Protocol, final

from barrel_p2p.errors import NotStarted

__all__ = ["Committer", "Waiting"]


class Waiting(Protocol):
    """What the thread commits for."""

    def commit_waiting(self) -> None:
        """Commit what waits now. Runs in the thread. It should raise nothing; what it
        raises goes to the loop's exception handler, and stops no other store.
        """


@final
class Committer:
    """Commits for the stores of one node.

    Args:
        disk: For what takes long: opening and reading stores.
        loop: Where the stores are used; ``__init__`` runs in any thread.
    """

    def __init__(self, disk: Executor, loop: asyncio.AbstractEventLoop) -> None:
        self.disk = disk
        self.loop = loop
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="barrel-p2p-commit")
        self._lock = threading.Lock()
        self._waiting: deque[Waiting] = deque()
        self._running = False
        self._closed = False

    def wake(self, store: Waiting) -> None:
        """Commit for ``store`` soon. A store says so once, until it is committed.

        Raises:
            NotStarted: ``close`` was called.
        """
        with self._lock:
            if self._closed:
                raise NotStarted("the committer is closed")
            self._waiting.append(store)
            if self._running:
                return
            self._running = True
            self._submit(self._round)

    def run[T](self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Run ``job`` in the thread, after the transaction that runs now.

        Raises:
            NotStarted: ``close`` was called.
        """
        if self._closed:
            raise NotStarted("the committer is closed")
        return self.loop.run_in_executor(self._thread, job)

    def run_on_disk[T](self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Run ``job``, which takes long, while others commit."""
        return self.loop.run_in_executor(self.disk, job)

    def tell(self, hear: Callable[[], None]) -> None:
        """Call ``hear`` in the loop. For the thread; a loop that is closed is deaf."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(hear)

    def close(self) -> None:
        """Wait for the transaction that runs, and end the thread. Idempotent."""
        with self._lock:
            self._closed = True
        self._thread.shutdown(wait=True)

    def _submit(self, job: Callable[[], None]) -> None:
        try:
            self._thread.submit(job)
        except RuntimeError as error:
            raise NotStarted("the committer is closed") from error

    def _round(self) -> None:
        """One transaction for each store that waits. Then others have their turn."""
        while True:
            with self._lock:
                stores, self._waiting = self._waiting, deque()
            for store in stores:
                self._commit(store)
            with self._lock:
                self._running = bool(self._waiting)
                if not self._running:
                    return
            # After ``close`` no round can follow, and no store is added to this one.
            with contextlib.suppress(NotStarted):
                self._submit(self._round)
                return

    def _commit(self, store: Waiting) -> None:
        try:
            store.commit_waiting()
        except Exception as error:  # noqa: BLE001 -- others go on
            context = {
                "message": f"a store failed to commit: {store!r}",
                "exception": error,
            }
            self.tell(lambda: self.loop.call_exception_handler(context))
