"""What may be kept across a restart: values that mean the same in the next life.

A pid or a reference names something of one life of a node. Read back from disk it would
name nothing, or by chance something else.
"""

from __future__ import annotations

from barrel_p2p.core.terms import Pid, Ref
from barrel_p2p.errors import InvalidValue

__all__ = ["check_restart_safe", "of_one_life"]


def of_one_life(term: object) -> Pid | Ref | None:
    """The first pid or reference within ``term``, or None if it holds none.

    Args:
        term: Any term. One that nests deeper than terms may is not looked through.
    """
    waiting = [term]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Pid | Ref):
            return each
        if isinstance(each, tuple | list | set | frozenset):
            waiting.extend(each)
        elif isinstance(each, dict):
            waiting.extend(each.keys())
            waiting.extend(each.values())
    return None


def check_restart_safe(what: str, term: object) -> None:
    """Nothing, if ``term`` can be kept.

    Args:
        what: Says in the error's text what it is the value of.
        term: Any term.

    Raises:
        InvalidValue: It holds a pid or a reference.
    """
    found = of_one_life(term)
    if found is not None:
        raise InvalidValue(
            f"{what} holds {found!r}, which means nothing after a restart",
            hint="keep the name of a service instead, or do not persist it",
        )
