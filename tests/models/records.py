"""How an instance is made, plainly: as ``type`` makes one of any class."""

from __future__ import annotations

__all__ = ["made_as_usual"]


def made_as_usual[T](cls: type[T], *values: object, **named: object) -> T:
    """Make an instance by ``__new__`` and ``__init__``."""
    made: T = type.__call__(cls, *values, **named)
    return made
