"""What a replicated map is asked to be: its name, and what was chosen for it."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final, final

from barrel_p2p.errors import ConfigError, Conflict, InvalidValue

__all__ = [
    "MAP_NAME_BYTES_MAX",
    "MapOptions",
    "Validator",
    "check_map_name",
    "named_validator",
]

MAP_NAME_BYTES_MAX: Final = 80
"""Bytes of a map's name in UTF-8."""

_MILLIS_MAX: Final = 10 * 365 * 24 * 3_600_000

type Validator = Callable[[Any], bool]
"""Whether a value may stand in a map. An answer that is not True, or an exception,
means no."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MapOptions:
    """What one map was opened with.

    Args:
        validator: Asked about every value, whoever wrote it; None takes any.
        persist: Whether it is kept on this node's disk.
        prune_on_peer_down: Whether what a node wrote last goes with that node.
        tombstone_ttl_ms: Milliseconds for which a removed key is remembered at least,
            0 or more.
        scan_ms: Milliseconds between looks for removed keys to forget, 1 or more.

    Raises:
        InvalidValue: An option has the wrong type, or is out of range.
    """

    validator: Validator | None = None
    persist: bool = False
    prune_on_peer_down: bool = False
    tombstone_ttl_ms: int = 3_600_000
    scan_ms: int = 1_000

    def __post_init__(self) -> None:
        if self.validator is not None and not callable(self.validator):
            raise InvalidValue(f"validator={self.validator!r:.80} is no function")
        for key in ("persist", "prune_on_peer_down"):
            if type(getattr(self, key)) is not bool:
                raise InvalidValue(f"{key}={getattr(self, key)!r:.80} is no bool")
        for key, least in (("tombstone_ttl_ms", 0), ("scan_ms", 1)):
            value = getattr(self, key)
            if type(value) is not int or not least <= value <= _MILLIS_MAX:
                raise InvalidValue(
                    f"{key}={value!r:.80} is not within {least} to {_MILLIS_MAX} ms"
                )

    def check_same(self, name: str, other: MapOptions) -> None:
        """Nothing, if ``other`` asks for the same.

        Raises:
            Conflict: It does not; the text names every difference.
        """
        differ = [
            f"{each.name}={getattr(self, each.name)!r:.80} and not"
            f" {getattr(other, each.name)!r:.80}"
            for each in fields(self)
            if getattr(self, each.name) != getattr(other, each.name)
        ]
        if differ:
            raise Conflict(
                f"map {name!r} is open with {'; '.join(differ)}",
                hint="open it everywhere with the same options, or delete it first",
            )


def check_map_name(name: object) -> str:
    """``name``, if a map may be called that.

    Raises:
        InvalidValue: It is no text of 1 to ``MAP_NAME_BYTES_MAX`` bytes of printable
            characters.
    """
    if type(name) is not str:
        raise InvalidValue(f"a map's name is a str, not a {type(name).__name__}")
    size = len(name.encode(errors="surrogatepass"))
    if not 1 <= size <= MAP_NAME_BYTES_MAX:
        raise InvalidValue(
            f"map name {name!r:.80} of {size} bytes: 1 to"
            f" MAP_NAME_BYTES_MAX={MAP_NAME_BYTES_MAX} are allowed"
        )
    if not name.isprintable():
        raise InvalidValue(f"map name {name!r} has a character that cannot be printed")
    return name


def named_validator(map_name: str, text: str) -> Validator:
    """The function that ``module:function`` names. For configuration alone.

    Raises:
        ConfigError: There is no such module or function, or it is no function.
    """
    module, colon, function = text.partition(":")
    if not (colon and module and function):
        raise ConfigError(
            f"map {map_name!r}: validator={text!r:.80} is not module:function"
        )
    try:
        found = pkgutil.resolve_name(text)
    except Exception as error:
        raise ConfigError(
            f"map {map_name!r}: validator={text!r:.80} cannot be imported: {error}"
        ) from error
    if not callable(found):
        raise ConfigError(f"map {map_name!r}: validator={text!r:.80} is no function")
    validator: Validator = found
    return validator
