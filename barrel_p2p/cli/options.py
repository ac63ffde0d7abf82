"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from barrel_p2p.errors import InvalidValue

__all__ = ["Flag", "Json", "Local", "Target", "timeout_ms"]

type Json = Annotated[bool, Parameter(name="--json", negative="", show_default=False)]

type Flag = Annotated[bool, Parameter(negative="", show_default=False)]

_TIMEOUT_S_MAX = 3_600


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Local:
    """Which node of this host.

    Args:
        node: Its name, or what stands before the @; default: the only one in ./data.
        data_dir: Its data directory.
    """

    node: str | None = None
    data_dir: Path | None = None


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Target:
    """Which node, here or elsewhere.

    Args:
        node: A running node of this host; default: the only one in ./data.
        data_dir: The data directory of a running node of this host.
        peer: A node anywhere, name@host:port, dialled by a hidden probe.
        ephemeral: With --peer: a new identity for this command alone.
        config: With --peer: a TOML file with the cluster's cookie.
        timeout: Seconds that connecting, and then the request, may take.
    """

    node: str | None = None
    data_dir: Path | None = None
    peer: str | None = None
    ephemeral: Flag = False
    config: Path | None = None
    timeout: float = 10.0


def timeout_ms(seconds: float) -> int:
    """``seconds`` in milliseconds.

    Raises:
        InvalidValue: It is not within 0.001 to 3,600.
    """
    if not 0.001 <= seconds <= _TIMEOUT_S_MAX:
        raise InvalidValue(
            f"--timeout {seconds:g} is not within 0.001 to {_TIMEOUT_S_MAX} seconds"
        )
    return max(1, int(seconds * 1_000))
