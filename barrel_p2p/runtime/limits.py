"""How much processes and peers may make a node hold."""

from __future__ import annotations

from typing import Final

__all__ = [
    "INCOMING_CALLS_MAX",
    "MAILBOX_LIMIT",
    "MAILBOX_SLACK",
    "PROCESSES_MAX",
]

MAILBOX_LIMIT: Final = 10_000
"""Messages at which a mailbox is full, unless its process asks for another number."""

MAILBOX_SLACK: Final = 4_096
"""A peer that was told PAUSE may still have so many messages under way. Beyond these,
and twice the limit, its streams are given no more credit."""

INCOMING_CALLS_MAX: Final = 65_536
"""Calls of one peer that wait for an answer; more are answered ``overloaded``."""

PROCESSES_MAX: Final = 1 << 20
"""Processes of one node at once, and calls of one node that wait at once."""
