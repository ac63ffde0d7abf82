"""Where messages go. The compiled parts by name."""

from __future__ import annotations

from barrel_p2p.runtime._switch import (
    DONE,
    ORIGIN,
    Call,
    Cast,
    Line,
    Origin,
    ProcessBox,
    Reply,
    Switch,
    Verbs,
    origin,
    tell_later,
)

__all__ = [
    "DONE",
    "ORIGIN",
    "Call",
    "Cast",
    "Line",
    "Origin",
    "ProcessBox",
    "Reply",
    "Switch",
    "Verbs",
    "origin",
    "tell_later",
]
