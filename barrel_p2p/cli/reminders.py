"""``remind``, ``reminders`` and ``cancel-reminder``: what is to happen later."""

from __future__ import annotations

import datetime as dt
import json as json_text
from collections.abc import Iterator
from typing import Any, Final

from barrel_p2p.cli.cluster import name_of
from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.local_node import ControlClient, running_directory
from barrel_p2p.cli.options import Flag, Json, Local
from barrel_p2p.cli.output import columns, say
from barrel_p2p.errors import InvalidValue
from barrel_p2p.node.requests import (
    REMINDERS_SHOWN_MAX,
    CancelReminder,
    ListReminders,
    Request,
    SetReminder,
)
from barrel_p2p.services.reminder_value import Missed

__all__ = ["cancel_reminder", "remind", "reminders"]

_PATIENCE_S: Final = 10.0


def remind(
    key: str,
    /,
    *,
    at: str | None = None,
    after: float | None = None,
    payload: str | None = None,
    every: float | None = None,
    missed: Missed = "coalesce",
    term: Flag = False,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Set a reminder: the handlers on the node that owns its key are told.

    Args:
        key: Its key. What is set under it is replaced.
        at: When: 2030-01-01T12:00+01:00, or milliseconds since 1970.
        after: Or in so many seconds.
        payload: What the handler gets, as JSON.
        every: Seconds from each occurrence to the next.
        missed: With --every: fire, skip or coalesce what nobody could fire in time.
        term: KEY is JSON, such as 5 or '["room", 5]'; a list stands for a tuple.
        local: Which node sets it.
        json: Print {"key": ..., "set": true, "owner": ...}.
    """
    if (at is None) == (after is None):
        raise InvalidValue("say either --at or --after")
    request = SetReminder(
        name_of(key, as_json=term),
        None if at is None else _wall_ms(at),
        0 if after is None else _ms("--after", after),
        None if payload is None else name_of(payload, as_json=True),
        None if every is None else _ms("--every", every),
        missed,
    )
    answer = _ask(request, local)
    owner = answer["owner"] or "whoever will own it"
    say(answer, [f"{key} is set; it belongs to {owner}"], as_json=json)
    return ExitCode.OK


def reminders(
    *,
    count: int = 100,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """List the reminders of the cluster, the next one first.

    Args:
        count: How many at most.
        local: Which node is asked.
        json: Print {"node": ..., "total": ..., "reminders": [...]}.
    """
    if not 1 <= count <= REMINDERS_SHOWN_MAX:
        raise InvalidValue(f"--count {count} is not within 1 to {REMINDERS_SHOWN_MAX}")
    answer = _ask(ListReminders(count), local)
    say(answer, _lines(answer), as_json=json)
    return ExitCode.OK


def cancel_reminder(
    key: str,
    /,
    *,
    term: Flag = False,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Take a reminder back, wherever it was set.

    Args:
        key: Its key.
        term: KEY is JSON, such as 5 or '["room", 5]'; a list stands for a tuple.
        local: Which node tells the others.
        json: Print {"key": ..., "cancelled": true}.
    """
    answer = _ask(CancelReminder(name_of(key, as_json=term)), local)
    say(answer, [f"{key} is cancelled"], as_json=json)
    return ExitCode.OK


def _ask(request: Request, local: Local) -> Any:
    directory = running_directory(local.node, local.data_dir)
    with ControlClient(directory) as client:
        return client.ask(request, patience_s=_PATIENCE_S)


def _wall_ms(text: str) -> int:
    if text.isdecimal():
        return int(text)
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidValue(f"--at {text}: {error}") from error
    if at.utcoffset() is None:
        raise InvalidValue(
            f"--at {text} has no time zone", hint="write Z for UTC, or +01:00"
        )
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return (at - epoch) // dt.timedelta(milliseconds=1)


def _ms(option: str, seconds: float) -> int:
    if not 0 <= seconds < 1e11:
        raise InvalidValue(f"{option} {seconds:g}: seconds, not negative")
    return round(seconds * 1_000)


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    rows = [("at", "key", "owner", "every", "payload")]
    for each in answer["reminders"]:
        at = dt.datetime.fromtimestamp(each["at_ms"] / 1_000, tz=dt.UTC)
        every = each["every_ms"]
        rows.append(
            (
                at.isoformat(timespec="milliseconds"),
                _shown(each["key"]),
                each["owner"] or "",
                "" if every is None else f"{every / 1_000:g} s, {each['missed']}",
                _shown(each["payload"]),
            )
        )
    yield from columns(rows)
    hidden = answer["total"] - len(answer["reminders"])
    if hidden:
        yield f"and {hidden} more"


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    return json_text.dumps(value, ensure_ascii=False)
