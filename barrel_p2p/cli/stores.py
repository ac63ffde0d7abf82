"""``store``: looks at what a node that does not run keeps, and saves what it can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclopts import App

from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.local_node import directory_of
from barrel_p2p.cli.options import Json, Local
from barrel_p2p.cli.output import say
from barrel_p2p.storage.salvage import (
    StoreReport,
    check_store,
    salvage_store,
    stores_in,
)

__all__ = ["check", "salvage"]

app = App(name="store", help="Look at what a node keeps on its disk.")

_STYLES = {"whole": "ok", "in use": "warn"}


@app.command
def check(
    path: Path | None = None,
    /,
    *,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Read stores whole, as a node does at its start. Changes nothing.

    Args:
        path: A store, or a directory of them; default: a node's data directory.
        local: Which node, without a path.
        json: Print {"stores": [...]}.
    """
    directory = directory_of(local.node, local.data_dir) if path is None else path
    reports = [check_store(each) for each in stores_in(directory)]
    lines = [line for report in reports for line in _lines(report)]
    value = {"stores": [_value(report) for report in reports]}
    say(value, lines or ["no stores"], as_json=json)
    right = all(report.state == "whole" for report in reports)
    return ExitCode.OK if right else ExitCode.FAILED


@app.command
def salvage(
    path: Path,
    /,
    *,
    store: str | None = None,
    node: str | None = None,
    json: Json = False,
) -> int:
    """Put what is whole of a damaged store into a new one, and keep the old beside it.

    Args:
        path: The store.
        store: What it is called, where it does not say so any more.
        node: The name of its node, likewise.
        json: Print {"path": ..., "damaged": ..., "kept": ..., "refused": ...}.
    """
    done = salvage_store(path, store=store, node=node)
    value = {
        "path": str(done.path),
        "damaged": str(done.damaged),
        "kept": done.kept,
        "refused": done.refused,
    }
    lines = [
        f"kept {done.kept} rows in {done.path}",
        f"{done.refused} rows were damaged; the old file is {done.damaged}",
    ]
    say(value, lines, as_json=json)
    return ExitCode.OK


def _value(report: StoreReport) -> dict[str, Any]:
    return {
        "path": str(report.path),
        "state": report.state,
        "why": report.why,
        "store": report.store,
        "node": report.node,
        "values": report.values,
        "tombstones": report.tombstones,
        "bytes": report.file_bytes,
    }


def _lines(report: StoreReport) -> list[str]:
    style = _STYLES.get(report.state, "fail")
    rows = f"{report.values} values, {report.tombstones} removed keys"
    size = f"{report.file_bytes} bytes"
    if report.state == "whole":
        called = f"store {report.store} of {report.node}"
        return [f"{report.path}  {style}  {called}: {rows}, {size}"]
    lines = [f"{report.path}  {style}  {report.state}: {report.why}"]
    if report.state == "damaged":
        lines.append(f"  {rows} can be read; barrel-p2p store salvage {report.path}")
    return lines
