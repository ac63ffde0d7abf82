"""What is on its way to peers: chunks, one at a time and not faster than the pace.

A channel without room refuses a chunk, which is then held and tried again, so that a
sync waits for a slow peer and gossip does not queue behind it.

Bounded by the rounds that are under way, by ``CHUNK_BYTES_MAX`` for each, and in time
by ``HELD_MS_MAX``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, final

from barrel_p2p.core.effects import CancelTimer, Effect, Send, SetTimer
from barrel_p2p.replica.limits import BUSY_RETRY_MS, CHUNK_PACE_MS, HELD_MS_MAX
from barrel_p2p.replica.messages import SyncChunk, SyncDone
from barrel_p2p.replica.pieces import Pieces

__all__ = ["PUMP", "Transfer", "Transfers"]

PUMP: Final = "pump"
"""First part of the timers' keys; the peer is the second."""


@final
@dataclass(slots=True, eq=False)
class Transfer:
    """One half of a round, as its sender has it.

    Args:
        replica: What it is about.
        round: The round's number.
        pieces: The entries.
        last: Makes the SYNC_DONE when all of them are sent, from their number.
    """

    replica: str
    round: int
    pieces: Pieces
    last: Callable[[int], SyncDone]
    sent: SyncChunk | SyncDone | None = None
    held: SyncChunk | SyncDone | None = None
    held_since_ms: int | None = None
    chunks: int = 0

    @property
    def over(self) -> bool:
        """Whether its SYNC_DONE has found room."""
        return self.held is None and isinstance(self.sent, SyncDone)


@final
@dataclass(slots=True)
class _Line:
    transfers: dict[str, Transfer] = field(default_factory=dict)  # in turn
    waiting: bool = False  # for the timer


@final
class Transfers:
    """All transfers of a node, at most one for each peer and replica."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    def has(self, peer: str, replica: str) -> bool:
        """Whether something about ``replica`` is on its way to ``peer``."""
        line = self._lines.get(peer)
        return line is not None and replica in line.transfers

    def start(
        self, peer: str, transfer: Transfer, now_ms: int, out: list[Effect]
    ) -> None:
        """Send ``transfer`` to ``peer``; one about the same replica ends here."""
        line = self._lines.get(peer)
        if line is None:
            line = self._lines[peer] = _Line()
        line.transfers[transfer.replica] = transfer
        if not line.waiting:
            self.pump(peer, now_ms, out)

    def drop(self, peer: str, replica: str) -> None:
        """Send no more of ``replica`` to ``peer``."""
        line = self._lines.get(peer)
        if line is not None:
            line.transfers.pop(replica, None)

    def drop_peer(self, peer: str, out: list[Effect]) -> None:
        """Send nothing more to ``peer``."""
        if self._lines.pop(peer, None) is not None:
            out.append(CancelTimer((PUMP, peer)))

    def pump(self, peer: str, now_ms: int, out: list[Effect]) -> list[Transfer]:
        """Send one frame, of the transfer that has waited longest.

        Returns:
            The transfers that have come to their end: ``over``, or stuck for too long.
        """
        line = self._lines.get(peer)
        if line is None:
            return []
        line.waiting = False
        ended: list[Transfer] = []
        while line.transfers:
            replica = next(iter(line.transfers))
            transfer = line.transfers.pop(replica)
            if transfer.over or _is_stuck(transfer, now_ms):
                ended.append(transfer)
                continue
            line.transfers[replica] = transfer  # Now the last in turn.
            transfer.sent = _next_frame(transfer)
            out.append(Send(peer, transfer.sent))
            out.append(SetTimer((PUMP, peer), CHUNK_PACE_MS))
            line.waiting = True
            return ended
        del self._lines[peer]
        return ended

    def unsent(
        self, peer: str, message: object, now_ms: int, out: list[Effect]
    ) -> bool:
        """There was no room for ``message``: hold it; returns whether it is ours."""
        line = self._lines.get(peer)
        if line is None:
            return False
        for transfer in line.transfers.values():
            if transfer.sent is message:
                transfer.held, transfer.sent = transfer.sent, None
                if transfer.held_since_ms is None:
                    transfer.held_since_ms = now_ms
                line.waiting = True
                out.append(SetTimer((PUMP, peer), BUSY_RETRY_MS))
                return True
        return False


def _next_frame(transfer: Transfer) -> SyncChunk | SyncDone:
    held = transfer.held
    if held is not None:
        transfer.held = None
        return held
    transfer.held_since_ms = None
    piece = transfer.pieces.next()
    if piece is None:
        return transfer.last(transfer.chunks)
    transfer.chunks += 1
    return SyncChunk(transfer.replica, transfer.round, piece)


def _is_stuck(transfer: Transfer, now_ms: int) -> bool:
    since_ms = transfer.held_since_ms
    return since_ms is not None and now_ms - since_ms > HELD_MS_MAX
