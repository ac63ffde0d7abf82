"""What a test may ask of the machine it runs on, and how much work it may do.

A missing tool skips a test with a line that says how to get it; where ``CI=true``
it fails instead, so that no check disappears there unnoticed.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import NoReturn

import pytest

__all__ = [
    "CI",
    "DEEP",
    "raw_icmp_socket",
    "require_file",
    "require_ipv6",
    "require_root",
    "require_tool",
    "rounds",
]

CI = os.environ.get("CI") == "true"
DEEP = os.environ.get("BARREL_P2P_DEEP") == "1"

_REMEDY = {
    "erl": "apt-get install erlang-base",
    "clang": "apt-get install clang libclang-rt-14-dev",
    "cmake": "apt-get install cmake",
    "gcc": "apt-get install gcc",
}


def require_tool(name: str) -> str:
    """Return the path of the program ``name``, or end the test for want of it."""
    path = shutil.which(name)
    if path is None:
        remedy = _REMEDY.get(name, f"install {name} and put it on PATH")
        _lack(f"needs the program {name}: {remedy}")
    return path


def require_file(path: Path, remedy: str) -> Path:
    """Return ``path``, or end the test because nobody has built it."""
    if not path.is_file():
        _lack(f"needs the file {path}: {remedy}")
    return path


def require_root(purpose: str) -> None:
    """End the test unless it runs as root, which it needs for ``purpose``."""
    if os.geteuid() != 0:
        _lack(f"needs to run as root, for {purpose}")


def require_ipv6() -> None:
    """End the test unless this host has an IPv6 loopback address."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        _lack("needs IPv6 on loopback: sysctl net.ipv6.conf.lo.disable_ipv6=0")


def raw_icmp_socket() -> socket.socket:
    """A raw ICMP socket, to forge errors with; ends the test if it is not allowed."""
    try:
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except PermissionError:
        _lack("needs a raw ICMP socket: run as root, or grant CAP_NET_RAW")


def rounds(short: int, *, whole: int) -> int:
    """How often to repeat a long loop: ``whole`` in a deep run, else ``short``."""
    return whole if DEEP else short


def _lack(message: str) -> NoReturn:
    if CI:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
