"""Clusters of node processes for ``bench.overlay``, and questions to all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.child import Child, ChildFailed

__all__ = ["Cluster"]

WAIT_SECONDS_MAX = 60.0
LOOK_EVERY_SECONDS = 0.05


class Cluster:
    """``size`` nodes, each a process, started and joined unless told otherwise.

    Args:
        size: How many.
        join: Whether they join the first one, one after the other.
        settings: Keys of the configuration, for all.

    Raises:
        ChildFailed: A node did not start, or did not join.
    """

    def __init__(self, size: int, *, join: bool = True, **settings: object) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="bench-")
        self._settings = [f"{key}={value}" for key, value in settings.items()]
        self.nodes: dict[str, Child] = {}
        self.addresses: dict[str, str] = {}
        self.listening_ns: dict[str, int] = {}
        try:
            names = [f"n{number}@127.0.0.1" for number in range(size)]
            for name in names:
                self._launch(name)
            for name in names:
                self._greet(name)
            if join:
                for name in names[1:]:
                    self.ask(name, "join", ref=self.addresses[names[0]])
                self.wait_members(size)
        except BaseException:
            self.close()
            raise

    def start(self, name: str) -> None:
        """Start one more node, or one that was killed again."""
        self._launch(name)
        self._greet(name)

    def kill(self, name: str) -> int:
        """SIGKILL ``name``; returns when."""
        child = self.nodes.pop(name)
        killed_ns = time.monotonic_ns()
        os.kill(child.pid, signal.SIGKILL)
        child.close()
        return killed_ns

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[int]:
        """A node that is silent: stopped, while its port still swallows datagrams."""
        child = self.nodes.pop(name)
        os.kill(child.pid, signal.SIGSTOP)
        try:
            yield time.monotonic_ns()
        finally:
            os.kill(child.pid, signal.SIGCONT)
            self.nodes[name] = child

    def ask(self, name: str, do: str, **arguments: object) -> dict[str, Any]:
        """What one node answers."""
        self.nodes[name].say({"do": do, **arguments})
        return self.nodes[name].line()

    def ask_all(self, do: str, **arguments: object) -> dict[str, dict[str, Any]]:
        """What all answer; they work at the same time."""
        for child in self.nodes.values():
            child.say({"do": do, **arguments})
        return {name: child.line() for name, child in self.nodes.items()}

    def wait_members(self, count: int) -> None:
        """Wait until every node knows ``count`` members.

        Raises:
            ChildFailed: That did not happen in ``WAIT_SECONDS_MAX``.
        """
        self.wait(
            lambda views: all(view["members"] == count for view in views.values()),
            f"{count} members everywhere",
        )

    def wait(self, wanted: Any, what: str) -> dict[str, dict[str, Any]]:
        """Look at all views until ``wanted(views)``; return them.

        Raises:
            ChildFailed: That did not happen in ``WAIT_SECONDS_MAX``.
        """
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not wanted(views := self.ask_all("views")):
            if time.monotonic() > deadline:
                raise ChildFailed(f"no {what} in {WAIT_SECONDS_MAX:g} s: {views}")
            time.sleep(LOOK_EVERY_SECONDS)
        return views

    def close(self) -> None:
        """End all nodes. Idempotent."""
        for child in self.nodes.values():
            # Nobody waits for the others' farewells.
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
            child.close()
        self.nodes.clear()
        self._directory.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _launch(self, name: str) -> None:
        directory = str(Path(self._directory.name) / name)
        argv = ["-m", "bench.overlay_node", name, directory, *self._settings]
        self.nodes[name] = Child(argv)

    def _greet(self, name: str) -> None:
        said = self.nodes[name].line()
        self.addresses[name] = str(said["address"])
        self.listening_ns[name] = int(str(said["listening_ns"]))
