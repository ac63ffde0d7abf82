"""A child process in our process group that answers in JSON lines.

The children of a benchmark stay in its process group, so that their CPU time counts as
ours, and end with it: each watches its stdin, which closes when we close it or die.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from bench.harness import pinned

__all__ = ["ANSWER_SECONDS_MAX", "Child", "ChildFailed"]

ANSWER_SECONDS_MAX = 120.0
"""How long a child may take for one line before it counts as stuck."""

EXIT_SECONDS_MAX = 5.0
LINE_BYTES_MAX = 1 << 20


class ChildFailed(RuntimeError):
    """A child process ended, got stuck, or said something else than what was agreed."""


class Child:
    """A process of this interpreter, its stdin and stdout connected to us.

    Use as a context manager: leaving the block ends the child, by its process id.

    Args:
        argv: Arguments for the interpreter, as in ``["-m", "bench.peers", ...]``.
        cpus: Cores to pin the child and all its threads to, or None.
    """

    def __init__(
        self, argv: Sequence[str], *, cpus: Sequence[int] | None = None
    ) -> None:
        with pinned(cpus):
            self._process = subprocess.Popen(
                [sys.executable, *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
        self._name = " ".join(argv)
        self._pending = b""

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def say(self, value: Mapping[str, object]) -> None:
        """Write one JSON object as a line to the child's stdin.

        Raises:
            ChildFailed: The child has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value).encode() + b"\n")
        except BrokenPipeError as error:
            raise ChildFailed(f"`{self._name}` has ended") from error

    def line(self, timeout_s: float = ANSWER_SECONDS_MAX) -> dict[str, object]:
        """Wait for the child's next line and return the JSON object on it.

        Raises:
            ChildFailed: The child ended first, wrote something else, or took longer
                than ``timeout_s``.
        """
        raw = self._read_line(time.monotonic() + timeout_s)
        try:
            value = json.loads(raw)
        except ValueError as error:
            raise ChildFailed(f"`{self._name}` wrote {raw[:200]!r}") from error
        if not isinstance(value, dict):
            raise ChildFailed(f"`{self._name}` wrote {raw[:200]!r}, no JSON object")
        return value

    def _read_line(self, deadline_s: float) -> bytes:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not selector.select(left_s):
                    raise ChildFailed(f"`{self._name}` gave no answer in time")
                chunk = os.read(self._process.stdout.fileno(), 65536)
                if not chunk:
                    status = self._process.wait(EXIT_SECONDS_MAX)
                    raise ChildFailed(f"`{self._name}` ended with status {status}")
                self._pending += chunk
                if len(self._pending) > LINE_BYTES_MAX:
                    raise ChildFailed(
                        f"`{self._name}` wrote over LINE_BYTES_MAX={LINE_BYTES_MAX}"
                    )
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def close(self) -> None:
        """End the child: close its pipes, then terminate, then kill. Idempotent."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()  # One that is stuck in a write goes on, and ends.
        try:
            self._process.wait(EXIT_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            try:
                self._process.wait(EXIT_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
