"""Why a command failed, as the lines that its user reads.

An error of this process and one that a running node told us of look the same: both are
the object that ``barrel_p2p.node.failures.describe`` makes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from barrel_p2p.cli.exit_codes import ExitCode, exit_code_of

__all__ = ["Refused", "code_of", "lines_of", "report_lines"]

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_DOCS = "docs: reference/errors"


class Refused(Exception):
    """A running node refused a command.

    Args:
        described: Its error, as ``describe`` makes it.
        verb: What could not be done to the target of a failed connect.
    """

    def __init__(self, described: dict[str, Any], *, verb: str = "connect to") -> None:
        super().__init__(str(described.get("message", "refused")))
        self.described = described
        self.verb = verb


def code_of(described: Mapping[str, Any]) -> ExitCode:
    """The exit code for a described error."""
    return exit_code_of(described.get("type"), connecting="report" in described)


def lines_of(described: Mapping[str, Any], *, verb: str = "connect to") -> list[str]:
    """The lines for a described error.

    Args:
        described: As ``describe`` makes it.
        verb: What could not be done to the target of a failed connect.
    """
    report = described.get("report")
    if isinstance(report, Mapping):
        tries = report["attempts"]
        spent = f"{report['took_ms'] / 1_000:.1f} s"
        attempts = f"{tries} attempt{'s' * (tries != 1)}"
        target = _place(report["target"])
        lines = [
            f"error: could not {verb} {target} (gave up after {spent}, {attempts})"
        ]
        lines += report_lines(report)
        if all(step["state"] == "ok" for step in report["steps"]):
            lines.append(f"  {described.get('message')}")
    else:
        lines = [f"error: {described.get('message')}"]
    return [*lines, *_advice(described), *_remote_traceback(described)]


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """One line for each step of a connect."""
    lines = []
    for step in report["steps"]:
        state = "ok" if step["state"] == "ok" else "FAILED"
        text = step["text"]
        # What discovery says ends with its own time.
        took = "" if text.endswith(" ms)") else f"({step['took_ms']:.0f} ms)"
        said = " ".join(part for part in (text, took) if part)
        lines.append(f"  {step['name']:<10} {state:<7} {said}")
    return lines


def _place(target: str) -> str:
    return target.partition("#")[0]


def _advice(described: Mapping[str, Any]) -> Iterator[str]:
    code = described.get("code", "error")
    where = f"{_DOCS}   code: {code}"
    if code == "key_mismatch" and (shown := _presented(described)):
        target = described.get("report", {}).get("target") or described.get("peer")
        directory = described.get("directory")
        at = f" --data-dir {shlex.quote(directory)}" if directory else ""
        yield (
            f"  If the operator of {described.get('peer')} rotated its key: "
            f"barrel-p2p keys trust {_place(str(target))} --replace {shown}{at}"
        )
        yield f"  If not, treat this as an attack.   {where}"
        return
    hint = described.get("hint")
    yield f"  {hint}   {where}" if hint else f"  {where}"


def _presented(described: Mapping[str, Any]) -> str | None:
    """The key that was shown to us; None if it was ours that was refused."""
    told = described.get("presented")
    if isinstance(told, str):
        return told
    found = _FINGERPRINT.search(str(described.get("message")))
    return found.group() if found else None


def _remote_traceback(described: Mapping[str, Any]) -> Iterator[str]:
    traceback = described.get("remote_traceback")
    if isinstance(traceback, str):
        yield f"--- traceback on {described.get('peer')} ---"
        yield from traceback.rstrip().splitlines()
