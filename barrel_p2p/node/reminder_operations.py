"""What a program on a node's host may do with reminders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from barrel_p2p.node.plain import plain, term
from barrel_p2p.node.requests import (
    CancelReminder,
    ListReminders,
    ReminderAction,
    SetReminder,
)
from barrel_p2p.services.reminder_events import ReminderEntry

if TYPE_CHECKING:
    from barrel_p2p.node.node import Node

__all__ = ["perform_on_reminders"]


async def perform_on_reminders(node: Node, request: ReminderAction) -> object:
    """Do what ``request`` says; what it answers is made of what JSON has.

    Raises:
        BarrelError: What the node's own method raises.
    """
    match request:
        case SetReminder():
            return await _set(node, request)
        case ListReminders():
            listed = node.list_reminders()
            shown = listed[: request.count]
            return {
                "node": node.name,
                "total": len(listed),
                "reminders": [_entry(node, each) for each in shown],
            }
        case CancelReminder(key):
            await node.cancel_reminder(term(key))
            return {"key": plain(term(key)), "cancelled": True}
        case _:
            assert_never(request)


async def _set(node: Node, request: SetReminder) -> dict[str, object]:
    key = term(request.key)
    again: dict[str, Any] = {}
    if request.every_ms is not None:
        again = {"every": request.every_ms, "missed": request.missed}
    if request.at_ms is not None:
        await node.remind(key, request.at_ms, request.payload, **again)
    else:
        await node.remind_after(key, request.after_ms, request.payload, **again)
    return {"key": plain(key), "set": True, "owner": node.place(key)}


def _entry(node: Node, entry: ReminderEntry) -> dict[str, object]:
    return {
        "key": plain(entry.key),
        "at_ms": entry.at_ms,
        "every_ms": entry.every_ms,
        "missed": entry.missed,
        "payload": plain(entry.payload),
        "owner": node.place(entry.key),
    }
