"""A process's queue. The compiled parts by name."""

from __future__ import annotations

from barrel_p2p.runtime._mailbox import EMPTY, LIMIT_MAX, Mailbox

__all__ = ["EMPTY", "LIMIT_MAX", "Mailbox"]
