"""The process of a server: ``init``, the loop, ``terminate``."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import NoProc
from barrel_p2p.runtime.process import Process, ProcessExit
from barrel_p2p.runtime.processes import Processes
from barrel_p2p.runtime.server import GenServer

__all__ = ["error_reason", "start_server"]

_log = logging.getLogger("barrel_p2p.runtime")


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
    if link is not None:
        link.link(process.pid)
    try:
        await started
    except asyncio.CancelledError:
        processes.end(process, "killed")
        raise
    return process.pid


async def _run(
    process: Process,
    server: GenServer,
    started: asyncio.Future[None],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    _own(process, server)
    try:
        await server.init(*args, **kwargs)
    except BaseException as error:
        _refuse_start(started, process, error)
        if isinstance(error, Exception):
            raise ProcessExit(error_reason(error)) from error
        raise
    if not started.done():
        started.set_result(None)
    try:
        reason = await server._serve()
    except asyncio.CancelledError:
        server._leave_calls()
        await _terminate(server, _ended_reason(process))
        raise
    except ProcessExit as error:
        server._leave_calls()
        await _terminate(server, error.reason)
        raise
    except Exception as error:
        server._leave_calls()
        await _terminate(server, error_reason(error))
        raise
    server._leave_calls()
    await _terminate(server, reason)
    raise ProcessExit(reason)


def _refuse_start(
    started: asyncio.Future[None], process: Process, error: BaseException
) -> None:
    if started.done():
        return
    if isinstance(error, Exception):
        started.set_exception(error)
        return
    reason = error.reason if isinstance(error, ProcessExit) else _ended_reason(process)
    started.set_exception(
        NoProc(f"process {process.pid.id} ended in init, with reason {reason!r}")
    )


def _ended_reason(process: Process) -> object:
    """Why ``process`` was told to end, as it sees it while it is cancelled."""
    ended_by = process._ended_by
    return ended_by[0] if isinstance(ended_by, tuple) else "killed"


async def _terminate(server: GenServer, reason: object) -> None:
    # Its reason to end stays what it was, whatever happens here.
    if reason == "killed":
        return
    try:
        await server.terminate(reason)
    except Exception:  # noqa: BLE001 - it ends anyhow
        _log.exception(
            "terminate of %s failed",
            type(server).__name__,
            extra={"event": "terminate_failed"},
        )


def _own(process: Process, server: GenServer) -> None:
    task = asyncio.current_task()
    assert task is not None
    server._process = process
    server._task = task
    server._deferred = set()
    server._waiting = {}
    server.pid = process.pid
    server.node = process.node
    server.name = process.name
