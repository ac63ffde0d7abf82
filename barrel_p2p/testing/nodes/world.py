"""Machines, the lives of their nodes, and everything that can be done to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Final, Self, final

from xxhash import xxh3_64_intdigest

from barrel_p2p.carrier.connection import Closed, ClosedBy
from barrel_p2p.config import Config
from barrel_p2p.core.names import Address
from barrel_p2p.errors import BarrelError, NotStarted
from barrel_p2p.testing.nodes.host import HOST, Host, HostClock
from barrel_p2p.testing.nodes.loop import SimLoop
from barrel_p2p.testing.nodes.network import Machine, Network
from barrel_p2p.testing.nodes.stages import SimNode
from barrel_p2p.testing.nodes.truth import Truth
from barrel_p2p.testing.nodes.watch import Watch
from barrel_p2p.wire.frames import Frame

__all__ = ["ANTI_ENTROPY_MS", "IDLE_MS", "NODES_MAX", "World"]

NODES_MAX: Final = 64
"""Nodes of one world; many more cost more than they show."""

ANTI_ENTROPY_MS: Final = (2_000, 5_000, 30_000)
"""Between comparisons of replicas; where that is long, it hides no defect of gossip."""

IDLE_MS: Final = (5_000, 5_000, 10_000)
"""After which a silent channel ends; where a lease ends sooner, that is asked for."""

_CLEAR_S: Final = 60.0
_PORT: Final = 9_100
_CONTACTS: Final = 3
_SEND_HIGH: Final = (4_096, 65_536, 262_144)


@final
class World:
    """A simulated cluster. ``with World(...) as world: world.run(...)``.

    Args:
        seed: Of everything that chance decides.
        nodes: Machines, 1 to ``NODES_MAX``.
        directory: For files of the run.

    Attributes:
        loop: Time.
        random: Chance, for faults and workload.
        network: Between the machines.
        machines: By index.
        watches: Of the lives that run now, by index.
        truth: What is so.
        wrong: What went wrong, with true times in seconds.
    """

    def __init__(self, seed: int, *, nodes: int, directory: Path) -> None:
        if not 1 <= nodes <= NODES_MAX:
            raise ValueError(f"{nodes} nodes are outside 1 to NODES_MAX={NODES_MAX}")
        self.seed = seed
        self.loop = SimLoop()  # type: ignore[abstract]
        self.random = Random(seed)
        self.network = Network(self.loop, Random(seed ^ 0x6E657477))
        self.machines: list[Machine] = []
        self.watches: dict[int, Watch] = {}
        self.truth = Truth()
        self.wrong: list[str] = []
        self._directory = directory
        self._lives: dict[int, int] = {}
        self._send_high = self.random.choice(_SEND_HIGH)
        self._anti_entropy_ms = self.random.choice(ANTI_ENTROPY_MS)
        self._idle_ms = self.random.choice(IDLE_MS)
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._log = _LogWatch(self.complain)
        self.network.heard = self._heard
        for index in range(nodes):
            self._add_machine(index)

    def __enter__(self) -> Self:
        logging.getLogger("barrel_p2p").addHandler(self._log)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        logging.getLogger("barrel_p2p").removeHandler(self._log)
        # What is left would be ended by the garbage collector, in the midst of others.
        self.loop.run(self._clear())
        self.loop.close()

    def complain(self, what: str) -> None:
        """Note that something went wrong."""
        self.wrong.append(f"{self.loop.true_s():.3f} s: {what}")

    # What runs where.

    def running(self) -> list[int]:
        """Indices of the machines whose node runs, in order."""
        return sorted(self.watches)

    def node(self, index: int) -> SimNode:
        """The node that runs there."""
        return self.watches[index].node

    async def on[T](self, index: int, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on a machine, and wait for it."""
        return await self.spawn(index, work)

    def spawn[T](self, index: int, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``work`` on a machine; ``settle_tasks`` waits for it."""
        context = self.machines[index].host.context.copy()
        task = self.loop.create_task(work, context=context)
        self._tasks[task] = None
        task.add_done_callback(self._task_done)
        return task

    def call[T](self, index: int, function: Callable[..., T], *args: Any) -> T:
        """Call ``function`` on a machine, now."""
        return self.machines[index].host.context.copy().run(function, *args)

    async def settle_tasks(self) -> None:
        """Wait for everything that was spawned."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    # What can be done to them.

    async def start(self, index: int) -> None:
        """Start the node of a machine, in a new life."""
        machine = self.machines[index]
        life = self._lives[index] = self._lives.get(index, 0) + 1
        machine.host = Host(machine.address.name, index, rate=machine.clock.rate)
        seed = xxh3_64_intdigest(f"{self.seed}/{index}/{life}".encode())
        node = SimNode(
            machine,
            self.network,
            self._config(index),
            seed=seed,
            creation=life,
            peers=self._peers_file(index, life),
            send_high=self._send_high,
        )
        self.truth.begins(node.name, life)
        await self.on(index, node.start())
        if machine.host.crashed:
            return
        self.watches[index] = self.call(index, Watch, node, self.truth, self.complain)
        self.network.note(index, index, 1)

    async def stop(self, index: int) -> None:
        """Stop the node of a machine in good order."""
        watch = self.watches.pop(index)
        self.network.note(index, index, 2)
        self.truth.leaves(watch.node.name)
        await self.on(index, watch.node.stop())
        self._keep_peers(index)

    async def leave(self, index: int) -> None:
        """Let the node of a machine leave its cluster; ``join`` ends that."""
        node = self.node(index)
        self.truth.leaves(node.name)
        await self.on(index, node.leave())

    async def join(self, index: int, contact: int, *, timeout: float) -> None:
        """Let the node of a machine join through another one.

        Raises:
            BarrelError: As for ``Node.join``.
        """
        watch = self.watches[index]
        watch.joins()
        self.truth.comes_back(watch.node.name)
        await watch.node.join(self.machines[contact].address, timeout=timeout)

    def crash(self, index: int, *, answers: bool = True) -> None:
        """End the process on a machine, between two instructions.

        Args:
            index: Of the machine.
            answers: It refuses what comes for the process; else it is gone as well.
        """
        machine = self.machines[index]
        watch = self.watches.pop(index)
        self.truth.ends(watch.node.name)
        self._keep_peers(index)
        # The real bound is a little ahead, which only hides what it is for.
        machine.disk.floor = watch.node.parts.hlc.now()
        machine.disk.crash()
        machine.host.crashed = True
        machine.endpoint = None
        machine.answers = answers
        self.network.note(index, index, 3)
        if machine.host.frozen:
            self.loop.thaw(machine.host)
        self.spawn(index, _bury(watch.node))

    def freeze(self, index: int) -> None:
        """Nothing runs on a machine until ``thaw``."""
        self.loop.freeze(self.machines[index].host)

    def thaw(self, index: int) -> None:
        """It goes on, unless it has crashed meanwhile."""
        machine = self.machines[index]
        if machine.host.frozen:
            self.loop.thaw(machine.host)
            if index in self.watches:
                self.watches[index].awake_ms = machine.clock.now_ms()

    def cut(self, pairs: Iterable[tuple[int, int]]) -> Callable[[], None]:
        """Cut ways, each from the first to the second; the result mends them."""
        machines = self.machines
        ways = [(machines[source], machines[target]) for source, target in pairs]
        for source, target in ways:
            self.network.cut(source, target)

        def mend() -> None:
            for source, target in ways:
                self.network.mend(source, target)
            ways.clear()

        return mend

    def sever(self, one: int, other: int) -> Callable[[], None]:
        """End all connections between two machines, as if both had heard nothing.

        Neither can dial the other until the result is called.
        """
        ways, deaf = ((one, other), (other, one)), self.network.deaf
        for way in ways:
            deaf[way] = deaf.get(way, 0) + 1
        for end in self.network.between(self.machines[one], self.machines[other]):
            end.host.context.copy().run(end.over, Closed(ClosedBy.IDLE, 0))

        def mend() -> None:
            for way in ways:
                deaf[way] -= 1

        return mend

    # Inside.

    def _heard(self, host: Host, peer: str, frame: Frame) -> None:
        watch = self.watches.get(host.index)
        if watch is not None and self.machines[host.index].host is host:
            watch.heard(peer, frame)

    async def _clear(self) -> None:
        for index in self.running():
            self.crash(index)
        await self.settle_tasks()
        tasks = asyncio.all_tasks(self.loop) - {asyncio.current_task(self.loop)}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLEAR_S)

    def _add_machine(self, index: int) -> None:
        name = f"n{index}@sim"
        address = Address(name, f"host{index}", _PORT)
        clock = HostClock(self.loop.true_s, 1.0)
        machine = Machine(index, address, clock, Host(name, index))
        machine.disk.random = Random(self.seed ^ 0x6469736B ^ index)
        self.machines.append(machine)
        self.network.machines[address.host] = machine

    def _config(self, index: int) -> Config:
        contacts = [
            str(other.address)
            for other in self.machines[:_CONTACTS]
            if other.index != index
        ]
        return Config(
            contact_nodes=tuple(contacts),
            idle_timeout_ms=self._idle_ms,
            replica_anti_entropy_ms=self._anti_entropy_ms,
            discovery_backends=(),
            data_dir=str(self._directory),
        )

    def _peers_file(self, index: int, life: int) -> Path:
        return self._directory / f"peers-{index}-{life}.json"

    def _keep_peers(self, index: int) -> None:
        # What is done after a crash, to clean up, must not reach the next life.
        life = self._lives[index]
        file, following = self._peers_file(index, life), life + 1
        if file.exists():
            kept = self._peers_file(index, following)
            kept.write_bytes(file.read_bytes())
            kept.chmod(0o600)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled():
            return
        error = task.exception()
        host = task.get_context().get(HOST)
        if error is None or (host is not None and host.crashed):
            return
        if isinstance(error, NotStarted) and host not in self._hosts():
            return  # It waited for something, and the node has stopped meanwhile.
        self.complain(f"an action failed: {error!r}")

    def _hosts(self) -> list[Host]:
        return [self.machines[index].host for index in self.watches]


async def _bury(node: SimNode) -> None:
    """End what is left of a crashed process. Nobody can hear any of it."""
    try:
        await node.stop(drain=0.0)
    except BarrelError:
        return


@final
class _LogWatch(logging.Handler):
    """Hears what running nodes log, and complains of our own failures."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._complain = complain

    def emit(self, record: logging.LogRecord) -> None:
        host = HOST.get()
        if host is not None and host.crashed:
            return
        text = record.getMessage()
        if record.levelno >= logging.ERROR or record.exc_info or " failed: " in text:
            where = "the simulation" if host is None else host.name
            self._complain(f"{where} logged: {text}")
