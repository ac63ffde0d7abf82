"""Supervisors: servers that start other processes, and start them again when they fail.

What to do about an end is decided in ``restarts.py``; here it is done. Children are
linked to their supervisor from their first moment, are stopped in the reverse of the
order in which they were started, and never outlive it.

Source: Erlang/OTP, "Supervisor Behaviour".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, NamedTuple, cast

from barrel_p2p.core.events import Exit
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import InvalidValue, NoProc, Overloaded
from barrel_p2p.runtime.process import Process
from barrel_p2p.runtime.processes import ProcessFunction
from barrel_p2p.runtime.restarts import (
    Effect,
    Ended,
    Event,
    Forget,
    GiveUp,
    Restart,
    Restarts,
    Start,
    StartFailed,
    Stop,
    Strategy,
)
from barrel_p2p.runtime.server import GenServer, start_server

__all__ = [
    "CHILDREN_MAX",
    "SHUTDOWN_S",
    "Child",
    "ChildSpec",
    "DynamicSupervisor",
    "Supervisor",
]

CHILDREN_MAX: Final = 100_000
"""Children of one supervisor."""

SHUTDOWN_S: Final = 5.0
"""Seconds a child that is no supervisor has to end before it is killed."""

_log = logging.getLogger("barrel_p2p.runtime")


class _Default:
    """The type of the sign for a time that depends on the child."""


_DEFAULT: Final = _Default()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """How to start a child, and what to do when it ends.

    Args:
        server: A ``GenServer`` class, or a function as ``node.spawn`` takes.
        args: For its ``init``, or for the function.
        kwargs: The same.
        name: A key term that names it on this node, or None.
        restart: ``permanent`` starts it again whatever happens, ``transient`` unless it
            ended as intended (``normal``, ``shutdown``), ``temporary`` never.
        shutdown: Seconds it has to end when told to, before it is killed; 0 kills at
            once, None waits for ever, which is what supervisors get unless told
            otherwise. Others get ``SHUTDOWN_S``.
    """

    server: type[GenServer] | ProcessFunction
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    name: object = None
    restart: Restart = "permanent"
    shutdown: float | _Default | None = _DEFAULT

    def __post_init__(self) -> None:
        if self.restart not in ("permanent", "transient", "temporary"):
            raise InvalidValue(
                f"restart={self.restart!r} is none of permanent, transient, temporary"
            )
        if isinstance(self.shutdown, int | float) and self.shutdown < 0:
            raise InvalidValue(f"shutdown={self.shutdown} s is below 0")

    @property
    def shutdown_s(self) -> float | None:
        """Seconds it has to end, or None."""
        if not isinstance(self.shutdown, _Default):
            return self.shutdown
        kind = self.server
        is_supervisor = isinstance(kind, type) and issubclass(kind, Supervisor)
        return None if is_supervisor else SHUTDOWN_S


class Child(NamedTuple):
    """A child, from ``which_children``. Its ``pid`` is None while it does not run."""

    pid: Pid | None
    spec: ChildSpec


class _Child:
    __slots__ = ("key", "pid", "process", "spec")

    def __init__(self, key: int, spec: ChildSpec) -> None:
        self.key = key
        self.spec = spec
        self.pid: Pid | None = None
        self.process: Process | None = None


class _Order:
    """Work that somebody else wants done by the supervisor itself."""

    __slots__ = ("done", "work")

    def __init__(
        self, work: Callable[[], Awaitable[Any]], done: asyncio.Future[Any]
    ) -> None:
        self.work = work
        self.done = done


_running: dict[Pid, Supervisor] = {}


class Supervisor(GenServer):
    """A server whose work is its children. Subclass it, and list them or start them.

    Children come from the class attribute ``children``, in that order, then from
    ``start_child``, in ``init`` or later. Class attributes:

    - ``strategy``: ``one_for_one`` restarts a child alone; ``one_for_all`` stops and
      restarts all with it; ``rest_for_one`` those started after it;
    - ``intensity`` and ``period``: more restarts than ``intensity`` within ``period``
      seconds, and the supervisor stops its children and ends with reason ``shutdown``,
      which its own supervisor sees;
    - ``children``: specs of those to start before ``init`` runs.
    """

    strategy: ClassVar[Strategy] = "one_for_one"
    intensity: ClassVar[int] = 3
    period: ClassVar[float] = 5.0
    children: ClassVar[Sequence[ChildSpec]] = ()

    _keep: ClassVar[bool] = True

    _restarts: Restarts
    _by_key: dict[int, _Child]
    _by_pid: dict[Pid, _Child]
    _next_key: int

    @classmethod
    def at(cls, pid: Pid) -> Supervisor:
        """The supervisor that runs as ``pid`` in this program.

        Raises:
            NoProc: ``pid`` is no supervisor that runs here.
        """
        found = _running.get(pid)
        if found is None:
            raise NoProc(f"{pid!r} is no supervisor that runs in this program")
        return found

    async def start_child(
        self,
        server: type[GenServer] | ProcessFunction,
        *args: Any,
        name: object = None,
        restart: Restart = "permanent",
        shutdown: float | _Default | None = _DEFAULT,
        **kwargs: Any,
    ) -> Pid:
        """Start a child, after all others, and wait until its ``init`` has run.

        May be called in the supervisor and from any other task of the program.

        Args:
            server: As for ``ChildSpec``, like all that follows.
            args: For it.
            name: Its local name.
            restart: When to start it again.
            shutdown: Seconds it has to end.
            kwargs: For it.

        Raises:
            Conflict: The name is taken.
            Overloaded: There are ``CHILDREN_MAX`` children.
            NoProc: The supervisor has ended.
            Exception: Whatever ``init`` raised. There is no such child then.
        """
        spec = ChildSpec(
            server=server,
            args=args,
            kwargs=kwargs,
            name=name,
            restart=restart,
            shutdown=shutdown,
        )
        return cast(Pid, await self._do(lambda: self._add(spec)))

    async def terminate_child(self, pid: Pid) -> None:
        """Stop a child and forget it.

        Raises:
            NoProc: ``pid`` is no child, or the supervisor has ended.
        """
        await self._do(lambda: self._remove(pid))

    async def restart_child(self, pid: Pid) -> Pid:
        """Stop a child and start it again. Does not count as a restart.

        Raises:
            NoProc: ``pid`` is no child, or the supervisor has ended.
            Exception: Whatever ``init`` raised. The child is forgotten then.
        """
        return cast(Pid, await self._do(lambda: self._replace(pid)))

    def which_children(self) -> list[Child]:
        """The children in their order, those included that ended and are kept."""
        return [Child(child.pid, child.spec) for child in self._by_key.values()]

    # ---- its life

    async def _opening(self) -> None:
        self.trap_exit = True
        self._by_key = {}
        self._by_pid = {}
        self._next_key = 0
        self._restarts = Restarts(
            strategy=self.strategy,
            intensity=self.intensity,
            period_ms=round(self.period * 1_000),
            keep=self._keep,
        )
        _running[self.pid] = self
        for spec in self.children:
            await self._add(spec)

    async def _closing(self) -> None:
        try:
            for child in reversed(list(self._by_key.values())):
                await self._stop(child)
        finally:
            _running.pop(self.pid, None)

    async def _inform(self, message: object) -> None:
        if type(message) is Exit and message.pid in self._by_pid:
            child = self._by_pid.pop(message.pid)
            child.pid = child.process = None
            await self._decide(Ended(child.key, message.reason), message.reason)
        elif type(message) is StartFailed:
            failed = self._by_key.get(message.key)
            if failed is not None and failed.pid is None:
                await self._decide(message, "it could not be started")
        elif type(message) is _Order:
            await self._obey(message)
        else:
            await super()._inform(message)

    # ---- orders

    async def _do(self, work: Callable[[], Awaitable[Any]]) -> Any:
        # Only the supervisor's own task changes its children, so that a start cannot
        # come between the steps of a restart.
        if asyncio.current_task() is self._task:
            return await work()
        if self.pid not in _running or self._process._box.closed:
            raise NoProc(f"supervisor {self.pid.id} has ended")
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._process._box.offer(_Order(work, done))
        ended = asyncio.ensure_future(asyncio.wait({self._task}))
        try:
            await asyncio.wait({done, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
        if not done.done():
            raise NoProc(f"supervisor {self.pid.id} has ended")
        return done.result()

    async def _obey(self, order: _Order) -> None:
        if order.done.done():
            return
        try:
            result = await order.work()
        except Exception as error:  # noqa: BLE001 - whoever ordered it is told
            if not order.done.done():
                order.done.set_exception(error)
        else:
            if not order.done.done():
                order.done.set_result(result)

    async def _add(self, spec: ChildSpec) -> Pid:
        if len(self._by_key) >= CHILDREN_MAX:
            raise Overloaded(f"{type(self).__name__} has {CHILDREN_MAX} children")
        child = _Child(self._next_key, spec)
        self._next_key += 1
        pid = await self._start(child)
        self._by_key[child.key] = child
        self._restarts.add(child.key, spec.restart)
        return pid

    async def _remove(self, pid: Pid) -> None:
        child = self._child(pid)
        self._forget(child)
        await self._stop(child)

    async def _replace(self, pid: Pid) -> Pid:
        child = self._child(pid)
        try:
            await self._stop(child)
            return await self._start(child)
        except BaseException:
            self._forget(child)
            raise

    def _forget(self, child: _Child) -> None:
        self._restarts.remove(child.key)
        self._by_key.pop(child.key, None)

    def _child(self, pid: Pid) -> _Child:
        child = self._by_pid.get(pid)
        if child is None:
            raise NoProc(f"{pid!r} is no child of {type(self).__name__}")
        return child

    # ---- restarts

    async def _decide(self, event: Event, reason: object) -> None:
        now_ms = round(asyncio.get_running_loop().time() * 1_000)
        effects = self._restarts.handle(event, now_ms=now_ms)
        failed = await self._perform(effects, reason)
        if failed is not None:
            # Through the mailbox, so that whatever waits there gets its turn.
            self._process._box.offer(failed)

    async def _perform(
        self, effects: list[Effect], reason: object
    ) -> StartFailed | None:
        for effect in effects:
            match effect:
                case Stop(key):
                    await self._stop(self._by_key[key])
                case Forget(key):
                    self._by_key.pop(key, None)
                case GiveUp():
                    self._give_up(reason)
                case Start(key):
                    child = self._by_key[key]
                    try:
                        await self._start(child)
                    except Exception:  # noqa: BLE001 - it counts as another end
                        self._note_failure(child)
                        return StartFailed(key)
        return None

    def _give_up(self, reason: object) -> None:
        _log.error(
            "supervisor %s of %s gives up: more than %d restarts in %g s, the last "
            "for reason %.200r",
            type(self).__name__,
            self.pid.node,
            self.intensity,
            self.period,
            reason,
            extra={"event": "supervisor_gave_up", "node": self.pid.node},
        )
        self.stop("shutdown")

    def _note_failure(self, child: _Child) -> None:
        _log.exception(
            "supervisor %s of %s could not restart %r",
            type(self).__name__,
            self.pid.node,
            child.spec.server,
            extra={"event": "restart_failed", "node": self.pid.node},
        )

    async def _start(self, child: _Child) -> Pid:
        spec = child.spec
        processes = self._process._processes
        if isinstance(spec.server, type) and issubclass(spec.server, GenServer):
            pid = await start_server(
                processes,
                spec.server,
                *spec.args,
                name=spec.name,
                link=self._process,
                **spec.kwargs,
            )
        else:
            pid = processes.spawn(
                cast(ProcessFunction, spec.server),
                *spec.args,
                name=spec.name,
                **spec.kwargs,
            ).pid
            self.link(pid)
        box = processes.switch.box_of(pid.id)
        child.pid = pid
        child.process = None if box is None else box.owner
        self._by_pid[pid] = child
        return pid

    async def _stop(self, child: _Child) -> None:
        process, pid = child.process, child.pid
        child.process = child.pid = None
        if pid is None:
            return
        self._by_pid.pop(pid, None)
        self.unlink(pid)
        self._process._box.discard(lambda m: type(m) is Exit and m.pid == pid)
        if process is None or process._task is None or process._task.done():
            return
        processes = self._process._processes
        timeout = child.spec.shutdown_s
        try:
            if timeout is None or timeout > 0:
                processes.end(process, "shutdown")
                await asyncio.wait({process._task}, timeout=timeout)
        finally:
            if not process._task.done():
                processes.kill(process)


class DynamicSupervisor(Supervisor):
    """A supervisor of many children of one kind, started as they are needed.

    Its strategy is ``one_for_one``. A transient child that ended as intended is
    forgotten, and all children are stopped at once when it ends.
    """

    _keep = False

    async def _closing(self) -> None:
        try:
            stops = [self._stop(child) for child in self._by_key.values()]
            await asyncio.gather(*stops, return_exceptions=True)
        finally:
            _running.pop(self.pid, None)
