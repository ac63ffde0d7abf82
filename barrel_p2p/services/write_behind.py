"""What one replicated store still owes its file, and what it still owes gossip.

A write of this node is seen only once it is durable: ``WriteBehind.commit``. What
others wrote is seen at once, and ``WriteBehind.keep`` writes it behind: whoever
acknowledged it has it on disk. A row that could not be written, or deleted, is put
right as soon as the disk takes writes again: it may hold what has been removed since.

Bounded by ``UNKEPT_MAX`` keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol, final

from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.core.ormap import Delta
from barrel_p2p.errors import BarrelError, Busy, InvalidValue, NotEncodable
from barrel_p2p.storage.replica_log import Log

__all__ = ["UNKEPT_MAX", "Gossip", "Outbox", "WriteBehind"]

UNKEPT_MAX: Final = 65_536
"""Keys of one store whose rows are known not to be as they should be."""


class Gossip(Protocol):
    """As much of ``ReplicaHandle`` as a store uses."""

    def publish(self, delta: Delta) -> None:
        """Tell every other node; ``Busy`` without room."""
        ...

    def catch_up(self) -> None:
        """Compare with all neighbours."""
        ...

    async def flush(self) -> None:
        """Wait until all was told."""
        ...

    def stop(self) -> None:
        """Tell and hear no more."""
        ...


@final
class Outbox:
    """Hands gossip what was written, once a turn of the loop: that costs more than
    writing.

    Args:
        place: Whose, for complaints.
        complaints: Where a want of room goes.

    Attributes:
        handle: The replica; None while it does not run.
    """

    def __init__(self, place: str, complaints: Complaints) -> None:
        self.handle: Gossip | None = None
        self._place = place
        self._complaints = complaints
        self._untold: Delta = {}

    def add(self, delta: Delta) -> None:
        """Tell ``delta`` at the end of this turn."""
        if not self._untold:
            asyncio.get_running_loop().call_soon(self.tell)
        self._untold.update(delta)

    def tell(self) -> None:
        """Tell what waits now."""
        untold, self._untold = self._untold, {}
        if self.handle is None or not untold:
            return
        try:
            self.handle.publish(untold)
        except Busy as error:
            # It stands in the map, so that comparing with others brings it to them.
            self._complaints.add(self._place, error)

    def stop(self) -> None:
        """Tell what waits, and then no more. Idempotent."""
        self.tell()
        handle, self.handle = self.handle, None
        if handle is not None:
            handle.stop()


@final
class WriteBehind:
    """The rows of one store.

    Args:
        log: The file.
        held: What its rows should be, now.
        place: Whose, for complaints.
        complaints: Where what the disk refuses goes.
    """

    def __init__(
        self,
        log: Log,
        held: Callable[[], Delta],
        *,
        place: str,
        complaints: Complaints,
    ) -> None:
        self.log = log
        self._held = held
        self._place = place
        self._complaints = complaints
        self._writing: dict[bytes, int] = {}  # what waits for the disk, how often
        self._unkept: dict[bytes, None] = {}  # rows that are not as they should be
        self._all_unkept = False  # nor may any other be

    @property
    def writing(self) -> int:
        """Keys of which ``commit`` is under way."""
        return len(self._writing)

    @property
    def unkept(self) -> int:
        """Keys that are remembered because their rows are not as they should be."""
        return len(self._unkept)

    def commit(
        self, delta: Delta, then: Callable[[Delta], None]
    ) -> asyncio.Future[None]:
        """Write ``delta``; once it is durable, and before whoever waits for it runs on,
        call ``then(delta)``.

        Raises:
            BarrelError: As ``ReplicaLog.append``. Nothing was written.
        """
        committed = self.log.append(delta)
        for name in delta:
            self._writing[name] = self._writing.get(name, 0) + 1
        committed.add_done_callback(partial(self._committed, delta, then))
        return committed

    def keep(self, delta: Delta) -> None:
        """Write ``delta`` behind, again and again if need be."""
        try:
            kept = self.log.append(delta)
        except (InvalidValue, NotEncodable) as error:
            # It will never be taken, and must not take the others with it.
            if len(delta) > 1:
                for name, entry in delta.items():
                    self.keep({name: entry})
            else:
                self._complain(f"not on disk, ever: {error}")
        except BarrelError as error:
            self._not_kept(delta, error)
        else:
            kept.add_done_callback(partial(self._was_kept, list(delta)))

    def forget(self, names: Iterable[bytes]) -> None:
        """Delete the rows of ``names``, which are held no more."""
        going = []
        for name in names:
            # A row that is just being written anew must not go with the old one.
            if name in self._writing:
                self._mark_unkept([name])
            else:
                going.append(name)
        if not going:
            return
        try:
            gone = self.log.forget(going)
        except BarrelError as error:
            self._not_kept(going, error)
        else:
            gone.add_done_callback(partial(self._was_kept, going))

    def again(self) -> None:
        """Put right what did not get to a disk that takes writes again."""
        if self.log.state != "open" or not (self._unkept or self._all_unkept):
            return
        unkept, self._unkept = self._unkept, {}
        every, self._all_unkept = self._all_unkept, False
        held = self._held()
        gone = [name for name in unkept if name not in held]
        if not every:
            held = {name: held[name] for name in unkept if name in held}
        if held:
            self.keep(held)
        self.forget(gone)

    async def reopen(self, recover: Callable[[Delta], None]) -> None:
        """Take writes again after the disk had failed. Nothing if it had not.

        Args:
            recover: Takes what the file holds.

        Raises:
            StorageError: It still cannot be read or written.
        """
        if self.log.state != "degraded":
            return
        recover(await self.log.reopen())
        self._all_unkept = True
        self.again()
        await self.log.sync()

    def _committed(
        self,
        delta: Delta,
        then: Callable[[Delta], None],
        committed: asyncio.Future[None],
    ) -> None:
        for name in delta:
            self._writing[name] -= 1
            if not self._writing[name]:
                del self._writing[name]
        if not committed.cancelled() and committed.exception() is None:
            then(delta)

    def _was_kept(self, names: list[bytes], kept: asyncio.Future[None]) -> None:
        error = None if kept.cancelled() else kept.exception()
        if error is not None:
            self._not_kept(names, error)

    def _not_kept(self, names: Iterable[bytes], error: BaseException) -> None:
        self._mark_unkept(names)
        self._complain(f"not on disk: {error}")

    def _mark_unkept(self, names: Iterable[bytes]) -> None:
        self._unkept.update(dict.fromkeys(names))
        if len(self._unkept) > UNKEPT_MAX:
            # What is held is all written anew then. Of the rest the first are likelier
            # to have rows, from before the disk failed.
            self._all_unkept = True
            held = self._held()
            gone = [name for name in self._unkept if name not in held]
            self._unkept = dict.fromkeys(gone[: UNKEPT_MAX // 2])

    def _complain(self, text: str) -> None:
        self._complaints.add(self._place, text)
