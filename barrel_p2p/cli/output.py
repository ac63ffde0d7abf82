"""What a command prints: text for people, or one JSON object for programs.

Results go to stdout, errors to stderr; with ``--json`` an error is an object on stdout
too, so that a program reads one stream.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.text import Text

__all__ = ["columns", "printable", "say", "say_error", "shown"]

_STYLES = {"ok": "green", "warn": "yellow", "fail": "red", "FAILED": "bold red"}


def say(value: object, lines: Iterable[str], *, as_json: bool) -> None:
    """Print the result of a command.

    Args:
        value: What ``--json`` gives.
        lines: What people get.
        as_json: Which of the two.
    """
    if as_json:
        print(json.dumps(value, ensure_ascii=False))
        return
    console = _console(sys.stdout)
    for line in lines:
        console.print(_styled(line))
    sys.stdout.flush()


def say_error(
    value: Mapping[str, object], lines: Iterable[str], *, as_json: bool
) -> None:
    """Print why a command failed."""
    if as_json:
        print(json.dumps({"error": value}, ensure_ascii=False))
        return
    console = _console(sys.stderr)
    for line in lines:
        console.print(_styled(line))


def columns(rows: Sequence[Sequence[object]], *, indent: str = "") -> list[str]:
    """``rows`` with every column but the last as wide as its widest cell."""
    texts = [[printable(str(cell)) for cell in row] for row in rows]
    count = max((len(row) for row in texts), default=0)
    widths = [
        max((len(row[at]) for row in texts if at < len(row)), default=0)
        for at in range(count)
    ]
    return [
        (
            indent + "  ".join(f"{cell:<{widths[at]}}" for at, cell in enumerate(row))
        ).rstrip()
        for row in texts
    ]


def printable(text: str) -> str:
    """``text`` without what would steer a terminal: a peer may have written it."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else f"\\x{ord(char):02x}"
        for char in text
    )


def _console(stream: object) -> Console:
    return Console(
        file=stream,  # type: ignore[arg-type]
        soft_wrap=True,
        highlight=False,
        markup=False,
        emoji=False,
    )


def _styled(line: str) -> Text:
    text = Text(printable(line))
    for word, style in _STYLES.items():
        text.highlight_regex(rf"(?<=  ){word}(?=  |$)", style)
    return text


def shown(value: object) -> str:
    """A value for people: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
