"""What is told of services, and which of it somebody wants to hear.

Source: Barrel P2P documentation, "Service events".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

from barrel_p2p.core.events import Event
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import InvalidValue
from barrel_p2p.wire.terms import key_bytes

__all__ = [
    "PATTERN_CHARS_MAX",
    "ServiceDown",
    "ServiceEntry",
    "ServiceEvent",
    "ServiceFilter",
    "ServiceRegistered",
    "ServiceUnregistered",
    "service_filter",
]

PATTERN_CHARS_MAX: Final = 1_024
"""Characters of a pattern for names."""


class ServiceEntry(NamedTuple):
    """One instance of a service.

    Args:
        name: A key term.
        pid: The process.
        node: Where it was registered, which need not be where it runs.
        meta: What was registered with it. Not to be changed.
    """

    name: Any
    pid: Pid
    node: str
    meta: Mapping[Any, Any]


@final
@dataclass(frozen=True, slots=True)
class ServiceRegistered(Event):
    """``name`` can be found on ``node``."""

    name: Any
    node: str


@final
@dataclass(frozen=True, slots=True)
class ServiceUnregistered(Event):
    """``name`` was taken back on ``node``."""

    name: Any
    node: str


@final
@dataclass(frozen=True, slots=True)
class ServiceDown(Event):
    """The process of ``name`` on ``node`` has ended, or the node is dead.

    ``reason``: the process's, the same on every node; ``noconnection``: it ran on
    another node than it was registered on, and the channel to that was lost; ``left``
    and ``nodedown``: the node has left, or is dead.
    """

    name: Any
    node: str
    reason: Any


type ServiceEvent = ServiceRegistered | ServiceUnregistered | ServiceDown
type ServiceFilter = Callable[[Any], bool]
"""Whether events of a service of that name are wanted."""


def service_filter(
    name: object = None,
    pattern: str | re.Pattern[str] | None = None,
    *,
    matches: ServiceFilter | None = None,
) -> ServiceFilter:
    """A filter for names; without any argument one that lets all pass.

    Args:
        name: Exactly this name, a key term.
        pattern: A regular expression that is searched for in names that are text, or
            bytes that are UTF-8; at most ``PATTERN_CHARS_MAX`` characters. Compiled
            here, once.
        matches: Any function of the name.

    Raises:
        InvalidValue: More than one was given, or the pattern is none, or too long.
        NotEncodable: ``name`` is no key term.
    """
    if sum(x is not None for x in (name, pattern, matches)) > 1:
        raise InvalidValue("a filter is a name, a pattern or a function, not several")
    if matches is not None:
        return matches
    if pattern is not None:
        return _searching(_compiled(pattern))
    if name is None:
        return _all
    wanted = key_bytes(name)
    return lambda other: key_bytes(other) == wanted


def _all(name: object) -> bool:
    return True


def _compiled(pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    text: object = pattern if isinstance(pattern, str) else pattern.pattern
    if type(text) is not str or len(text) > PATTERN_CHARS_MAX:
        raise InvalidValue(
            f"a pattern is text of at most PATTERN_CHARS_MAX={PATTERN_CHARS_MAX}"
            " characters"
        )
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InvalidValue(f"pattern {text!r}: {error}") from error


def _searching(pattern: re.Pattern[str]) -> ServiceFilter:
    def found(name: object) -> bool:
        if isinstance(name, bytes):
            try:
                name = name.decode()
            except UnicodeDecodeError:
                return False
        return isinstance(name, str) and pattern.search(name) is not None

    return found
