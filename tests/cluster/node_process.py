"""A whole node in a process of its own: the program, and the handle a test holds.

One JSON object a line goes in by stdin and one comes back by stdout, in order. Warnings
are errors there, and the process ends with its stdin.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from barrel_p2p.core.events import Down
from barrel_p2p.core.names import At
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import BarrelError
from barrel_p2p.node.node import Node
from barrel_p2p.runtime.process import Process
from barrel_p2p.runtime.server import GenServer
from barrel_p2p.runtime.verbs import call
from tests.endpoints import DEADLINE_S
from tests.tree import ROOT
from tests.unit.node.nodes import node

__all__ = ["ECHO", "Echo", "NodeProcess", "node_process", "node_processes"]

Answer = dict[str, Any]

ECHO = "echo"
"""The local name of the server that every one of them runs."""

FLOOD_BATCH = 64

_POLL_S = 0.01


class NodeProcess:
    """The test's handle: ask it things, signal it, or let it end.

    Attributes:
        ref: How to dial it.
        pid: The process that echoes.
        mute_pid: A process that never answers.
    """

    def __init__(self, process: asyncio.subprocess.Process, hello: Answer) -> None:
        self.process = process
        self.ref: str = hello["ref"]
        self.name: str = hello["name"]
        self.creation: int = hello["creation"]
        self.pid: list[Any] = hello["pid"]
        self.mute_pid: list[Any] = hello["mute_pid"]
        self.public_key = bytes.fromhex(hello["public_key"])

    @property
    def rss_bytes(self) -> int:
        """Resident memory of its process."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    async def ask(self, do: str, **arguments: object) -> Any:
        """Have it do something; what came of it, or ``{"error": ..., "text": ...}``."""
        assert self.process.stdin is not None
        line = json.dumps({"do": do, **arguments}) + "\n"
        self.process.stdin.write(line.encode())
        return (await _line_of(self.process))["value"]

    async def until(self, do: str, wanted: object, **arguments: object) -> None:
        """Ask again and again until the answer is ``wanted``."""
        told = None
        try:
            async with asyncio.timeout(DEADLINE_S):
                while (told := await self.ask(do, **arguments)) != wanted:  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)  # not synchronisation: the interval
        except TimeoutError:
            raise AssertionError(f"{do}: still {told}, not {wanted}") from None

    async def kill(self) -> None:
        """End it as kill -9 does, and wait until it is gone."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """End it in good order."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        async with asyncio.timeout(DEADLINE_S):
            assert await self.process.wait() == 0


async def _line_of(process: asyncio.subprocess.Process) -> Answer:
    assert process.stdout is not None
    async with asyncio.timeout(2 * DEADLINE_S):
        line = await process.stdout.readline()
    if not line:
        raise AssertionError(f"the node ended with status {await process.wait()}")
    answer = json.loads(line)
    assert isinstance(answer, dict)
    return answer


