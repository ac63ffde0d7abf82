"""``demo --pair``: two nodes in two processes find, trust, call and lose each other.

Every line is printed after what it says has happened, from what was seen to happen. A
step that fails ends the demo; the later ones are not reached.
"""

from __future__ import annotations

import asyncio
import json as json_text
import os
import secrets
import shlex
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from barrel_p2p.auth.trust import fingerprint
from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.interruptible import interruptible, say_interrupted
from barrel_p2p.cli.local_node import ControlClient
from barrel_p2p.cli.output import printable
from barrel_p2p.cli.tour_server import COUNTER, Counter
from barrel_p2p.config import Config
from barrel_p2p.core.events import Down
from barrel_p2p.core.names import At
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import BarrelError, InvalidValue
from barrel_p2p.node.node import Node
from barrel_p2p.node.requests import ListKeys
from barrel_p2p.node.run import run

__all__ = ["tour"]

_CALLS_MAX: Final = 10_000_000
_PATIENCE_S: Final = 30.0
_BANNER_BYTES_MAX: Final = 65_536
_LOG_LINES = 5
_KEPT = frozenset({"BARREL_P2P_PICOQUIC"})


class _Failed(Exception):
    """A step did not come out as it should."""


@dataclass(slots=True)
class _Tour:
    """The demo under way.

    Args:
        directory: Gone at the end.
        calls: How many.
        out: Where lines go; None for JSON alone.
        steps: What has happened.
    """

    directory: Path
    calls: int
    out: IO[str] | None
    cookie: str = field(default_factory=lambda: secrets.token_hex(16))
    steps: list[dict[str, Any]] = field(default_factory=list)

    async def step(self, name: str, work: Callable[[], Awaitable[str]]) -> None:
        """Do ``work``, and tell what it says and how long it took."""
        began_s = time.perf_counter()
        ok = False
        try:
            text = await work()
            ok = True
        except (_Failed, BarrelError, TimeoutError, OSError) as error:
            text = str(error) or type(error).__name__
        took_ms = (time.perf_counter() - began_s) * 1_000
        told = {"step": name, "ok": ok, "text": text, "ms": round(took_ms, 1)}
        self.steps.append(told)
        if self.out is not None:
            state = "ok    " if ok else "FAILED"
            first, *more = printable(text).splitlines()
            print(f"{name:<8} {state}  {first}  ({took_ms:,.0f} ms)", file=self.out)
            for line in more:
                print(f"{'':16} {line}", file=self.out)
            self.out.flush()
        if not ok:
            raise _Failed(name)


def tour(calls: int, *, as_json: bool) -> int:
    """Start two nodes on loopback and show that they work. Exit code 0 if all does.

    Args:
        calls: Calls from one node to a server of the other.
        as_json: Print {"demo": "nodes", "passed": ..., "steps": [...]}.

    Raises:
        InvalidValue: ``calls`` is out of range.
    """
    if not 1 <= calls <= _CALLS_MAX:
        raise InvalidValue(f"--calls {calls} is not within 1 to {_CALLS_MAX:,}")
    began_s = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="barrel-p2p-demo-") as directory:
        shown = _Tour(Path(directory), calls, None if as_json else sys.stdout)
        interrupted = run(interruptible(_whole(shown)))
    passed = not interrupted and bool(shown.steps) and shown.steps[-1]["ok"]
    seconds = time.perf_counter() - began_s
    if as_json:
        told = {"demo": "nodes", "passed": passed, "seconds": round(seconds, 2)}
        print(json_text.dumps({**told, "steps": shown.steps}, ensure_ascii=False))
    elif passed:
        print(f"\nEvery step passed. {seconds:.1f} s. Next: docs/tutorials.")
    if interrupted:
        return say_interrupted("demo")
    return ExitCode.OK if passed else ExitCode.FAILED


async def _whole(tour: _Tour) -> None:
    async with _Child(tour) as child, _second_node(tour) as node:
        try:
            await tour.step("start", child.start)
            await tour.step("join", lambda: _join(node, child))
            await tour.step("pins", lambda: _pins(node, child))
            await tour.step("find", lambda: _find(node, child))
            await tour.step("calls", lambda: _calls(node, child, tour.calls))
            await tour.step("kill", lambda: _lose(node, child))
        except _Failed:
            child.tell_log(sys.stderr)


