"""What a test may ask of the machine it runs on, and how much work it may do.

A missing tool skips a test with a line that says how to get it; where ``CI=true``
it fails instead, so that no check disappears there unnoticed.
"""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["CI", "DEEP", "require_tool", "rounds"]

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
    if path is not None:
        return path
    remedy = _REMEDY.get(name, f"install {name} and put it on PATH")
    message = f"needs the program {name}: {remedy}"
    if CI:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def rounds(short: int, *, whole: int) -> int:
    """How often to repeat a long loop: ``whole`` in a deep run, else ``short``."""
    return whole if DEEP else short
