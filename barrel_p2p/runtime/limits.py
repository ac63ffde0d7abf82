"""How much processes and peers may make a node hold."""

from __future__ import annotations

from typing import Final

__all__ = [
    "EXPIRY_STEP_S",
    "INCOMING_CALLS_MAX",
    "LINKS_PER_PEER_MAX",
    "LINKS_PER_PROCESS_MAX",
    "MAILBOX_LIMIT",
    "MAILBOX_SLACK",
    "MONITORS_PER_PEER_MAX",
    "MONITORS_PER_PROCESS_MAX",
    "PAUSED_NAMES_MAX",
    "PROCESSES_MAX",
    "TIMERS_PER_PROCESS_MAX",
    "TIMER_SECONDS_MAX",
]

MAILBOX_LIMIT: Final = 10_000
"""Messages at which a mailbox is full, unless its process asks for another number."""

MAILBOX_SLACK: Final = 4_096
"""A peer that was told PAUSE may still have so many messages under way. Beyond these,
and twice the limit, its streams are given no more credit."""

PAUSED_NAMES_MAX: Final = 4_096
"""Names on one peer whose senders wait because it said so. It may say it of more, which
then only have their stream's credit to wait for."""

EXPIRY_STEP_S: Final = 0.002
"""Seconds from one look at the deadlines of calls to the next: a call may time out so
much late."""

INCOMING_CALLS_MAX: Final = 65_536
"""Calls of one peer that wait for an answer; more are answered ``overloaded``."""

PROCESSES_MAX: Final = 1 << 20
"""Processes of one node at once, and calls of one node that wait at once."""

LINKS_PER_PROCESS_MAX: Final = 1 << 18
"""Links of one process. One more ends at once with reason ``system_limit``."""

LINKS_PER_PEER_MAX: Final = 1 << 16
"""Links between processes of this node and of one peer, whoever made them."""

MONITORS_PER_PROCESS_MAX: Final = 1 << 18
"""Monitors that one process has on others; one more fires with ``system_limit``."""

MONITORS_PER_PEER_MAX: Final = 1 << 16
"""Monitors that processes of one peer have on processes of this node."""

TIMERS_PER_PROCESS_MAX: Final = 1 << 16
"""Timers of one process that have not fired."""

TIMER_SECONDS_MAX: Final = 4_294_967.0
"""The longest timer, some 49 days."""