class _Child:
    """The first process: ``barrel-p2p start`` with a counter."""

    def __init__(self, tour: _Tour) -> None:
        self._tour = tour
        self._log = tour.directory / "a.log"
        self._process: Process | None = None
        self.banner: dict[str, Any] = {}
        self.directory = tour.directory / "a"
        self.counter: Pid | None = None

    async def __aenter__(self) -> _Child:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            await self.kill()
            # What it wrote last, and the pipes with it.
            await self._process.communicate()

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> str:
        """Start it and read what it prints."""
        words = [sys.executable, "-m", "barrel_p2p", "start", "--json", "--name", "a"]
        words += ["--bind", "127.0.0.1", "--port", "0", "--data-dir"]
        words += [str(self.directory), "--app", f"{Counter.__module__}:setup"]
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *words,
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                env=self._environment(),
                limit=_BANNER_BYTES_MAX,
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(_PATIENCE_S):
            line = await self._process.stdout.readline()
        try:
            self.banner = json_text.loads(line)
            name, address = self.banner["name"], self.banner["address"]
        except (ValueError, KeyError) as error:
            raise _Failed(f"process {self.pid} did not start") from error
        return (
            f"process {self.pid} runs {name} at {address}, and says how to join:\n"
            f"{self.banner['join']}"
        )

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def tell_log(self, out: IO[str]) -> None:
        """The last it has logged, for whoever has to find out what went wrong."""
        if self._log.exists():
            lines = self._log.read_text(errors="replace").splitlines()
            print(*map(printable, lines[-_LOG_LINES:]), sep="\n", file=out)

    def _environment(self) -> dict[str, str]:
        """Ours, without the settings of nodes: the demo is the same everywhere."""
        ours = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("BARREL_P2P_") or name in _KEPT
        }
        return ours | {
            "BARREL_P2P_DIST_COOKIE": self._tour.cookie,
            "BARREL_P2P_DISCOVERY_DIR": str(self._tour.directory / "discovery"),
        }


@asynccontextmanager
async def _second_node(tour: _Tour) -> AsyncIterator[Node]:
    config = Config.load(
        env={},
        dist_cookie=tour.cookie,
        data_dir=str(tour.directory / "b"),
        discovery_dir=str(tour.directory / "discovery"),
    )
    node = Node("b@127.0.0.1", config)
    try:
        yield node
    finally:
        await node.stop(drain=1.0)


async def _join(node: Node, child: _Child) -> str:
    words = shlex.split(child.banner["join"])
    await node.start()
    await node.join(words[words.index("--join") + 1])
    if node.nodes() != [child.banner["name"]]:
        raise _Failed(f"{node.name} sees {node.nodes()}")
    return f"process {os.getpid()} runs {node.name} and sees {', '.join(node.nodes())}"


async def _pins(node: Node, child: _Child) -> str:
    there = child.banner["name"]
    held = node.keys.lookup_key(there)
    ours = fingerprint(node.public_key).ssh
    if held is None or fingerprint(held).ssh != child.banner["fingerprint"]:
        raise _Failed(f"{node.name} did not pin the key of {there}")

    def ask() -> Any:
        with ControlClient(child.directory) as client:
            return client.ask(ListKeys())

    pins = {
        pin["node"]: pin["fingerprint"]
        for pin in (await asyncio.to_thread(ask))["pins"]
    }
    if pins.get(node.name) != ours:
        raise _Failed(f"{there} did not pin the key of {node.name}: {pins}")
    return (
        f"{node.name} has pinned {there} to {fingerprint(held).ssh}\n"
        f"{there} has pinned {node.name} to {ours}"
    )


async def _find(node: Node, child: _Child) -> str:
    by_name = await node.proxy(Counter, At(COUNTER, child.banner["name"]))
    child.counter = pid = await by_name.where()
    process = await (await node.proxy(Counter, pid)).process()
    if process != child.pid:
        raise _Failed(f"{pid!r} runs in process {process}, not in {child.pid}")
    return f"the counter is {pid!r}, in process {process}"


async def _calls(node: Node, child: _Child, count: int) -> str:
    counter = await node.proxy(Counter, child.counter, timeout=_PATIENCE_S)
    laps_us = []
    for expected in range(1, count + 1):
        began_ns = time.perf_counter_ns()
        total = await counter.add(1)
        laps_us.append((time.perf_counter_ns() - began_ns) / 1_000)
        if total != expected:
            raise _Failed(f"call {expected} was answered with {total}")
    laps_us.sort()
    p50, p99 = (laps_us[(len(laps_us) - 1) * part // 100] for part in (50, 99))
    return (
        f"{count:,} calls by pid, one after another, each answered with its number: "
        f"p50 {p50:,.0f} us, p99 {p99:,.0f} us"
    )


async def _lose(node: Node, child: _Child) -> str:
    async with node.mailbox() as me:
        assert child.counter is not None
        ref = me.monitor(child.counter)
        # An answer after the monitor: the other side has it, on the same stream.
        await (await node.proxy(Counter, child.counter)).add(0)
        began_s = time.perf_counter()
        await child.kill()
        down = await me.receive(Down, timeout=_PATIENCE_S)
        took_ms = (time.perf_counter() - began_s) * 1_000
    if (down.ref, down.pid) != (ref, child.counter) or down.reason != "noconnection":
        raise _Failed(f"what came is {down!r}")
    when = f"{took_ms:,.0f} ms later the watcher has"
    return f"SIGKILL to process {child.pid}; {when}\n{down!r}"
