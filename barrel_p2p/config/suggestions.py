"""What somebody meant who wrote something that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest"]

_CLOSE = 0.75
_WORD_CHARS_MAX = 100


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that ``word`` is a slip of, or None."""
    found = difflib.get_close_matches(
        word[:_WORD_CHARS_MAX].lower(), list(known), n=1, cutoff=_CLOSE
    )
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A clause to end a sentence with; empty when nothing comes close."""
    found = nearest(word, known)
    return f"; did you mean {found!r}?" if found else ""
