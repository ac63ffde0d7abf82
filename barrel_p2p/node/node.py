"""``Node``: what an application holds of its cluster."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Self

from barrel_p2p.auth.trust import TrustStore
from barrel_p2p.carrier.channels import Channels
from barrel_p2p.carrier.dialer import ConnectOptions
from barrel_p2p.carrier.report import ConnectReport, report_of
from barrel_p2p.config import Config
from barrel_p2p.core.clock import Clock, SystemClock
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.names import (
    Address,
    At,
    HasAddress,
    NodeReference,
    default_node_name,
    node_name,
)
from barrel_p2p.core.terms import Pid, Ref
from barrel_p2p.errors import BarrelError, Conflict, NoProc, NotStarted
from barrel_p2p.node.auth import Auth
from barrel_p2p.node.boot import STAGES
from barrel_p2p.node.cluster import ClusterNode
from barrel_p2p.node.forks import FORKS
from barrel_p2p.node.leaders import LeaderNode
from barrel_p2p.node.maps import MapNode
from barrel_p2p.node.notify import notify
from barrel_p2p.node.parts import DRAIN_S, Parts, Stage
from barrel_p2p.node.reminders import ReminderNode
from barrel_p2p.node.services import ServiceNode
from barrel_p2p.node.shards import ShardNode
from barrel_p2p.quic.engine import EngineStats
from barrel_p2p.runtime import addresses, proxy, rpc
from barrel_p2p.runtime.process import Process
from barrel_p2p.runtime.processes import Processes, ProcessFunction
from barrel_p2p.runtime.server import GenServer, start_server
from barrel_p2p.runtime.switch import Origin
from barrel_p2p.services.follower import Follower

__all__ = ["Node", "NodeRef", "NodeStats"]

type NodeRef = str | Address | NodeReference | HasAddress


@dataclass(frozen=True, slots=True)
class NodeStats:
    """Figures of one node.

    Attributes:
        processes: That run.
        channels: That are up.
        calls_waiting: Calls of this node that wait for an answer.
        messages_dropped: Messages for processes that were gone, since the start.
        engine: Datagrams, bytes and connections.
    """

    processes: int
    channels: int
    calls_waiting: int
    messages_dropped: int
    engine: EngineStats


class Node(ClusterNode, ServiceNode, ShardNode, MapNode, LeaderNode, ReminderNode):
    """One node of a cluster: a UDP port, keys, channels, processes.

    ``async with Node(...)`` starts and stops it. It belongs to the event loop it was
    started on; several may run in one process.

    Args:
        name: ``name@host``; None takes ``node_name`` of the configuration, or
            ``node@<this host>``.
        config: Everything else; None loads the environment and the defaults.
        clock: Both kinds of time; None is the system's.
        hidden: It neither publishes its address nor takes commands from its host; for
            a program that only asks another node something.
        overrides: Keys of the configuration that beat ``config``.

    Raises:
        ConfigError: A key is unknown, or a value out of range.
        InvalidValue: ``name`` is no node name.

    Attributes:
        stages: What it starts, in order; a simulated node has others.
        seed: Makes all chance of the overlay repeatable; None, as it has to be outside
            simulations, draws it from the system.
    """

    stages: ClassVar[tuple[Stage, ...]] = STAGES
    seed: int | None = None

    def __init__(
        self,
        name: str | None = None,
        config: Config | None = None,
        *,
        clock: Clock | None = None,
        hidden: bool = False,
        **overrides: Any,
    ) -> None:
        if config is None:
            config = Config.load(**overrides)
        elif overrides:
            config = config.replace(**overrides)
        chosen = name or config.node_name or default_node_name()
        self.name = node_name(chosen)
        self.config = config
        self.hidden = hidden
        self._clock = clock or SystemClock()
        self._parts: Parts | None = None
        self._stack: AsyncExitStack | None = None
        self._pid = self._forks = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Future[None] | None = None
        self._stop_asked: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<Node {self.name}, {'running' if self._parts else 'not running'}>"

    # ---- life

    async def start(self) -> None:
        """Bind, load or make keys, publish the address. Returns once it can be dialled.

        Raises:
            Conflict: It runs already; or the address, or the data directory, is in use.
            ConfigError: The settings would leave the node open to anybody.
            StorageError: The data directory cannot be used.
        """
        if self._stack is not None:
            raise Conflict(f"node {self.name} was started already")
        self._pid, self._forks = os.getpid(), FORKS.watch()
        self._loop = asyncio.get_running_loop()
        self._stop_asked = asyncio.Event()
        parts = Parts(
            self.name,
            self.config,
            self._clock,
            self,
            hidden=self.hidden,
            seed=self.seed,
        )
        self._stack = stack = AsyncExitStack()
        try:
            for stage in self.stages:
                await stack.enter_async_context(stage(parts))
        except BaseException:
            self._stack = None
            await stack.aclose()
            raise
        self._parts = parts

    async def stop(self, *, drain: float = DRAIN_S) -> None:
        """Stop taking work, end the processes, send what is queued, close. Idempotent.

        Args:
            drain: Seconds that processes, and peers, have for that.
        """
        if self._stopped is not None:
            await asyncio.shield(self._stopped)
            return
        stack, parts = self._stack, self._parts
        if stack is None or parts is None:
            return
        self._stopped = asyncio.get_running_loop().create_future()
        parts.stop_by = asyncio.get_running_loop().time() + drain
        try:
            await stack.aclose()
        finally:
            self._parts = self._stack = None
            self._stopped.set_result(None)
            self._stopped = None
            if self._stop_asked is not None:
                self._stop_asked.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def serve_forever(self) -> None:
        """Run until SIGTERM or SIGINT, or until ``stop``; then stop in good order.

        Tells systemd when it is ready and when it stops, if it runs under it.
        """
        loop = asyncio.get_running_loop()
        if self._parts is None:
            await self.start()
        asked = self._stop_asked
        if asked is None:
            raise NotStarted(f"node {self.name} is not running")
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.set)
        try:
            notify("READY=1")
            await asked.wait()
            notify("STOPPING=1")
            await self.stop()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def ready(self, *, peers: int = 1, timeout: float | None = None) -> None:
        """Wait until there are channels to at least ``peers`` nodes.

        Raises:
            TimeoutError: There are fewer after ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            async with self.events() as events:
                while len(self.nodes()) < peers:
                    await events.next()

    @property
    def address(self) -> Address:
        """Where other nodes are told to find it.

        Raises:
            NotStarted: It is not running.
        """
        return self._running().address

    @property
    def creation(self) -> int:
        """Which life of this node it is; a later one has a higher number."""
        return self._running().switch.creation

    @property
    def keys(self) -> TrustStore:
        """Its pins: which key belongs to which node."""
        return self._running().trust

    @property
    def auth(self) -> Auth:
        """Its own key pair, and whom it lets in without one."""
        return self._running().auth

    @property
    def public_key(self) -> bytes:
        """Its own public key, 32 bytes."""
        return self._running().key_pair.public_key

    @property
    def hlc(self) -> HLC:
        """Its hybrid logical clock."""
        return self._running().hlc

    def stats(self) -> NodeStats:
        """What it holds now, and totals since it started."""
        parts = self._running()
        return NodeStats(
            processes=len(parts.processes),
            channels=len(parts.channels.nodes()),
            calls_waiting=parts.switch.calls_waiting,
            messages_dropped=parts.switch.dropped,
            engine=parts.endpoint.stats(),
        )

    # ---- other nodes

    async def connect(self, ref: NodeRef, *, timeout: float | None = 10.0) -> str:
        """Open an authenticated channel to ``ref``, if there is none.

        Args:
            ref: ``name@host``, found by discovery; ``name@host:port``; either with
                ``#SHA256:...`` to name the key it must have; or a ``Node``.
            timeout: Seconds.

        Returns:
            The peer's name.

        Raises:
            PeerUnreachable: It does not answer. The error's notes list each step.
            AuthError: One of the two refused the other.
            VersionMismatch: They have no version of the protocol in common.
            Conflict: ``ref`` is this node.
        """
        channel = await self._channels().connect(ref, timeout=timeout)
        return channel.name

    async def diagnose(
        self, ref: NodeRef, *, timeout: float | None = 10.0
    ) -> ConnectReport:
        """Dial ``ref`` and tell each step, whether it came to a channel or not.

        Args:
            ref: As for ``connect``.
            timeout: Seconds.

        Raises:
            BarrelError: There was nothing to dial: as for ``connect``, but without a
                report.
            Conflict: ``ref`` is this node, or there is a channel to it already.
        """
        reference = NodeReference.parse(ref)
        channels = self._channels()
        if channels.get(reference.name) is not None:
            raise Conflict(f"there is a channel to {reference.name} already")
        connecting = asyncio.ensure_future(channels.connect(reference, timeout=timeout))
        await asyncio.sleep(0)  # It begins to dial, or fails before it does.
        dial = channels.dialer.pending(reference.name)
        try:
            await connecting
        except BarrelError as error:
            report = report_of(error)
            if report is None:
                raise
            return report
        assert dial is not None
        return dial.report

    def disconnect(self, node: NodeRef) -> bool:
        """Close the channel to ``node``; whether there was one. It knows within 1 s."""
        return self._channels().disconnect(NodeReference.parse(node).name)

    def nodes(self) -> list[str]:
        """Nodes with an open channel, as Erlang's ``nodes/0``, sorted."""
        return sorted(self._channels().nodes())

    def set_connect_options(self, node: NodeRef, options: ConnectOptions) -> None:
        """Dial ``node`` with ``options``, once; for instance through a relay."""
        name = NodeReference.parse(node).name
        self._channels().set_connect_options(name, options)

    def get_connect_options(self, node: NodeRef) -> ConnectOptions | None:
        """What ``set_connect_options`` has set and no dial has used."""
        return self._channels().get_connect_options(NodeReference.parse(node).name)

    def clear_connect_options(self, node: NodeRef) -> None:
        """Forget them."""
        self._channels().clear_connect_options(NodeReference.parse(node).name)

    # ---- processes

    def spawn(
        self,
        function: ProcessFunction,
        *args: Any,
        name: object = None,
        mailbox_limit: int | None = None,
    ) -> Pid:
        """Start a process that runs ``await function(process, *args)``.

        Args:
            function: A coroutine function; its first argument is a ``Process``.
            args: The others.
            name: A key term under which this node finds it; see ``At``.
            mailbox_limit: Messages at which its mailbox is full and senders wait.

        Raises:
            Conflict: The name is taken.
            NotStarted: The node is not running.
        """
        return (
            self._processes()
            .spawn(function, *args, name=name, mailbox_limit=mailbox_limit)
            .pid
        )

    def spawn_link(self, function: ProcessFunction, *args: Any) -> Pid:
        """``spawn``, linked to the calling process from its first moment."""
        return self._processes().spawn_link(function, *args)

    def spawn_monitor(self, function: ProcessFunction, *args: Any) -> tuple[Pid, Ref]:
        """``spawn``, monitored by the calling process from its first moment."""
        return self._processes().spawn_monitor(function, *args)

    def mailbox(self) -> AbstractAsyncContextManager[Process]:
        """A pid and a mailbox for plain code: ``async with node.mailbox() as me``."""
        return self._processes().mailbox()

    def register(self, name: object, pid: Pid) -> None:
        """Name a process of this node.

        Raises:
            Conflict: Another process has the name.
            NoProc: ``pid`` is no process of this node.
        """
        self._processes().register(name, pid)

    def unregister(self, name: object) -> None:
        """Take a name away."""
        self._processes().unregister(name)

    def whereis(self, name: object) -> Pid | None:
        """The process of this node that has ``name``, or None."""
        return self._processes().whereis(name)

    async def start_server[S: GenServer](
        self,
        server: type[S],
        *args: Any,
        name: object = None,
        service: object = None,
        **kwargs: Any,
    ) -> Pid:
        """Start a server; returns once its ``init`` is done.

        Args:
            server: A ``GenServer``.
            args: For its ``init``.
            name: A name on this node; see ``At``.
            service: A name in the whole cluster; see ``register_service``.
            kwargs: For its ``init``.

        Raises:
            Conflict: The name is taken on this node; nothing was started.
            Exception: What ``init`` raised.
        """
        processes = self._processes()
        pid = await start_server(processes, server, *args, name=name, **kwargs)
        if service is not None:
            try:
                await self.register_service(service, pid)
            except BaseException:
                await pid.exit("shutdown")
                raise
        return pid

    async def proxy[S: GenServer](
        self, server: type[S], to: addresses.Destination, *, timeout: float | None = 5.0
    ) -> S:
        """An object whose methods call the server ``to``.

        Args:
            server: The server's class; its ``@call`` and ``@cast`` methods are there.
            to: A pid, ``At(name, node)``, a name on this node, or else that of a
                service, which is waited for.
            timeout: Seconds that each call may take, and waiting for a service. None:
                calls wait for ever, and a service is looked for once.

        Raises:
            ServiceNotFound: Nobody has the name on this node, or registers it in time.
            NoProc: Nobody has it on this node, which is hidden.

        Guarantee:
            A proxy for a service keeps to one instance while that is there. A request
            for one that has ended, or cannot be reached, fails; the next one goes to
            another instance, and waits for it if need be. Nothing is sent twice.
        """
        if not (isinstance(to, Pid | At) or self.hidden):
            parts = self._running()
            to = follower = Follower(
                to,
                registry=parts.registry,
                routes=parts.router,
                processes=parts.processes,
            )
            await follower.begin(timeout)
        return proxy.proxy(self._origin(), server, to, timeout=timeout)

    # ---- messages

    async def send(self, to: addresses.Destination, message: object) -> Pid | At:
        """Send ``message``; waits only for room, or for a channel to be opened.

        Args:
            to: A pid, ``At(name, node)``, the name of a process on this node, or else
                that of a service anywhere.
            message: Any term, or a typed message.

        Returns:
            Whom it was sent to.

        Raises:
            NoProc: Nobody has the name, as far as this node knows.
            NotEncodable: ``message`` has no form on the wire.
            PeerUnreachable: There is no way to the node.
        """
        found = self._destination(to)
        await addresses.send(self._origin(), found, message)
        return found

    async def cast(self, to: addresses.Destination, request: object) -> None:
        """Send a request that wants no answer. Names and errors as for ``send``."""
        await addresses.cast(self._origin(), self._destination(to), request)

    async def call(
        self, to: addresses.Destination, request: object, *, timeout: float | None = 5.0
    ) -> Any:
        """Ask, and wait for the answer.

        Names are looked up as for ``send``. Raises as ``Pid.call``.
        """
        found = self._destination(to)
        try:
            return await addresses.call(self._origin(), found, request, timeout=timeout)
        except NoProc:
            if found != to and not self.hidden:
                self._running().router.invalidate_route(to)
            raise

    async def rpc(
        self,
        node: NodeRef,
        function: str | Callable[..., Any],
        *args: Any,
        timeout: float | None = 5.0,
    ) -> Any:
        """Call a function that ``node`` has exposed with ``@expose``.

        Raises:
            NoProc: It has exposed no such function.
            RemoteError: The function raised.
            CallTimeout: No answer within ``timeout`` seconds; it was cancelled there.
            PeerUnreachable: There is no way to the node.
        """
        await self._reach(node, timeout)
        return await rpc.rpc(self._origin(), node, function, *args, timeout=timeout)

    async def multi_rpc(
        self,
        nodes: Iterable[NodeRef],
        function: str | Callable[..., Any],
        *args: Any,
        timeout: float | None = 5.0,
    ) -> dict[str, Any]:
        """``rpc`` to several at once: node to value, or to its ``BarrelError``."""
        wanted = list(nodes)
        ways = (self._reach(node, timeout) for node in wanted)
        # What cannot be reached fails again below, and is told there.
        await asyncio.gather(*ways, return_exceptions=True)
        return await rpc.multi_rpc(
            self._origin(), wanted, function, *args, timeout=timeout
        )

    # ---- inside

    def _running(self) -> Parts:
        if self._parts is None:
            raise NotStarted(
                f"node {self.name} is not running", hint="use it inside `async with`"
            )
        if self._forks != FORKS.count:
            raise NotStarted(
                f"node {self.name} was started in process {self._pid}, and this is a"
                f" fork of it, {os.getpid()}",
                hint="start the node after the fork",
            )
        return self._parts

    async def _reach(self, node: NodeRef, timeout: float | None) -> None:
        # Later only the name is used, so an address has to be used now.
        reference = NodeReference.parse(node)
        if reference.host is not None and reference.name != self.name:
            await self._channels().connect(reference, timeout=timeout)

    def _channels(self) -> Channels:
        return self._running().channels

    def _processes(self) -> Processes:
        return self._running().processes

    def _destination(self, to: addresses.Destination) -> Pid | At:
        parts = self._running()
        if not (isinstance(to, Pid | At) or parts.hidden) and self.whereis(to) is None:
            to = parts.names.whereis_name(to) or to
        return addresses.resolve(parts.switch, to)

    def _origin(self) -> Origin:
        # The running process if it is one of this node's, else the node itself.
        switch = self._running().switch
        return switch.origin_here()
