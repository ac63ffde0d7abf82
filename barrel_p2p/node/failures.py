"""An exception as plain data, for a program at the other end of a socket or a pipe.

``docs/reference/cli.md`` lists the fields; they are only ever added to.
"""

from __future__ import annotations

from barrel_p2p.auth.signing import Fingerprint
from barrel_p2p.carrier.report import report_of
from barrel_p2p.errors import BarrelError, KeyMismatch, RemoteError

__all__ = ["describe"]


def describe(error: BaseException) -> dict[str, object]:
    """What ``error`` says, as an object for JSON.

    Args:
        error: Any exception. What it is chained to stays behind.

    Returns:
        ``type``, ``code`` and ``message`` always; ``hint``, ``peer``, ``pinned``,
        ``presented``, ``remote_type``, ``remote_traceback`` and ``report`` (the steps
        of a connect) where there are such.
    """
    found: dict[str, object] = {
        "type": type(error).__name__,
        "code": error.code if isinstance(error, BarrelError) else "error",
        "message": str(error) or type(error).__name__,
    }
    if isinstance(error, BarrelError):
        found["hint"] = error.hint
        found["peer"] = error.peer
    if isinstance(error, KeyMismatch):
        found["pinned"] = _shown(error.pinned)
        found["presented"] = _shown(error.presented)
    if isinstance(error, RemoteError):
        found["remote_type"] = error.remote_type or None
        found["remote_traceback"] = error.remote_traceback or None
    report = report_of(error)
    if report is not None:
        found["report"] = report.as_dict()
    return {name: value for name, value in found.items() if value is not None}


def _shown(digest: bytes | None) -> str | None:
    return None if digest is None else Fingerprint(digest).ssh
