"""How a node's log looks: lines for people on a terminal, JSON lines elsewhere.

A JSON line has ``time``, ``level``, ``logger`` and ``message``; ``event``, ``node`` and
``traceback`` where there are such.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from typing import Final, TextIO

from barrel_p2p.cli.output import printable

__all__ = ["JsonLines", "TerminalLines", "log_to"]

_EXTRA: Final = ("event", "node")


class JsonLines(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line without its newline."""
        at = dt.datetime.fromtimestamp(record.created, tz=dt.UTC)
        line: dict[str, object] = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in _EXTRA:
            value = getattr(record, name, None)
            if value is not None:
                line[name] = str(value)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TerminalLines(logging.Formatter):
    """Time, level if it matters, and the text, without anything to steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as lines."""
        at = dt.datetime.fromtimestamp(record.created).astimezone()
        level = (
            "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        )
        text = f"{at:%H:%M:%S} {level}{record.getMessage()}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return printable(text)


def log_to(stream: TextIO | None = None) -> None:
    """Send what the product logs to ``stream``, by default stderr, from level INFO."""
    target = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(target)
    handler.setFormatter(TerminalLines() if target.isatty() else JsonLines())
    logger = logging.getLogger("barrel_p2p")
    logger.setLevel(logging.INFO)
    logger.handlers = [handler]
    logger.propagate = False
