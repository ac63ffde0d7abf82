"""What reaches a process as a message without anyone having sent it: plain values.

An event is matched by position or by name, as in ``case Down(ref, pid, reason):``. It
has no form on the wire; what made it travels in frames of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from barrel_p2p.core.names import At
from barrel_p2p.core.terms import Pid, Ref

__all__ = ["Down", "Event", "Exit"]


class Event:
    """The base of all events."""

    __slots__ = ()


@final
@dataclass(frozen=True, slots=True)
class Down(Event):
    """A monitored process ended, was not there, or cannot be seen any more.

    Args:
        ref: What ``monitor`` returned. It fires once.
        pid: What was monitored: a pid, or the ``At`` that named it.
        reason: The process's; ``noproc``: there was none; ``noconnection``: its node
            was lost; ``system_limit``: it has too many monitors.
    """

    ref: Ref
    pid: Pid | At
    reason: object


@final
@dataclass(frozen=True, slots=True)
class Exit(Event):
    """An exit signal, as a process that traps them receives it.

    Args:
        pid: The linked process that ended, or whoever sent the signal.
        reason: As for ``Down``.
    """

    pid: Pid
    reason: object
