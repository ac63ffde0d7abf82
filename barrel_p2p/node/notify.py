"""A word to systemd, when it asked for one.

Source: systemd, sd_notify(3).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["notify"]


def notify(state: str, *, env: Mapping[str, str] | None = None) -> bool:
    """Send ``state``, such as ``READY=1``; returns whether anybody listens.

    Args:
        state: What sd_notify takes.
        env: Where ``NOTIFY_SOCKET`` is looked for; None is the process's own.
    """
    address = (os.environ if env is None else env).get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    with (
        suppress(OSError),
        socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        ) as sender,
    ):
        sender.sendto(state.encode(), address)
        return True
    return False
