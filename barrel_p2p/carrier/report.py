"""What happened while a node was dialled, step by step, for the person who waits.

The report hangs on the exception of a failed connect as a note, and as an object for
``--json``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

__all__ = ["STEPS", "ConnectReport", "Step", "report_of"]

STEPS: Final = ("resolve", "udp", "tls", "identity", "cookie", "version", "session")
"""The steps of a dial, in the order in which they are shown."""

_OF_CODE: Final = {"cookie": "cookie", "version": "version"}
_ATTRIBUTE: Final = "report"


def _now_ms() -> float:
    return time.monotonic_ns() / 1_000_000


@dataclass(slots=True)
class Step:
    """One step: ``state`` is ``ok`` or ``failed``, ``took_ms`` its time."""

    name: str
    state: str
    text: str
    took_ms: float


@dataclass(slots=True)
class ConnectReport:
    """The steps of one connect.

    Args:
        target: The node reference dialled.

    Attributes:
        attempts: Times it was dialled.
    """

    target: str
    attempts: int = 0
    _steps: dict[str, Step] = field(default_factory=dict)
    _began_ms: float = field(default_factory=_now_ms)
    _step_began_ms: float = field(default_factory=_now_ms)

    @property
    def steps(self) -> list[Step]:
        """The steps that were reached in the last attempt, in order."""
        return [self._steps[name] for name in STEPS if name in self._steps]

    @property
    def took_ms(self) -> float:
        """Milliseconds since the connect began."""
        return _now_ms() - self._began_ms

    def begin(self) -> None:
        """Another attempt; what the last one reached is forgotten."""
        self.attempts += 1
        self._steps.clear()
        self._step_began_ms = _now_ms()

    def ok(self, name: str, text: str = "") -> None:
        """Step ``name`` is done; the time runs for the next one."""
        self._set(name, "ok", text)
        self._step_began_ms = _now_ms()

    def failed(self, name: str, text: str) -> None:
        """Step ``name`` is where it failed."""
        self._set(name, "failed", text)

    def refused(self, code: str, text: str) -> None:
        """The handshake was refused with ``code``; what came before it was fine."""
        at = _OF_CODE.get(code, "identity")
        if at == "cookie":
            self.ok("identity")
        self.failed(at, f"{code}: {text}")

    def gave_up(self, name: str, text: str) -> None:
        """Step ``name`` was still waited for in the end, unless one has failed."""
        if all(step.state == "ok" for step in self._steps.values()):
            self._set(name, "failed", text)

    def as_dict(self) -> dict[str, object]:
        """A stable form for programs."""
        return {
            "target": self.target,
            "attempts": self.attempts,
            "took_ms": round(self.took_ms, 1),
            "steps": [
                {
                    "name": step.name,
                    "state": step.state,
                    "text": step.text,
                    "took_ms": round(step.took_ms, 1),
                }
                for step in self.steps
            ],
        }

    def attach(self, error: BaseException) -> None:
        """Hang the report on ``error``, once: as a note, and for ``report_of``."""
        if report_of(error) is None:
            setattr(error, _ATTRIBUTE, self)
            error.add_note(str(self))

    def __str__(self) -> str:
        tries = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        head = f"could not connect to {self.target}"
        lines = [f"{head} (gave up after {self.took_ms / 1_000:.1f} s, {tries})"]
        for step in self.steps:
            state = "ok" if step.state == "ok" else "FAILED"
            took = f"({step.took_ms:.0f} ms)"
            lines.append(f"  {step.name:<10} {state:<7} {step.text} {took}".rstrip())
        return "\n".join(lines)

    def _set(self, name: str, state: str, text: str) -> None:
        took_ms = _now_ms() - self._step_began_ms
        self._steps[name] = Step(name, state, text, took_ms)


def report_of(error: BaseException) -> ConnectReport | None:
    """The report that hangs on ``error``, if there is one."""
    found = getattr(error, _ATTRIBUTE, None)
    return found if isinstance(found, ConnectReport) else None
