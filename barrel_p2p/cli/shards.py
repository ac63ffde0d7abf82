"""``place`` and ``owners``: whose a key is."""

from __future__ import annotations

from barrel_p2p.cli.cluster import name_of
from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.options import Flag, Json, Target
from barrel_p2p.cli.output import say
from barrel_p2p.cli.talk import ask
from barrel_p2p.errors import InvalidValue
from barrel_p2p.node.requests import OWNERS_MAX, Owners, Place

__all__ = ["owners", "place"]


def place(
    key: str,
    /,
    *,
    term: Flag = False,
    target: Target = Target(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Print the node that should have a key.

    Args:
        key: The key.
        term: KEY is JSON, such as 5 or '["room", 5]'; a list stands for a tuple.
        target: Which node is asked.
        json: Print {"key": ..., "partition": ..., "node": ...}.
    """
    answer = ask(Place(name_of(key, as_json=term)), target)
    owner = answer["node"]
    unknown = f"unknown: {key} has no owner before the node knows its cluster"
    say(answer, [unknown if owner is None else owner], as_json=json)
    return ExitCode.FAILED if owner is None else ExitCode.OK


def owners(
    key: str,
    count: int = 3,
    /,
    *,
    term: Flag = False,
    target: Target = Target(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Print the nodes that should have a key, the owner first.

    Args:
        key: The key.
        count: How many.
        term: KEY is JSON, such as 5 or '["room", 5]'; a list stands for a tuple.
        target: Which node is asked.
        json: Print {"key": ..., "partition": ..., "nodes": [...]}.
    """
    if not 1 <= count <= OWNERS_MAX:
        raise InvalidValue(f"{count} owners are not within 1 to {OWNERS_MAX}")
    answer = ask(Owners(name_of(key, as_json=term), count), target)
    say(answer, answer["nodes"], as_json=json)
    return ExitCode.OK if answer["nodes"] else ExitCode.FAILED