@asynccontextmanager
async def node_process(
    directory: Path, name: str, **changes: object
) -> AsyncIterator[NodeProcess]:
    """Start a node; ``changes`` are keys of its configuration."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", __name__),
        *(str(directory), name, json.dumps(changes)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield NodeProcess(process, await _line_of(process))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def node_processes(
    directory: Path, *names: str, joined: bool = True, **changes: object
) -> AsyncIterator[list[NodeProcess]]:
    """Several, started at once; each pair is connected, if ``joined``."""
    async with AsyncExitStack() as stack:
        starting = [node_process(directory, name, **changes) for name in names]
        made = await asyncio.gather(*(stack.enter_async_context(s) for s in starting))
        for index, one in enumerate(made if joined else ()):
            for other in made[:index]:
                assert await one.ask("connect", ref=other.ref) == other.name
        yield made


class Echo(GenServer):
    """The server that every one of them runs."""

    @call
    async def echo(self, content: Any) -> Any:
        return content


async def _mute(me: Process) -> None:
    await asyncio.Event().wait()


class _Program:
    """The child's side."""

    def __init__(self, own: Node, me: Process) -> None:
        self._node = own
        self._me = me
        self._events: list[Any] = []
        self._hanging: list[asyncio.Task[Any]] = []
        self._slow: list[asyncio.Event] = []
        self._read = 0
        self._sent = 0
        self._flood: Pid | None = None
        self._told: list[Any] = []
        self._acts: list[Any] = []

    async def watch(self) -> None:
        async with self._node.events() as events:
            async for event in events:
                told = [type(event).__name__, getattr(event, "node", "")]
                reason = getattr(event, "reason", "")
                self._events.append([*told, reason, time.monotonic()])

    async def run(self, do: str, **arguments: Any) -> Any:
        try:
            return await getattr(self, f"do_{do}")(**arguments)
        except BarrelError as error:
            return {"error": type(error).__name__, "text": str(error)}

    async def do_connect(self, ref: str) -> str:
        return await self._node.connect(ref)

    async def do_disconnect(self, name: str) -> float:
        asked_s = time.monotonic()
        assert self._node.disconnect(name)
        return asked_s

    async def do_nodes(self) -> list[str]:
        return self._node.nodes()

    async def do_events(self) -> list[Any]:
        return self._events

    async def do_kinds(self) -> list[list[str]]:
        """The events so far, without reasons and times."""
        return [event[:2] for event in self._events]

    async def do_keys(self) -> Answer:
        config = self._node.config
        return {
            "auth_enabled": config.auth_enabled,
            "trust_mode": self._node.keys.get_trust_mode(),
            "public_key": self._node.public_key.hex(),
            "cookie_only": list(config.cookie_only_nodes),
            "trusted": {
                pinned.node: pinned.key.hex()
                for pinned in self._node.keys.list_trusted()
            },
        }

    async def do_call(self, to: str, content: Any) -> Any:
        remote = await self._node.proxy(Echo, At(ECHO, to), timeout=DEADLINE_S)
        return await remote.echo(content)

    async def do_call_pid(self, pid: list[Any], content: Any) -> Any:
        return await (await self._node.proxy(Echo, Pid(*pid))).echo(content)

    async def do_hang(self, pid: list[Any], count: int) -> None:
        asking = (self._node.call(Pid(*pid), "?", timeout=None) for _ in range(count))
        self._hanging += [asyncio.create_task(one) for one in asking]

    async def do_calls_waiting(self) -> int:
        return self._node.stats().calls_waiting

    async def do_hung(self) -> list[str]:
        ends = await asyncio.gather(*self._hanging, return_exceptions=True)
        self._hanging.clear()
        return [type(end).__name__ for end in ends]

    async def do_monitor(self, pid: list[Any], count: int) -> None:
        for _ in range(count):
            self._me.monitor(Pid(*pid))

    async def do_downs(self) -> dict[str, int]:
        """Reasons of ``Down``, each with how many monitors fired with it, once each."""
        seen: dict[str, int] = {}
        refs = set()
        while True:
            try:
                down = await self._me.receive(Down, timeout=0)
            except TimeoutError:
                return seen
            assert down.ref not in refs
            refs.add(down.ref)
            seen[down.reason] = seen.get(down.reason, 0) + 1

    async def do_block(self, seconds: float) -> None:
        time.sleep(seconds)  # not synchronisation: a blocked loop  # noqa: ASYNC251

    async def do_reader(self, limit: int) -> list[Any]:
        """Start a process that reads nothing until it is told to."""
        may = asyncio.Event()
        self._slow.append(may)

        async def read(me: Process) -> None:
            await may.wait()
            async for _ in me:
                self._read += 1

        pid = self._node.spawn(read, mailbox_limit=limit)
        return [pid.node, pid.id, pid.creation]

    async def do_slow_reader(self, limit: int, pause_s: float) -> list[Any]:
        """Start a process that reads a message, and rests, and so on."""

        async def read(me: Process) -> None:
            async for _ in me:
                self._read += 1
                await asyncio.sleep(pause_s)  # not synchronisation: its slowness

        pid = self._node.spawn(read, mailbox_limit=limit)
        return [pid.node, pid.id, pid.creation]

    async def do_flood(self, pid: list[Any], size: int) -> None:
        """Start a process that sends as fast as it may."""
        to, message = Pid(*pid), bytes(size)

        async def send(me: Process) -> None:
            while True:
                await to.send(message)
                self._sent += 1
                if self._sent % FLOOD_BATCH == 0:
                    await asyncio.sleep(0)  # It has to hear that it may not go on.

        self._flood = self._node.spawn(send)

    async def do_flooded(self) -> int:
        """How much the flood has sent so far."""
        return self._sent

    async def do_end_flood(self) -> None:
        assert self._flood is not None
        await self._flood.exit("kill")

    async def do_join(self, ref: str) -> list[str]:
        await self._node.join(ref)
        return self._node.members()

    async def do_members(self) -> list[str]:
        return self._node.members()

    async def do_stand(self, name: str) -> list[Any]:
        """Start a candidate that notes what it is told, and that acts while it leads.

        Returns its pid.
        """

        async def candidate(me: Process) -> None:
            role = await self._node.lead(name)
            self._told.append(["stands", role.fence])
            me.create_task(self._act(name))
            async for message in me:
                fence = getattr(message, "fence", None)
                kind = message if isinstance(message, str) else type(message).__name__
                self._told.append([kind, fence])

        pid = self._node.spawn(candidate)
        return [pid.node, pid.id, pid.creation]

    async def _act(self, name: str) -> None:
        while True:
            fence = self._node.fence(name) if self._node.is_leader(name) else None
            self._acts.append([time.monotonic(), fence])
            await asyncio.sleep(0.01)  # not synchronisation: it works

    async def do_told(self) -> list[Any]:
        """What the candidate was told, in order, and with which fences."""
        return self._told

    async def do_acts(self) -> list[Any]:
        """When it acted, and with which fence."""
        return self._acts

    async def do_leader(self, name: str) -> str:
        return self._node.leader(name)[0]

    async def do_high_water(self, name: str) -> int | None:
        return self._node.high_water(name)

    async def do_send(self, pid: list[Any], content: Any) -> None:
        await self._node.send(Pid(*pid), content)

    async def do_read(self) -> None:
        for may in self._slow:
            may.set()

    async def do_read_so_far(self) -> int:
        return self._read


async def _serve(directory: Path, name: str, changes: Answer) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    pipe, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        async with node(directory, name, **changes) as own, own.mailbox() as me:
            program = _Program(own, me)
            watching = asyncio.create_task(program.watch())
            await asyncio.sleep(0)  # not synchronisation: it subscribes in that step
            pid, mute = await own.start_server(Echo, name=ECHO), own.spawn(_mute)
            _say(
                {
                    "name": own.name,
                    "ref": f"{own.name}={own.address.host}:{own.address.port}",
                    "creation": own.creation,
                    "pid": [pid.node, pid.id, pid.creation],
                    "mute_pid": [mute.node, mute.id, mute.creation],
                    "public_key": own.public_key.hex(),
                }
            )
            while line := await reader.readline():
                _say({"value": await program.run(**json.loads(line))})
            watching.cancel()
    finally:
        pipe.close()


def _say(answer: Answer) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])))
