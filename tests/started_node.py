"""``barrel-p2p start`` in a process of its own, and commands run beside it."""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p.cli.main import main
from tests.tree import ROOT

__all__ = ["APPLICATION", "Shell", "StartedNode"]

PROGRAM = [sys.executable, "-m", "barrel_p2p"]
SECONDS_MAX = 40

APPLICATION = """
import asyncio
from barrel_p2p.runtime.server import GenServer
from barrel_p2p.runtime.verbs import call

class Counter(GenServer):
    async def init(self):
        self.total, self.last, self.cancelled = 0, None, 0
    @call
    async def add(self, n: int) -> int:
        self.total += n
        return self.total
    @call
    async def seen(self) -> object:
        return self.last
    @call
    async def given_up(self) -> int:
        return self.cancelled
    @call
    async def fail(self) -> int:
        raise ZeroDivisionError("on purpose \\x1b[31m")
    @call(concurrent=True)
    async def never(self) -> int:
        self.last = "waits"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
    async def handle_info(self, msg):
        self.last = msg

async def setup(node):
    await node.start_server(Counter, name="counter")
"""


class StartedNode:
    """A node that has printed its banner."""

    def __init__(self, process: subprocess.Popen[str], banner: dict[str, Any]) -> None:
        self.process = process
        self.banner = banner
        self.name = str(banner["name"])
        self.address = str(banner["address"])

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; the exit code and what it has logged."""
        self.process.send_signal(number)
        _, logged = self.process.communicate(timeout=SECONDS_MAX)
        return self.process.returncode, logged


@functools.cache
def _short_directory() -> str:
    directory = tempfile.mkdtemp(prefix="bp-", dir="/tmp")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


class Shell:
    """A directory to run commands in, with an environment of its own.

    Args:
        directory: The working directory; ``./data`` of the commands is in it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "XDG_STATE_HOME": str(directory / "state"),
            # The path of a socket has to be short, whatever the tests' own are.
            "XDG_RUNTIME_DIR": _short_directory(),
            "TMPDIR": str(directory),
        }
        (directory / "application.py").write_text(APPLICATION)

    def run(
        self, *words: str, seconds_max: float = SECONDS_MAX, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*PROGRAM, *words],
            cwd=self.directory,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=seconds_max,
        )

    def here(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The same in this process, which takes a tenth of the time."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.directory),
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.setenv("XDG_STATE_HOME", self.env["XDG_STATE_HOME"])
            patch.setenv("XDG_RUNTIME_DIR", self.env["XDG_RUNTIME_DIR"])
            code = main(words)
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    def begin(self, *words: str, **env: str) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        return subprocess.Popen(
            [*PROGRAM, *words],
            cwd=self.directory,
            env={**self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def node(self, name: str, *options: str, **env: str) -> Iterator[StartedNode]:
        """A running node, killed at the end if it still runs then."""
        words = ("start", "--json", "--name", name, *options)
        process = self.begin(*words, **env)
        assert process.stdout is not None
        with process:
            try:
                line = process.stdout.readline()
                if not line.startswith("{") or '"error"' in line[:10]:
                    process.kill()
                    raise AssertionError(f"{line}\n{process.communicate()[1]}")
                yield StartedNode(process, json.loads(line))
            finally:
                process.kill()
