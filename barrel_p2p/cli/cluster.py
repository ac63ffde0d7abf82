"""``join``, ``leave``, ``members``, ``views`` and more: commands about a cluster."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final

from cyclopts import Parameter

from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.local_node import ControlClient, running_directory
from barrel_p2p.cli.options import Flag, Json, Local, Target, timeout_ms
from barrel_p2p.cli.output import columns, say, shown
from barrel_p2p.cli.refusals import Refused
from barrel_p2p.cli.talk import ask
from barrel_p2p.errors import InvalidValue
from barrel_p2p.node.requests import (
    EVENT_KINDS,
    EventKind,
    Join,
    Leave,
    Members,
    Request,
    Services,
    Views,
    WatchEvents,
    WhereisService,
)

__all__ = [
    "events",
    "join",
    "leave",
    "members",
    "name_of",
    "services",
    "show",
    "views",
    "whereis",
]

_WAIT_S_MAX: Final = 3_600


def join(
    reference: str,
    /,
    *,
    timeout: float = 10.0,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Make a running node part of another node's cluster.

    Args:
        reference: Whom to join, name@host:port, with #SHA256:... to insist on its key.
        timeout: Seconds that it may take.
        local: Which node joins.
        json: Print {"node": ..., "active": [...]}.
    """
    try:
        answer = _ask_here(Join(reference, timeout_ms(timeout)), local, timeout)
    except Refused as error:
        raise Refused(error.described, verb="join") from error
    peers = ", ".join(answer["active"])
    say(answer, [f"{answer['node']} has joined; its peers: {peers}"], as_json=json)
    return ExitCode.OK


def leave(
    *,
    timeout: float = 10.0,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Make a running node leave its cluster. It runs on, alone, until it joins again.

    Args:
        timeout: Seconds that it may take.
        local: Which node leaves.
        json: Print {"node": ..., "left": true}.
    """
    answer = _ask_here(Leave(timeout_ms(timeout)), local, timeout)
    say(answer, [f"{answer['node']} has left its cluster"], as_json=json)
    return ExitCode.OK


def members(
    *,
    watch: Flag = False,
    target: Target = Target(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """List the nodes of a node's cluster: state, and the way that it has to each.

    Args:
        watch: Go on, and print the list anew when it changes.
        target: Which node is asked.
        json: Print {"node": ..., "members": [...]}; with --watch a line each time.
    """
    return show(Members(), target, _member_lines, watch=watch, as_json=json)


def views(
    *,
    watch: Flag = False,
    target: Target = Target(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """List a node's peers, and the nodes that could replace them.

    Args:
        watch: Go on, and print them anew when they change.
        target: Which node is asked.
        json: Print {"node": ..., "active": [...], "passive": [...], ...}.
    """
    return show(Views(), target, _view_lines, watch=watch, as_json=json)


def services(
    name: str | None = None,
    /,
    *,
    term: Flag = False,
    watch: Flag = False,
    target: Target = Target(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """List the services of the cluster, as a node knows them.

    Args:
        name: Only the instances of this one.
        term: NAME is JSON, such as 5 or '["room", 5]'; a list stands for a tuple.
        watch: Go on, and print the list anew when it changes.
        target: Which node is asked.
        json: Print {"node": ..., "services": [...]}; with --watch a line each time.
    """
    request = Services()
    if name is not None:
        request = Services(name_of(name, as_json=term), everything=False)
    return show(request, target, _service_lines, watch=watch, as_json=json)


def whereis(
    name: str,
    /,
    *,
    term: Flag = False,
    wait: float = 0.0,
    target: Target = Target(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Find a process of a service.

    Args:
        name: The service's name.
        term: NAME is JSON, such as 5 or '["room", 5]'; a list stands for a tuple.
        wait: Seconds to wait until somebody registers it.
        target: Which node is asked.
        json: Print {"name": ..., "node": ..., "pid": ...}.
    """
    if not 0 <= wait <= _WAIT_S_MAX:
        raise InvalidValue(f"--wait {wait:g} is not within 0 to {_WAIT_S_MAX} seconds")
    request = WhereisService(name_of(name, as_json=term), int(wait * 1_000))
    answer = ask(request, target, patience_s=wait)
    say(answer, [f"{answer['node']}  {answer['pid']}"], as_json=json)
    return ExitCode.OK


def events(
    *,
    kind: Annotated[tuple[EventKind, ...], Parameter(negative="")] = (),
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Print what happens at a running node, from now on, until Ctrl-C.

    Args:
        kind: Only peer, member, channel, service or leader; more than once for several.
        local: Which node.
        json: Print a JSON object a line: time, kind, event and what it is about.
    """
    from barrel_p2p.cli.watching import follow
    from barrel_p2p.node.run import run

    directory = running_directory(local.node, local.data_dir)

    def show(event: dict[str, Any]) -> None:
        say(event, _event_lines(event), as_json=json)
        sys.stdout.flush()

    run(follow(directory, WatchEvents(kind or EVENT_KINDS), show))
    return ExitCode.OK


def show(
    request: Request,
    target: Target,
    lines_of: Any,
    *,
    watch: bool,
    as_json: bool,
) -> int:
    """Ask, and print the answer; with ``watch`` again whenever it has changed."""
    if not watch:
        answer = ask(request, target)
        say(answer, lines_of(answer), as_json=as_json)
        return ExitCode.OK
    from barrel_p2p.cli.watching import printer, watched
    from barrel_p2p.node.run import run

    with printer(lines_of, as_json=as_json) as show:
        run(watched(request, target, show))
    return ExitCode.OK


def _ask_here(request: Request, local: Local, patience_s: float) -> Any:
    directory = running_directory(local.node, local.data_dir)
    with ControlClient(directory) as client:
        return client.ask(request, patience_s=patience_s)


def name_of(text: str, *, as_json: bool) -> object:
    """The name that a word of the command line stands for.

    Raises:
        InvalidValue: It should be JSON and is not.
    """
    if not as_json:
        return text
    try:
        return json_text.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"{text[:80]!r} is not JSON: {error}") from error


def _member_lines(answer: dict[str, Any]) -> Iterable[str]:
    rows = [("node", "state", "link")]
    rows += [(each["node"], each["state"], each["link"]) for each in answer["members"]]
    return columns(rows)


def _view_lines(answer: dict[str, Any]) -> Iterator[str]:
    for which in ("active", "passive"):
        found = answer[which]
        yield f"{which}, {len(found)} of {answer[f'{which}_size']} at most"
        yield from (f"  {name}" for name in found)


def _service_lines(answer: dict[str, Any]) -> Iterable[str]:
    rows = [("service", "node", "pid", "meta")]
    rows += [
        (shown(each["name"]), each["node"], each["pid"], shown(each["meta"] or ""))
        for each in answer["services"]
    ]
    return columns(rows)


def _event_lines(event: dict[str, Any]) -> Iterator[str]:
    about = " ".join(
        f"{key}={shown(value)}"
        for key, value in event.items()
        if key not in ("time", "kind", "event")
    )
    yield f"{event['time']}  {event['event']:<20}  {about}"
