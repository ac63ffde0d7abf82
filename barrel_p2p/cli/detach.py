"""``start --detach``: a node that outlives the shell it was started from.

The process forks twice, before there is an event loop, and the grandchild has a session
of its own. The process that the shell waits for ends when the node has said that it
runs and answers at its control socket, or when it is clear that it will not.

Bounded by ``BANNER_BYTES_MAX`` and ``TAIL_BYTES_MAX``.

Source: Linux, daemon(7), "SysV Daemons".
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from barrel_p2p.cli.local_node import ControlClient
from barrel_p2p.errors import CallTimeout, StorageError
from barrel_p2p.node.requests import Info

__all__ = ["BANNER_BYTES_MAX", "TAIL_BYTES_MAX", "Launched", "launch"]

BANNER_BYTES_MAX: Final = 1 << 20
TAIL_BYTES_MAX: Final = 4_096
"""The end of a log that is shown when a node did not start."""

_LOG_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
_LOG_MODE: Final = 0o600


@dataclass(frozen=True, slots=True)
class Launched:
    """The two ends of a launch.

    Attributes:
        pipe: The parent reads from it what the node says, the node writes to it.
        log: Where stdout and stderr of the node go.
        log_from: The length of the log before this start.
        is_node: Whether this process is the node.
    """

    pipe: int
    log: Path
    log_from: int
    is_node: bool

    def tell(self, banner: dict[str, Any]) -> None:
        """In the node: say that it runs."""
        with os.fdopen(self.pipe, "w") as pipe:
            json.dump(banner, pipe)

    def wait(self, directory: Path, timeout: float) -> dict[str, Any]:
        """In the parent: wait until the node answers commands.

        Args:
            directory: The node's data directory.
            timeout: Seconds.

        Returns:
            What the node told, with ``pid`` and ``log``.

        Raises:
            StorageError: It ended instead. The end of its log is in the message.
            CallTimeout: It did neither in time, and was ended.
        """
        until = time.monotonic() + timeout
        with os.fdopen(self.pipe, "rb", buffering=0) as pipe:
            pid = int(_read_line(pipe.fileno(), until) or 0)
            said = _read_to_end(pipe.fileno(), until)
        if said is None:
            if pid > 0:
                os.kill(pid, signal.SIGTERM)
            raise CallTimeout(
                f"the node did not say within {timeout:g} s that it runs; it was ended",
                hint=f"its log is {self.log}",
            )
        if not said:
            raise StorageError(
                f"the node did not start; its log says:\n{self._tail()}",
                hint=f"the whole log is {self.log}",
            )
        banner: dict[str, Any] = json.loads(said)
        with ControlClient(directory) as node:
            answer = node.ask(Info())
        if answer["pid"] != pid:
            text = f"process {answer['pid']} answers in {directory}, and not {pid}"
            raise StorageError(text, hint=f"the log is {self.log}")
        return {**banner, "pid": pid, "log": str(self.log)}

    def _tail(self) -> str:
        try:
            with self.log.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(self.log_from, end - TAIL_BYTES_MAX))
                return log.read(TAIL_BYTES_MAX).decode(errors="replace").strip()
        except OSError as error:
            return f"(cannot be read: {error.strerror})"


def launch(log: Path) -> Launched:
    """Fork a node off. Returns twice: in the parent, and in the node.

    Args:
        log: A file of the user's own, appended to. Its directory exists.

    Raises:
        StorageError: The log cannot be opened.
    """
    try:
        file = os.open(log, _LOG_FLAGS, _LOG_MODE)
    except OSError as error:
        raise StorageError(f"cannot open the log {log}: {error.strerror}") from error
    log = log.absolute()
    log_from = os.lseek(file, 0, os.SEEK_END)
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _detach(file, writing)
        return Launched(writing, log, log_from, is_node=True)
    os.close(writing)
    os.close(file)
    os.waitpid(child, 0)
    return Launched(reading, log, log_from, is_node=False)


def _detach(log: int, writing: int) -> None:
    """In the child: go on as a grandchild that has no terminal."""
    try:
        os.setsid()
        if os.fork() > 0:
            os._exit(0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        for spare in {nothing, log} - {0, 1, 2}:
            os.close(spare)
        os.write(writing, f"{os.getpid()}\n".encode())
    except OSError:
        _give_up()


def _give_up() -> NoReturn:
    # Not `sys.exit`: what the parent would do at its exit is not the child's to do.
    os._exit(1)


def _read_line(file: int, until: float) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = _read(file, 1, until)
        if not byte:
            return b""
        line += byte
    return line


def _read_to_end(file: int, until: float) -> bytes | None:
    """What is written until the writer closes; None if it does not in time."""
    found = b""
    while len(found) <= BANNER_BYTES_MAX:
        part = _read(file, 65_536, until)
        if part is None:
            return None
        if not part:
            return found
        found += part
    return None


def _read(file: int, size: int, until: float) -> bytes | None:
    ready, _, _ = select.select([file], [], [], max(0.0, until - time.monotonic()))
    return os.read(file, size) if ready else None
