"""What peers do wrong, logged without letting them fill the log.

At most one line a peer and ``INTERVAL_MS``; the next line says how many were left out.
Bounded by ``PEERS_MAX``: peers choose how many addresses they have.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

__all__ = ["INTERVAL_MS", "PEERS_MAX", "Complaints"]

INTERVAL_MS: Final = 1_000
PEERS_MAX: Final = 1_024


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Complaints:
    """A logger for hostile events.

    Args:
        logger: Where the lines go.
        now_ms: A clock that never goes back.

    Attributes:
        total: Complaints so far, logged or not.
    """

    def __init__(
        self, logger: logging.Logger, *, now_ms: Callable[[], int] = _monotonic_ms
    ) -> None:
        self._logger = logger
        self._now_ms = now_ms
        self._last: dict[str, tuple[int, int]] = {}  # peer -> when logged, left out
        self.total = 0

    def add(
        self, peer: str, what: object, *, error: BaseException | None = None
    ) -> None:
        """Complain about ``peer``, unless that was done less than ``INTERVAL_MS`` ago.

        Args:
            peer: A node name, or an address before there is one.
            what: The complaint; what is not printable in it is escaped.
            error: Where our own code failed, with its traceback.
        """
        self.total += 1
        now_ms = self._now_ms()
        logged_ms, left_out = self._last.get(peer, (now_ms - INTERVAL_MS, 0))
        if now_ms - logged_ms < INTERVAL_MS:
            self._last[peer] = (logged_ms, left_out + 1)
            return
        if peer not in self._last and len(self._last) >= PEERS_MAX:
            self._last.clear()  # Forgetting costs a few lines, remembering memory.
        self._last[peer] = (now_ms, 0)
        more = f" ({left_out} more left out)" if left_out else ""
        self._logger.warning("%s: %s%s", peer, _plain(str(what)), more, exc_info=error)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
