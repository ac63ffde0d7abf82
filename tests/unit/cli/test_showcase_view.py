"""The views of the demo: a table that fits a terminal, lines, and JSON lines."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from rich.console import Console

from barrel_p2p.cli.showcase_view import JsonView, LinesView, TableView

FINGERPRINT = "SHA256:" + "k3Xo/+9f" * 5 + "abc"


def row(name: str, state: str = "runs") -> dict[str, Any]:
    whole = {"node": name, "process": 4194304, "port": 65535, "state": state}
    whole |= {"fingerprint": FINGERPRINT}
    if state != "runs":
        return whole
    others = [f"n{number}" for number in (2, 3, 4)]
    services = [{"name": "greeter-2", "node": "n1"}]
    return whole | {
        "active": others,
        "passive": others,
        "members": 5,
        "services": services,
    }


ROWS = [row(f"n{number}") for number in range(1, 5)] + [row("n5", "killed")]
STEP = {
    "step": "converge",
    "ok": True,
    "text": "5/5 \x1b[31m",
    "more": ("and more",),
    "ms": 1234.5,
    "links": 7,
}


def test_the_table_fits_a_terminal_of_80_columns_and_is_drawn_in_place() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    with TableView(console) as view:
        view.table(ROWS, milestone=False)
        view.step(STEP)
        view.table([row("n1", "stopped"), *ROWS[1:]], milestone=False)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "…" not in drawn
    assert "..." not in drawn
    assert max(map(len, drawn.splitlines())) <= 80
    last = drawn.rpartition("node")[2]
    assert re.search(r"n1 +65535 +k3Xo/\+9f +stopped", last)
    assert re.search(r"n5 +65535 +k3Xo/\+9f +killed", last)
    assert re.search(r"n4 .*runs +n2 n3 n4 +n2 n3 n4 +5 +greeter-2 \(n1\)", last)
    assert "converge   ok      5/5 \\x1b[31m  (1,234 ms)" in drawn
    # The cursor goes up: what was drawn before is drawn over.
    assert "\x1b[1A" in out.getvalue()


def test_lines_have_a_table_at_milestones_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with LinesView() as view:
        view.table(ROWS, milestone=False)
        assert capsys.readouterr().out == ""
        view.table(ROWS, milestone=True)
        assert capsys.readouterr().out.count("\n") == 8
        view.step({**STEP, "ok": False, "text": "no\nway"})
        said = capsys.readouterr().out.splitlines()
        assert said[0] == "converge   FAILED  no way  (1,234 ms)"
        assert said[1].strip() == "and more"
        view.end({"passed": False, "seconds": 1.25})
    assert "The demo failed after 1.2 s." in capsys.readouterr().out


def test_every_line_of_json_says_what_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with JsonView() as view:
        view.step(STEP)
        view.table(ROWS, milestone=False)
        view.table(ROWS, milestone=True)
        view.end({"passed": True, "seconds": 1.0})
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in told] == ["step", "table", "end"]
    assert told[0]["links"] == 7
    assert told[1]["nodes"] == ROWS
