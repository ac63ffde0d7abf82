"""The processes of the demo: started, asked, watched, killed, and gone at the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from barrel_p2p.cli.conversation import Conversation, converse
from barrel_p2p.cli.refusals import Refused
from barrel_p2p.cli.showcase_app import GUIDE, Guide
from barrel_p2p.errors import BarrelError
from barrel_p2p.node.data_dir import socket_path
from barrel_p2p.node.requests import CallProcess, Request, WatchEvents

__all__ = ["Failed", "Heard", "ShownNode", "running", "settled"]

_BANNER_BYTES_MAX: Final = 65_536
_LOG_LINES: Final = 5
_KEPT: Final = frozenset({"BARREL_P2P_PICOQUIC"})
_TURN_S: Final = 0.005
_EVENTS_MAX: Final = 100_000


class Failed(Exception):
    """A step did not come out as it should."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An event, and when this process was told of it (``time.perf_counter``)."""

    at_s: float
    event: dict[str, Any]


@dataclass(eq=False)
class ShownNode:
    """One node in a process of its own.

    Args:
        name: ``n1`` and so on.
        directory: What it keeps.
        process: It.
        spawn: Starts one like it.

    Attributes:
        banner: What ``barrel-p2p start`` has printed.
        alive: Whether it was not killed by us yet.
    """

    name: str
    directory: Path
    process: Process
    spawn: Callable[[], Awaitable[Process]]
    banner: dict[str, Any] = field(default_factory=dict)
    alive: bool = True
    _conversation: Conversation | None = None
    _heard: list[Heard] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def full_name(self) -> str:
        """``n1@127.0.0.1``."""
        return str(self.banner["name"])

    @property
    def listens(self) -> bool:
        """Whether it takes requests from us."""
        return self._conversation is not None

    async def ask(self, request: Request) -> Any:
        """What the node answers at its control socket.

        Raises:
            Refused, BarrelError: As ``Conversation.ask``.
        """
        assert self._conversation is not None
        return await self._conversation.ask(request)

    async def guide(self, method: str, *arguments: object) -> Any:
        """Have the guide that runs on the node do something."""
        timeout_ms = 15_000
        request = CallProcess(GUIDE, method, list(arguments), timeout_ms=timeout_ms)
        return (await self.ask(request))["value"]

    async def heard(
        self, event: str, *, patience_s: float, since_s: float = 0.0, **fields: object
    ) -> Heard:
        """The first event of that name with those fields, heard or still to come.

        Raises:
            Failed: It did not come within ``patience_s``.
        """
        at = 0
        try:
            async with asyncio.timeout(patience_s):
                while True:
                    for one in self._heard[at:]:
                        told = one.event
                        if (
                            told["event"] == event
                            and one.at_s >= since_s
                            and all(told.get(k) == v for k, v in fields.items())
                        ):
                            return one
                    at = len(self._heard)
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            about = " ".join(f"{key}={value}" for key, value in fields.items())
            raise Failed(
                f"{self.name} has not heard {event} {about} in {patience_s:g} s"
            ) from None

    async def start(self, patience_s: float, stack: AsyncExitStack) -> None:
        """Read the banner, and begin to listen to events."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(patience_s):
                line = await self.process.stdout.readline()
            self.banner = json.loads(line)
            self.banner["join"]
        except (ValueError, KeyError, TimeoutError) as error:
            raise Failed(f"{self.name} did not start") from error
        opened = stack.enter_async_context
        self._conversation = await opened(converse(self.directory))
        events = await opened(converse(self.directory))
        await opened(_listening(self, events))

    def hear(self, event: dict[str, Any]) -> None:
        """Note an event."""
        if len(self._heard) < _EVENTS_MAX:
            self._heard.append(Heard(time.perf_counter(), event))
        self._news.set()

    async def kill(self) -> float:
        """SIGKILL; when that was."""
        self.alive = False
        at_s = time.perf_counter()
        self.process.kill()
        await self.process.wait()
        return at_s

    async def revive(self) -> None:
        """Start a process in the same directory again; then ``start``."""
        await self.process.communicate()
        self._conversation = None
        self.process = await self.spawn()
        self.alive = True

    async def stop(self, patience_s: float) -> int:
        """SIGTERM, unless it has ended; the exit code.

        Raises:
            Failed: It took too long.
        """
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(patience_s):
                return await self.process.wait()
        except TimeoutError:
            raise Failed(
                f"{self.name} has not stopped within {patience_s:g} s"
            ) from None

    def log(self) -> list[str]:
        """The last that it has logged and that is no mere information."""
        try:
            lines = _log_of(self.directory).read_text(errors="replace").splitlines()
        except OSError:
            return []
        told = (_complaint(line) for line in lines)
        return [line for line in told if line is not None][-_LOG_LINES:]


@asynccontextmanager
async def running(
    directory: Path, names: Iterable[str], *, cookie: str, config: Path
) -> AsyncIterator[list[ShownNode]]:
    """Processes of nodes; none of them is left at the end. They are not ready yet.

    Args:
        directory: Holds a directory for each.
        names: What stands before the ``@``.
        cookie: What the nodes share.
        config: A TOML file.
    """
    nodes: list[ShownNode] = []
    try:
        for name in names:
            nodes.append(await _spawned(directory / name, name, cookie, config))
        yield nodes
    finally:
        for node in nodes:
            if node.process.returncode is None:
                with suppress(ProcessLookupError):
                    node.process.kill()
        # What they wrote last, and the pipes with it.
        await asyncio.gather(*(node.process.communicate() for node in nodes))
        for node in nodes:
            _remove_socket(node.directory)


async def settled(
    holds: Callable[[], Awaitable[str]], *, patience_s: float, what: str
) -> None:
    """Wait until ``holds`` says nothing against it.

    Raises:
        Failed: It says something even after ``patience_s``.
    """
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + patience_s
    while against := await holds():
        if loop.time() > give_up_s:
            raise Failed(f"{what}: {against} after {patience_s:g} s")
        await asyncio.sleep(_TURN_S)


async def _spawned(directory: Path, name: str, cookie: str, config: Path) -> ShownNode:
    words = [sys.executable, "-m", "barrel_p2p", "start", "--json", "--name", name]
    words += ["--bind", "127.0.0.1", "--port", "0", "--config", str(config)]
    words += ["--data-dir", str(directory), "--app", f"{Guide.__module__}:setup"]

    async def spawn() -> Process:
        with _log_of(directory).open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *words,
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                env=_environment(cookie),
                limit=_BANNER_BYTES_MAX,
            )

    return ShownNode(name, directory, await spawn(), spawn)


@asynccontextmanager
async def _listening(node: ShownNode, events: Conversation) -> AsyncIterator[None]:
    subscribed = asyncio.get_running_loop().create_future()

    async def listen() -> None:
        with suppress(BarrelError, Refused, ConnectionError):
            async for told in events.watch(WatchEvents()):
                if subscribed.done():
                    node.hear(told)
                else:
                    subscribed.set_result(None)
        if not subscribed.done():
            subscribed.set_exception(Failed(f"{node.name} tells no events"))

    task = asyncio.create_task(listen())
    try:
        await subscribed
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _remove_socket(directory: Path) -> None:
    """A node that was killed leaves its socket, which may lie elsewhere."""
    with suppress(BarrelError, OSError):
        socket_path(directory).unlink()


def _log_of(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.log")


def _environment(cookie: str) -> dict[str, str]:
    """Ours, without the settings of nodes: the demo is the same everywhere."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("BARREL_P2P_") or name in _KEPT
    }
    return ours | {"BARREL_P2P_DIST_COOKIE": cookie}


def _complaint(line: str) -> str | None:
    """What a line of a log says; None if it is well."""
    try:
        logged = json.loads(line)
        if logged["level"] in ("info", "debug"):
            return None
        return f"{logged['level']}: {logged['message']}"
    except (ValueError, KeyError, TypeError):
        return line  # The interpreter's own words, such as a traceback.
