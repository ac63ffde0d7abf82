"""How the demo is told: a live table, plain lines, or JSON lines.

On a terminal the table stays at the bottom and the steps scroll above it. Elsewhere the
table is printed after the steps that change it most.
"""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from barrel_p2p.cli.output import columns, printable

__all__ = ["JsonView", "LinesView", "TableView", "View", "view"]

_HEADS: Final = (
    *("node", "port", "key", "state"),
    *("active", "passive", "members", "services"),
)
_KEY_CHARS: Final = 8
_STYLES: Final = {"runs": "green", "killed": "bold red", "stopped": "dim"}


class View(ABC):
    """Where the demo is told. Entered before the first step, left after the last."""

    @abstractmethod
    def step(self, told: Mapping[str, Any]) -> None:
        """A step has ended: ``step``, ``ok``, ``text``, ``more``, ``ms`` and more."""

    @abstractmethod
    def table(self, rows: Sequence[Mapping[str, Any]], *, milestone: bool) -> None:
        """The nodes as they are.

        Args:
            rows: As ``Showcase.rows`` makes them.
            milestone: A step has changed much, so that it is worth a print.
        """

    @abstractmethod
    def end(self, told: Mapping[str, Any]) -> None:
        """The demo is over: ``passed``, ``seconds``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        sys.stdout.flush()


def view(*, as_json: bool) -> View:
    """What fits stdout."""
    if as_json:
        return JsonView()
    return TableView() if sys.stdout.isatty() else LinesView()


class JsonView(View):
    """JSON lines on stdout, each with ``event``: step, table or end."""

    def step(self, told: Mapping[str, Any]) -> None:
        """One line."""
        self._say("step", told)

    def table(self, rows: Sequence[Mapping[str, Any]], *, milestone: bool) -> None:
        """One line, at milestones."""
        if milestone:
            self._say("table", {"nodes": rows})

    def end(self, told: Mapping[str, Any]) -> None:
        """The last line."""
        self._say("end", told)

    def _say(self, event: str, told: Mapping[str, Any]) -> None:
        print(json.dumps({"event": event, **told}, ensure_ascii=False), flush=True)


class LinesView(View):
    """Plain lines on stdout."""

    def step(self, told: Mapping[str, Any]) -> None:
        """A line, and more of them below if there is more to say."""
        self._print("\n".join(_step_lines(told)))

    def table(self, rows: Sequence[Mapping[str, Any]], *, milestone: bool) -> None:
        """The table, at milestones."""
        if milestone:
            cells = [_HEADS, *(_cells(row) for row in rows)]
            self._print("\n".join(["", *columns(cells, indent="  "), ""]))

    def end(self, told: Mapping[str, Any]) -> None:
        """The verdict, and where to go from here."""
        for line in _end_lines(told):
            self._print(line)

    def _print(self, text: str) -> None:
        print(text, flush=True)


class TableView(LinesView):
    """A table that stays below the lines and changes as the nodes do.

    Args:
        console: Where it is drawn; None is stdout.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, markup=False, emoji=False)
        self._live = Live(console=self._console, auto_refresh=False)

    def table(self, rows: Sequence[Mapping[str, Any]], *, milestone: bool) -> None:
        """Draw it anew."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for head in _HEADS:
            table.add_column(head, no_wrap=True)
        for row in rows:
            state = str(row["state"])
            cells = [Text(cell) for cell in _cells(row)]
            cells[_HEADS.index("state")].stylize(_STYLES.get(state, "yellow"))
            table.add_row(*cells, style=_STYLES["stopped"] if state == "killed" else "")
        self._live.update(table, refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def _print(self, text: str) -> None:
        styled = Text(text)
        styled.highlight_regex(r"(?m)(?<=  )ok(?=  )", "green")
        styled.highlight_regex(r"(?m)(?<=  )FAILED(?=  )", "bold red")
        self._console.print(styled, soft_wrap=True)


def _step_lines(told: Mapping[str, Any]) -> list[str]:
    state = "ok" if told["ok"] else "FAILED"
    text = printable(str(told["text"])).replace("\n", " ")
    lines = [f"{told['step']:<9}  {state:<6}  {text}  ({told['ms']:,.0f} ms)"]
    lines += [f"{'':19}{printable(line)}" for line in told.get("more", ())]
    return lines


def _end_lines(told: Mapping[str, Any]) -> list[str]:
    if not told["passed"]:
        return ["", f"The demo failed after {told['seconds']:.1f} s."]
    return [
        "",
        f"Every step passed. {told['seconds']:.1f} s. Next:",
        "  barrel-p2p start --name a     runs a node, and says how a second one joins",
        "  barrel-p2p members --watch    shows who is in its cluster",
        "  docs/tutorials                the same from Python",
    ]


def _cells(row: Mapping[str, Any]) -> list[str]:
    key = str(row["fingerprint"] or "").removeprefix("SHA256:")
    services = [f"{each['name']} ({each['node']})" for each in row.get("services", ())]
    cells = [
        *(row["node"], row["port"] or "", key[:_KEY_CHARS], row["state"]),
        " ".join(row.get("active", ())),
        " ".join(row.get("passive", ())),
        row.get("members", ""),
        ", ".join(services),
    ]
    return [printable(str(cell)) for cell in cells]
