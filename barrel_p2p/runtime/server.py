"""Servers: one process, one piece of state, requests one after another.

An exception in the handler of a call goes to the caller and the server stays; one in
``init``, ``handle_cast`` or ``handle_info`` ends the server, because nobody else would
learn of it.

Source: Erlang/OTP, "gen_server Behaviour".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, ClassVar

from barrel_p2p.core.names import At
from barrel_p2p.core.terms import Pid, Ref
from barrel_p2p.errors import InvalidValue, NoProc
from barrel_p2p.runtime.limits import MAILBOX_LIMIT
from barrel_p2p.runtime.process import Process, ProcessExit
from barrel_p2p.runtime.processes import Processes
from barrel_p2p.runtime.server_loop import NO_REPLY, ServerLoop
from barrel_p2p.runtime.verbs import handlers_of

__all__ = ["NO_REPLY", "GenServer", "error_reason", "start_server"]

_log = logging.getLogger("barrel_p2p.runtime")


class GenServer(ServerLoop):
    """A process with state that others call and cast to. Subclass it.

    State lives in attributes and needs no lock: one handler runs at a time, unless it
    is marked ``@call(concurrent=True)``. Attributes:

    - ``pid``, ``node``, ``name``: the process's;
    - ``current_call``: the call whose handler runs, or None. A handler that returns
      ``NO_REPLY`` keeps it and answers later with its ``reply`` or ``fail``;
    - ``dropped``: casts and messages that no handler took.

    Class attributes:

    - ``mailbox_limit``: messages that may wait before senders do.
    """

    mailbox_limit: ClassVar[int] = MAILBOX_LIMIT

    node: Any
    name: object = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._handlers = handlers_of(cls)

    # ---- what a subclass writes

    async def init(self, *args: Any, **kwargs: Any) -> None:
        """Prepare the state. ``start_server`` returns after it, or raises its error.

        Args:
            args: Those of ``start_server``.
            kwargs: The same.
        """

    async def handle_call(self, request: Any, caller: Pid) -> Any:
        """Answer a request that is not for a ``@call`` method.

        Args:
            request: What was asked.
            caller: The process that called; its id is 0 for plain code.

        Returns:
            The answer, or ``NO_REPLY``.

        Raises:
            Exception: Goes to the caller as ``RemoteError``; the server stays.
        """
        raise InvalidValue(f"{type(self).__name__} takes no such call")

    async def handle_cast(self, request: Any) -> None:
        """Take a request that wants no answer and is not for a ``@cast`` method.

        Raises:
            Exception: Ends the server.
        """
        self._drop("cast", request)

    async def handle_info(self, message: Any) -> None:
        """Take any other message: what was sent, ``Down``, ``Exit``.

        Raises:
            Exception: Ends the server.
        """
        self._drop("message", message)

    async def terminate(self, reason: object) -> None:
        """Clean up. Runs however the server ends, unless with reason ``killed``.

        Args:
            reason: Why it ends.
        """

    async def _opening(self) -> None:
        # What a kind of server prepares, whatever its subclass does in ``init``.
        pass

    async def _closing(self) -> None:
        # What it takes down, whatever its subclass does in ``terminate``.
        pass

    # ---- what a subclass uses

    def monitor(self, pid: Pid | At) -> Ref:
        """As ``Process.monitor``; the ``Down`` comes to ``handle_info``."""
        return self._process.monitor(pid)

    def demonitor(self, ref: Ref, *, flush: bool = True) -> None:
        """As ``Process.demonitor``."""
        self._process.demonitor(ref, flush=flush)

    def link(self, pid: Pid) -> None:
        """As ``Process.link``."""
        self._process.link(pid)

    def unlink(self, pid: Pid) -> None:
        """As ``Process.unlink``."""
        self._process.unlink(pid)

    @property
    def trap_exit(self) -> bool:
        """Whether exit signals arrive at ``handle_info`` and do not end the server."""
        return self._process.trap_exit

    @trap_exit.setter
    def trap_exit(self, trap: bool) -> None:
        self._process.trap_exit = trap

    def send_after(self, delay: float, to: Pid, message: object) -> Ref:
        """As ``Process.send_after``."""
        return self._process.send_after(delay, to, message)

    def cancel_timer(self, ref: Ref) -> bool:
        """As ``Process.cancel_timer``."""
        return self._process.cancel_timer(ref)

    def create_task[T](self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """As ``Process.create_task``: it ends with the server."""
        return self._process.create_task(work)


def error_reason(error: BaseException) -> tuple[str, str, str]:
    """The reason of a process that ended with ``error``."""
    return ("error", type(error).__name__, str(error))


async def start_server[S: GenServer](
    processes: Processes,
    server: type[S],
    *args: Any,
    name: object = None,
    link: Process | None = None,
    **kwargs: Any,
) -> Pid:
    """Start a server and wait until its ``init`` has run.

    Args:
        processes: Where it runs.
        server: Its class.
        args: For ``init``.
        name: A key term that names it on this node, or None.
        link: A process to link it to before it runs.
        kwargs: For ``init``.

    Raises:
        Conflict: The name is taken.
        Exception: Whatever ``init`` raised. The process has ended.
    """
    started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    made = server()
    process = processes.spawn(
        _run,
        made,
        started,
        args,
        kwargs,
        name=name,
        mailbox_limit=server.mailbox_limit,
    )
    _own(process, made, link)
    if link is not None:
        link.link(process.pid)
    try:
        await started
    except asyncio.CancelledError:
        if link is not None:
            link.unlink(process.pid)
        processes.kill(process)
        raise
    return process.pid


async def _run(
    process: Process,
    server: GenServer,
    started: asyncio.Future[None],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    try:
        await server._opening()
        await server.init(*args, **kwargs)
    except BaseException as error:
        await server._closing()
        if server._parent is not None:
            process.unlink(server._parent)  # Its starter gets the error itself.
        _refuse_start(started, process, error)
        if isinstance(error, Exception):
            raise ProcessExit(error_reason(error)) from error
        raise
    if not started.done():
        started.set_result(None)
    try:
        reason = await server._serve()
    except BaseException as error:
        await _finish(server, _reason_of(process, error))
        raise
    await _finish(server, reason)
    raise ProcessExit(reason)


async def _finish(server: GenServer, reason: object) -> None:
    # Its reason to end stays what it was, whatever happens here.
    try:
        if reason != "killed":
            await server.terminate(reason)
    except Exception:  # noqa: BLE001 - it ends anyhow
        _log.exception(
            "terminate of %s failed",
            type(server).__name__,
            extra={"event": "terminate_failed"},
        )
    finally:
        await server._closing()


def _refuse_start(
    started: asyncio.Future[None], process: Process, error: BaseException
) -> None:
    if started.done():
        return
    if isinstance(error, Exception):
        started.set_exception(error)
        return
    reason = _reason_of(process, error)
    started.set_exception(
        NoProc(f"process {process.pid.id} ended in init, with reason {reason!r:.200}")
    )


def _reason_of(process: Process, error: BaseException) -> object:
    if isinstance(error, ProcessExit):
        return error.reason
    if isinstance(error, asyncio.CancelledError):
        return "killed" if process._ended_by is None else process._ended_by[0]
    return error_reason(error)


def _own(process: Process, server: GenServer, parent: Process | None) -> None:
    assert process._task is not None
    server._process = process
    server._task = process._task
    server._parent = None if parent is None else parent.pid
    server._waiting = {}
    server.pid = process.pid
    server.node = process.node
    server.name = process.name
