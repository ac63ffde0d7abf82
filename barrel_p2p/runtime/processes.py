"""The processes of one node: spawned, named, tied together, ended."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import Conflict, InvalidValue, NoProc, NotStarted
from barrel_p2p.runtime.limits import MAILBOX_LIMIT
from barrel_p2p.runtime.process import Process, ProcessExit
from barrel_p2p.runtime.switch import ORIGIN, Origin, Switch
from barrel_p2p.wire.terms import key_bytes

__all__ = ["ProcessFunction", "Processes"]

type ProcessFunction = Callable[..., Awaitable[object]]

_log = logging.getLogger("barrel_p2p.runtime")


class Processes:
    """All processes of one node.

    Args:
        switch: The node's.
        node: What a process sees as ``node``.
        mailbox_limit: Messages at which a mailbox is full, unless the process says so.
    """

    def __init__(
        self, switch: Switch, *, node: object, mailbox_limit: int = MAILBOX_LIMIT
    ) -> None:
        self.switch = switch
        self.node = node
        self._mailbox_limit = mailbox_limit
        self._live: dict[int, Process] = {}
        self._stopping = False

    def __len__(self) -> int:
        return len(self._live)

    def spawn(
        self,
        function: ProcessFunction,
        *args: Any,
        name: object = None,
        mailbox_limit: int | None = None,
        **kwargs: Any,
    ) -> Process:
        """Start a process that runs ``function(process, *args, **kwargs)``.

        Args:
            function: A coroutine function.
            args: For it.
            name: A key term that names it on this node; None for no name.
            mailbox_limit: Messages at which its mailbox is full.
            kwargs: For it.

        Raises:
            Conflict: The name is taken.
            NotStarted: The node is stopping.
            Busy: There are ``PROCESSES_MAX`` processes.
        """
        process = self._make(name, mailbox_limit)
        context = contextvars.copy_context()
        context.run(ORIGIN.set, Origin(self.switch, process.pid.id, process))
        loop = asyncio.get_running_loop()
        process._task = loop.create_task(
            self._run(process, function, args, kwargs), context=context
        )
        return process

    def register(self, name: object, pid: Pid) -> None:
        """Give a process of this node a local name.

        Raises:
            Conflict: Another process has it.
            NoProc: ``pid`` is no process of this node.
            NotEncodable: ``name`` is no key term.
        """
        key = key_bytes(name)
        box = self.switch.box_of(pid.id) if pid.node == self.switch.name else None
        if box is None:
            raise NoProc(f"{pid!r} is no process of {self.switch.name}")
        holder = self.switch.names.get(key)
        if holder is not None and holder is not box:
            raise Conflict(
                f"the name {name!r} belongs to process {holder.id} of "
                f"{self.switch.name}",
                hint="unregister it, or choose another name",
            )
        self.switch.names[key] = box

    def unregister(self, name: object) -> None:
        """Take a local name away. Unknown names are ignored."""
        self.switch.names.pop(key_bytes(name), None)

    def whereis(self, name: object) -> Pid | None:
        """The process of this node that has ``name``, or None."""
        box = self.switch.names.get(key_bytes(name))
        return None if box is None else self.switch.pid(box.id)

    def registered(self) -> dict[Pid, list[bytes]]:
        """The ``key_bytes`` of the local names of each process that has one."""
        found: dict[Pid, list[bytes]] = {}
        for key, box in self.switch.names.items():
            found.setdefault(self.switch.pid(box.id), []).append(key)
        return found

    async def stop(self, *, timeout: float) -> None:
        """End every process with reason ``shutdown``; wait ``timeout`` seconds at most."""
        self._stopping = True
        tasks = [p._task for p in self._live.values() if p._task is not None]
        for process in list(self._live.values()):
            self.end(process, "shutdown")
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)

    def end(self, process: Process, reason: object) -> None:
        """Make ``process`` end with ``reason``, as soon as it lets go of the loop."""
        if process._task is None:
            self._ended(process, reason)
            return
        if process._ended_by is None:
            process._ended_by = (reason,)
        process._task.cancel()

    def _make(self, name: object, mailbox_limit: int | None) -> Process:
        if self._stopping:
            raise NotStarted(f"node {self.switch.name} is stopping")
        key = None if name is None else key_bytes(name)
        if key is not None and key in self.switch.names:
            raise Conflict(f"the name {name!r} is taken on {self.switch.name}")
        limit = self._mailbox_limit if mailbox_limit is None else mailbox_limit
        if limit < 1:
            raise InvalidValue(f"mailbox_limit={limit} is below 1")
        box = self.switch.open_box(limit, None)
        process = Process(self, box, self.switch.pid(box.id), name)
        box.set_owner(process)
        self._live[box.id] = process
        if key is not None:
            self.switch.names[key] = box
        return process

    async def _run(
        self,
        process: Process,
        function: ProcessFunction,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        reason: object = "normal"
        try:
            await function(process, *args, **kwargs)
        except asyncio.CancelledError:
            ended_by = process._ended_by
            reason = ended_by[0] if isinstance(ended_by, tuple) else "killed"
        except ProcessExit as error:
            reason = error.reason
        except Exception as error:  # noqa: BLE001 - whatever it raised is its end
            reason = ("error", type(error).__name__, str(error))
            _log.exception(
                "process %r of %s crashed",
                process.name or process.pid.id,
                self.switch.name,
                extra={"event": "process_crashed", "node": self.switch.name},
            )
        finally:
            self._ended(process, reason)

    def _ended(self, process: Process, reason: object) -> None:
        box = process._box
        if self._live.pop(box.id, None) is None:
            return
        for child in list(process._children or ()):
            child.cancel()
        names = self.switch.names
        for key in [key for key, holder in names.items() if holder is box]:
            del names[key]
        self.switch.close_box(box, "noproc", f"process {box.id} has ended")
