"""``leader``: who leads what, and who would."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from barrel_p2p.cli.cluster import name_of, show
from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.options import Flag, Json, Target
from barrel_p2p.cli.output import columns, say, shown
from barrel_p2p.cli.talk import ask
from barrel_p2p.node.requests import Elections

__all__ = ["leader"]


def leader(
    name: str | None = None,
    /,
    *,
    term: Flag = False,
    watch: Flag = False,
    target: Target = Target(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """List who leads what, with the latest fence, and who would lead next.

    Args:
        name: Only this one.
        term: NAME is JSON, such as 5 or '["room", 5]'; a list stands for a tuple.
        watch: Go on, and print the list anew when it changes.
        target: Which node is asked.
        json: Print {"node": ..., "leaders": [...]}; with --watch a line each time.
    """
    request = Elections()
    if name is not None:
        request = Elections(name_of(name, as_json=term), everything=False)
    if watch or name is None:
        return show(request, target, _lines, watch=watch, as_json=json)
    answer = ask(request, target)
    say(answer, _lines(answer), as_json=json)
    led = answer["leaders"][0]["leader"] is not None
    return ExitCode.OK if led else ExitCode.FAILED


def _lines(answer: dict[str, Any]) -> Iterable[str]:
    rows = [("name", "leader", "pid", "fence", "candidates")]
    rows += [
        (
            shown(each["name"]),
            each["leader"] or "none",
            each["pid"] or "",
            "" if each["fence"] is None else str(each["fence"]),
            " ".join(f"{c['node']}/{c['priority']}" for c in each["candidates"]),
        )
        for each in answer["leaders"]
    ]
    return columns(rows)
