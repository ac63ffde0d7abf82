"""Clusters of real nodes in one process, for tests: joined, agreed, stopped at the end.

Nothing is simulated: every node has its own UDP port on loopback, its own keys and data
directory, and speaks QUIC to the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, final

from barrel_p2p.config import Config
from barrel_p2p.errors import BarrelError, Conflict, InvalidValue, NotStarted
from barrel_p2p.node.node import Node
from barrel_p2p.testing.waiting import eventually

__all__ = ["NODES_MAX", "TEST_SETTINGS", "Cluster", "Clusters", "cluster"]

NODES_MAX: Final = 100
"""Nodes of one cluster. They share one process, and one processor core."""

TEST_SETTINGS: Final[Mapping[str, object]] = MappingProxyType(
    {
        "idle_timeout_ms": 2_000,
        "member_heartbeat_ms": 500,
        "member_ttl_ms": 2_000,
        "suspect_ms": 500,
        "contact_retry_ms": 500,
        "base_backoff_ms": 100,
        "shuffle_period": 1_000,
        "replica_anti_entropy_ms": 1_000,
    }
)
"""Keys that differ from the defaults, so that a test sees soon what takes a real
cluster longer: the loss of a node, and the end of a partition."""

_JOIN_S = 30.0


def cluster(
    count: int,
    *,
    directory: Path | None = None,
    timeout: float = _JOIN_S,
    join: bool = True,
    **settings: Any,
) -> Cluster:
    """``async with cluster(3) as nodes``: a cluster for the length of the block.

    Args:
        count: Nodes, 1 to ``NODES_MAX``. They are ``n0@127.0.0.1``, ``n1@127.0.0.1``...
        directory: Where their data directories go; None is a temporary one.
        timeout: Seconds that starting and joining may take.
        join: Have them join ``n0``, and wait until all agree who is a member and every
            link is held from both sides. Else they only run.
        settings: Keys of the configuration, for all nodes; they beat
            ``TEST_SETTINGS``. Neither the environment nor a file is read.

    Raises:
        InvalidValue: ``count`` is out of range.
        ConfigError: A key is unknown, or a value out of range.
    """
    return Cluster(count, directory=directory, timeout=timeout, join=join, **settings)


@final
class Cluster:
    """What ``cluster`` makes: a context manager that is entered once.

    Args:
        count: As for ``cluster``, and so are the others.
        directory: Where data directories go.
        timeout: Seconds.
        join: Whether they join.
        settings: Keys of the configuration.

    Attributes:
        nodes: Those that were started.
    """

    def __init__(
        self,
        count: int,
        *,
        directory: Path | None = None,
        timeout: float = _JOIN_S,
        join: bool = True,
        **settings: Any,
    ) -> None:
        if not 1 <= count <= NODES_MAX:
            raise InvalidValue(
                f"a cluster of {count} nodes: 1 to NODES_MAX={NODES_MAX}"
            )
        given = {
            **TEST_SETTINGS,
            "bind_host": "127.0.0.1",
            "discovery_backends": (),
            "dist_cookie": secrets.token_hex(16),
        }
        self._config = Config(**(given | settings))  # type: ignore[arg-type]
        self._count = count
        self._directory = directory
        self._timeout = timeout
        self._join = join
        self._stack: contextlib.AsyncExitStack | None = None
        self.nodes: list[Node] = []

    async def start(self) -> list[Node]:
        """Start the nodes and have them join.

        Returns:
            The nodes, in the order of their numbers.

        Raises:
            Conflict: It was started before.
            AssertionError: They did not become one cluster in time. The text says who
                saw whom. None of them runs any more.
        """
        if self._stack is not None:
            raise Conflict("a cluster is started once")
        self._stack = stack = contextlib.AsyncExitStack()
        try:
            directory = self._directory
            if directory is None:
                made = tempfile.TemporaryDirectory(prefix="barrel-p2p-cluster-")
                directory = Path(stack.enter_context(made))
            for number in range(self._count):
                config = self._config.replace(data_dir=str(directory / f"n{number}"))
                node = Node(f"n{number}@127.0.0.1", config)
                self.nodes.append(node)
                await stack.enter_async_context(node)
            if self._join:
                await self._become_one()
        except BaseException:
            await stack.aclose()
            raise
        return self.nodes

    async def stop(self) -> None:
        """Stop all nodes that run, the last one first. Idempotent."""
        if self._stack is not None:
            await self._stack.aclose()

    async def __aenter__(self) -> list[Node]:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def __await__(self) -> Generator[Any, None, list[Node]]:
        return self.start().__await__()

    async def _become_one(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        first, *others = self.nodes
        try:
            await asyncio.gather(
                *(node.join(first, timeout=self._timeout) for node in others)
            )
            await eventually(self._is_one, timeout=max(deadline - loop.time(), 0.0))
        except (AssertionError, BarrelError) as error:
            raise AssertionError(
                f"{self._count} nodes were not one cluster after {self._timeout} s:"
                f" {'; '.join(_seen_by(node) for node in self.nodes)}"
            ) from error

    def _is_one(self) -> bool:
        names = sorted(node.name for node in self.nodes)
        views = {node.name: node.active_view() for node in self.nodes}
        return all(
            node.members() == names
            and (views[node.name] or self._count == 1)
            and all(node.name in views[peer] for peer in views[node.name])
            for node in self.nodes
        )


@final
class Clusters:
    """Makes clusters for one test, and stops what is left of them after it.

    Args:
        directory: Each cluster gets a directory of its own in it.
        at_end: Called with a function that must run after the test and before its loop
            is closed.
    """

    def __init__(
        self, directory: Path, at_end: Callable[[Callable[[], None]], None]
    ) -> None:
        self._directory = directory
        self._at_end = at_end
        self._made = 0

    def __call__(
        self,
        count: int,
        *,
        timeout: float = _JOIN_S,
        join: bool = True,
        **settings: Any,
    ) -> Cluster:
        """A cluster: ``async with cluster(3) as nodes`` or ``await cluster(3)``.

        Args:
            count: As for ``cluster`` of this module, and so are the others.
            timeout: Seconds.
            join: Whether they join.
            settings: Keys of the configuration.

        Raises:
            InvalidValue: ``count`` is out of range.
            ConfigError: A key is unknown, or a value out of range.
        """
        self._made += 1
        directory = self._directory / f"cluster{self._made}"
        made = Cluster(
            count, directory=directory, timeout=timeout, join=join, **settings
        )
        loop = asyncio.get_running_loop()
        self._at_end(lambda: _stop(made, loop))
        return made


def _stop(made: Cluster, loop: asyncio.AbstractEventLoop) -> None:
    """Stop what still runs, on the loop it runs on."""
    running = [node for node in made.nodes if _runs(node)]
    if not running:
        return
    if loop.is_closed():
        names = ", ".join(node.name for node in running)
        raise RuntimeError(
            f"the test's event loop was closed while these nodes ran: {names}; stop"
            " them in the test, with 'async with cluster(...) as nodes'"
        )
    loop.run_until_complete(made.stop())


def _runs(node: Node) -> bool:
    try:
        return bool(node.address)
    except NotStarted:
        return False


def _seen_by(node: Node) -> str:
    return (
        f"{node.name} has the members {node.members()} and the peers"
        f" {node.active_view()}"
    )
