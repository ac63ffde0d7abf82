"""``map``: read, write and watch the replicated maps of a running node of this host."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Iterable
from typing import Annotated, Any

from cyclopts import App, Parameter

from barrel_p2p.cli.cluster import name_of
from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.local_node import ControlClient, running_directory
from barrel_p2p.cli.options import Flag, Json, Local
from barrel_p2p.cli.output import columns, say
from barrel_p2p.node.requests import (
    GetFromMap,
    ListMaps,
    PutInMap,
    RemoveFromMap,
    Request,
    WatchMap,
)

__all__ = ["get", "list_maps", "put", "remove", "watch"]

app = App(name="map", help="Read and write the replicated maps of a running node.")

# A value may begin with a dash: -1 is one.
type _Value = Annotated[str, Parameter(allow_leading_hyphen=True)]


@app.command
def get(
    name: str,
    key: str,
    /,
    *,
    term: Flag = False,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Print the value under a key.

    Args:
        name: The map's name.
        key: The key.
        term: KEY is JSON, such as 5 or '["room", 5]'; a list stands for a tuple.
        local: Which node.
        json: Print {"map": ..., "key": ..., "found": ..., "value": ...}.
    """
    answer = _ask(GetFromMap(name, name_of(key, as_json=term)), local)
    found = [_text(answer["value"])] if answer["found"] else []
    say(answer, found, as_json=json)
    return ExitCode.OK if answer["found"] else ExitCode.FAILED


@app.command
def put(
    name: str,
    key: str,
    value: _Value,
    /,
    *,
    term: Flag = False,
    text: Flag = False,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Write a value under a key, on every node that has the map.

    Args:
        name: The map's name.
        key: The key.
        value: JSON, such as true, 5 or '{"a": 1}'; what is no JSON is text.
        term: KEY is JSON, such as 5 or '["room", 5]'; a list stands for a tuple.
        text: VALUE is text, also where it would be JSON.
        local: Which node.
        json: Print {"map": ..., "key": ..., "put": true}.
    """
    written = value if text else _value(value)
    answer = _ask(PutInMap(name, name_of(key, as_json=term), written), local)
    say(answer, [], as_json=json)
    return ExitCode.OK


@app.command(name="rm")
def remove(
    name: str,
    key: str,
    /,
    *,
    term: Flag = False,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Remove a key from a map, on every node that has it.

    Args:
        name: The map's name.
        key: The key.
        term: KEY is JSON, such as 5 or '["room", 5]'; a list stands for a tuple.
        local: Which node.
        json: Print {"map": ..., "key": ..., "removed": true}.
    """
    answer = _ask(RemoveFromMap(name, name_of(key, as_json=term)), local)
    say(answer, [], as_json=json)
    return ExitCode.OK


@app.command(name="ls")
def list_maps(
    name: str | None = None,
    /,
    *,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """List the maps of a node, or the keys and values of one.

    Args:
        name: The map's name.
        local: Which node.
        json: Print {"node": ..., "maps": [...]}, or with NAME
            {"node": ..., "map": ..., "entries": [...]}.
    """
    answer = _ask(ListMaps(name), local)
    if name is None:
        rows = [("map", "keys", "disk"), *map(_map_row, answer["maps"])]
        say(answer, columns(rows), as_json=json)
    else:
        pairs = [(_text(e["key"]), _text(e["value"])) for e in answer["entries"]]
        say(answer, columns(pairs), as_json=json)
    return ExitCode.OK


@app.command
def watch(
    name: str,
    /,
    *,
    snapshot: Flag = False,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Print what changes in a map, from now on, until Ctrl-C.

    Args:
        name: The map's name.
        snapshot: First print every key there is, as if it were put now.
        local: Which node.
        json: Print a JSON object a line: event, map, and key, value or missed.
    """
    from barrel_p2p.cli.watching import follow
    from barrel_p2p.node.run import run

    directory = running_directory(local.node, local.data_dir)

    def show(event: dict[str, Any]) -> None:
        say(event, _event_lines(event), as_json=json)
        sys.stdout.flush()

    run(follow(directory, WatchMap(name, snapshot), show))
    return ExitCode.OK


def _ask(request: Request, local: Local) -> Any:
    directory = running_directory(local.node, local.data_dir)
    with ControlClient(directory) as client:
        return client.ask(request)


def _value(text: str) -> object:
    try:
        return json_text.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is Python's, and no JSON")


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return json_text.dumps(value, ensure_ascii=False)


def _map_row(each: dict[str, Any]) -> tuple[object, ...]:
    return each["map"], each["keys"], each["disk"]


def _event_lines(event: dict[str, Any]) -> Iterable[str]:
    match event["event"]:
        case "put":
            yield f"put     {_text(event['key'])}  {_text(event['value'])}"
        case "remove":
            yield f"remove  {_text(event['key'])}"
        case "lagged":
            yield f"lagged  {event['missed']} changes were missed"
        case _:
            yield f"watching {event['map']} of {event['node']}"
