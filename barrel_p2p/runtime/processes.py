"""The processes of one node: spawned, named, tied together, ended."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from barrel_p2p.core.events import Down
from barrel_p2p.core.names import At
from barrel_p2p.core.terms import Pid, Ref, set_verbs
from barrel_p2p.errors import Conflict, InvalidValue, NoProc, NotStarted
from barrel_p2p.runtime.calls import call
from barrel_p2p.runtime.limits import MAILBOX_LIMIT
from barrel_p2p.runtime.monitors import number_of, ref_of
from barrel_p2p.runtime.process import Process, ProcessExit
from barrel_p2p.runtime.switch import ORIGIN, Origin, ProcessBox, Switch, Verbs
from barrel_p2p.runtime.ties import TieChannel, Ties, send_exit
from barrel_p2p.runtime.timers import Timers
from barrel_p2p.wire.frames import Frame
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

    Attributes:
        switch: The node's.
        node: The node itself.
        ties: Its links and monitors.
    """

    def __init__(
        self, switch: Switch, *, node: object, mailbox_limit: int = MAILBOX_LIMIT
    ) -> None:
        set_verbs(Verbs(call, send_exit))  # What pids do is the same for every node.
        self.switch = switch
        self.node = node
        self._mailbox_limit = mailbox_limit
        self.ties = Ties(switch)
        self._timers = Timers(switch)
        self._here = switch.pid(0)
        self._numbers = itertools.count(1)
        self._live: dict[int, Process] = {}
        self._keys_of: dict[int, set[bytes]] = {}  # so that an end need not search
        self._listeners: list[Callable[[int], None]] = []
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

    def spawn_link(self, function: ProcessFunction, *args: Any, **kwargs: Any) -> Pid:
        """As ``spawn``, linked to the process that runs now from its first moment.

        Raises:
            InvalidValue: No process of this node runs now.
        """
        me = self._running("spawn_link")
        pid = self.spawn(function, *args, **kwargs).pid
        me.link(pid)
        return pid

    def spawn_monitor(
        self, function: ProcessFunction, *args: Any, **kwargs: Any
    ) -> tuple[Pid, Ref]:
        """As ``spawn``, monitored by the process that runs now from its first moment.

        Raises:
            InvalidValue: No process of this node runs now.
        """
        me = self._running("spawn_monitor")
        pid = self.spawn(function, *args, **kwargs).pid
        return pid, me.monitor(pid)

    @asynccontextmanager
    async def mailbox(
        self, *, name: object = None, mailbox_limit: int | None = None
    ) -> AsyncIterator[Process]:
        """A pid and a mailbox for ordinary code, for as long as the block runs.

        What the block sends comes from that pid. Exit signals arrive as messages,
        unless it clears ``trap_exit``; a signal that ends it closes the mailbox, and
        ``receive`` then raises ``NoProc``.

        Raises:
            As ``spawn``.
        """
        process = self._make(name, mailbox_limit)
        process.trap_exit = True
        token = ORIGIN.set(Origin(self.switch, process.pid.id, process))
        reason: object = "normal"
        try:
            yield process
        except Exception as error:
            reason = _error_reason(error)
            raise
        finally:
            with suppress(ValueError):  # The block is left in another task.
                ORIGIN.reset(token)
            self._ended(process, reason)

    def listen(self, listener: Callable[[int], None]) -> None:
        """Call ``listener`` with the number of each process that ends, once it has.

        For rooms that keep something for a process. What listens here raises nothing.
        """
        self._listeners.append(listener)

    def monitor(self, process: Process, target: Pid | At) -> Ref:
        """See ``Process.monitor``."""
        number = next(self._numbers)
        self.ties.monitor(process.pid.id, number, target)
        return ref_of(self._here, number)

    def demonitor(self, process: Process, ref: Ref, *, flush: bool) -> None:
        """See ``Process.demonitor``."""
        number = number_of(self._here, ref)
        if number is None:
            return
        self.ties.demonitor(process.pid.id, number)
        if flush:
            process._box.discard(lambda m: type(m) is Down and m.ref == ref)

    def send_after(
        self, process: Process, delay: float, to: Pid, message: object
    ) -> Ref:
        """See ``Process.send_after``."""
        number = next(self._numbers)
        self._timers.start(process, number, delay, to, message)
        return ref_of(self._here, number)

    def cancel_timer(self, process: Process, ref: Ref) -> bool:
        """See ``Process.cancel_timer``."""
        number = number_of(self._here, ref)
        return number is not None and self._timers.cancel(process, number)

    def handle_frame(self, channel: TieChannel, frame: Frame) -> None:
        """Take a frame of the kinds in ``messages.TIE_KINDS`` from a data stream.

        Raises:
            WireError: It breaks a rule, and the channel cannot go on.
        """
        self.ties.handle_frame(channel, frame)

    def node_up(self, node: str) -> None:
        """There is a line to ``node``: send what waited for it."""
        self.ties.node_up(node)

    def node_lost(self, node: str, reason: str) -> None:
        """The line to ``node`` was dropped: what was tied over it fires.

        Args:
            node: The peer.
            reason: Why, for the log; processes see ``noconnection``.
        """
        _log.debug("ties to %s are lost: %s", node, reason)
        self.ties.node_lost(node)

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
        self._name(key, box)

    def unregister(self, name: object) -> None:
        """Take a local name away. Unknown names are ignored."""
        key = key_bytes(name)
        box = self.switch.names.pop(key, None)
        if box is not None:
            self._keys_of.get(box.id, set()).discard(key)
            box.unnamed(key)

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
        """End all processes with reason ``shutdown``; wait at most ``timeout`` s."""
        self._stopping = True
        tasks = [p._task for p in self._live.values() if p._task is not None]
        for process in list(self._live.values()):
            self.end(process, "shutdown")
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
        await self.ties.stop()

    def end(self, process: Process, reason: object) -> None:
        """Make ``process`` end with ``reason``, as soon as it lets go of the loop."""
        task = process._task
        if task is None:
            self._ended(process, reason)
            return
        if process._ended_by is None:
            process._ended_by = (reason,)
        if process._started:
            task.cancel()
        else:
            # A task that is cancelled before its first step never runs a line, so its
            # end would go unseen. That step stands in the loop's queue before this.
            asyncio.get_running_loop().call_soon(task.cancel)

    def kill(self, process: Process) -> None:
        """End ``process`` with reason ``killed`` at once, whatever its code does.

        Its pid is dead and its ties have fired when this returns; its code is cancelled
        and finds its mailbox closed.
        """
        process._ended_by = ("killed",)
        self._ended(process, "killed")
        self.end(process, "killed")

    def _running(self, verb: str) -> Process:
        me = self.switch.origin_here().process
        if isinstance(me, Process):
            return me
        raise InvalidValue(
            f"{verb} ties the new process to the one that calls, and there is none",
            hint="call it in a process, or within `async with node.mailbox()`",
        )

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
            self._name(key, box)
        return process

    def _name(self, key: bytes, box: ProcessBox) -> None:
        self.switch.names[key] = box
        self._keys_of.setdefault(box.id, set()).add(key)

    async def _run(
        self,
        process: Process,
        function: ProcessFunction,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        reason: object = "normal"
        process._started = True
        try:
            await function(process, *args, **kwargs)
            if process._ended_by is not None:
                reason = process._ended_by[0]  # It cleaned up, and returned.
        except asyncio.CancelledError:
            reason = "killed" if process._ended_by is None else process._ended_by[0]
        except ProcessExit as error:
            reason = error.reason
        except Exception as error:  # noqa: BLE001 - whatever it raised is its end
            if process._ended_by is not None and isinstance(error, NoProc):
                # Killed, it can find its mailbox closed before it is cancelled.
                reason = process._ended_by[0]
            else:
                reason = _error_reason(error)
                self._log_crash(process)
        finally:
            self._ended(process, reason)

    def _log_crash(self, process: Process) -> None:
        _log.exception(
            "process %r of %s crashed",
            process.name or process.pid.id,
            self.switch.name,
            extra={"event": "process_crashed", "node": self.switch.name},
        )

    def _ended(self, process: Process, reason: object) -> None:
        box = process._box
        if self._live.pop(box.id, None) is None:
            return
        for child in list(process._children or ()):
            child.cancel()
        names = self.switch.names
        for key in self._keys_of.pop(box.id, ()):
            if names.get(key) is box:
                del names[key]
        self._timers.ended(box.id)
        self.switch.close_box(box, "noproc", f"process {box.id} has ended")
        self.ties.ended(box.id, reason)
        for listener in self._listeners:
            listener(box.id)


def _error_reason(error: Exception) -> tuple[str, str, str]:
    return ("error", type(error).__name__, str(error))
