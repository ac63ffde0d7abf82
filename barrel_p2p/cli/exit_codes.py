"""What a command's exit code says. They never change.

Source: docs/reference/cli.md.
"""

from __future__ import annotations

from enum import IntEnum

from barrel_p2p import errors

__all__ = ["ExitCode", "exit_code_of"]


class ExitCode(IntEnum):
    """Why a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONNECT = 4
    REMOTE = 5
    INTERRUPTED = 130


_BY_CLASS: tuple[tuple[type[errors.BarrelError], ExitCode], ...] = (
    (errors.UsageError, ExitCode.USAGE),
    (errors.PeerUnreachable, ExitCode.CONNECT),
    (errors.AuthError, ExitCode.CONNECT),
    (errors.VersionMismatch, ExitCode.CONNECT),
    (errors.RingSizeMismatch, ExitCode.CONNECT),
    (errors.PeerError, ExitCode.REMOTE),
    (errors.UnavailableError, ExitCode.REMOTE),
)


def exit_code_of(type_name: object, *, connecting: bool = False) -> ExitCode:
    """The exit code for an error.

    Args:
        type_name: The name of its class, which may come from another process.
        connecting: It carries the report of a connect.
    """
    if connecting:
        return ExitCode.CONNECT
    kind = (
        getattr(errors, str(type_name), None) if type_name in errors.__all__ else None
    )
    if kind is not None:
        for branch, code in _BY_CLASS:
            if issubclass(kind, branch):
                return code
    return ExitCode.FAILED
