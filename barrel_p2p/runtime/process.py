"""One process: a mailbox, and the coroutine that reads it.

A process ends when its function returns (reason ``normal``), raises (``("error", type,
text)``), raises ``ProcessExit``, or is told to by an exit signal. Its children, made
with ``create_task``, end with it.

Source: Erlang Reference Manual, "Processes".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Self

from barrel_p2p.core.names import At
from barrel_p2p.core.terms import Pid, Ref
from barrel_p2p.runtime.mailbox import EMPTY

if TYPE_CHECKING:
    from barrel_p2p.runtime.processes import Processes
    from barrel_p2p.runtime.switch import ProcessBox

__all__ = ["Process", "ProcessExit"]


class ProcessExit(BaseException):
    """Ends the process that raises it. ``except Exception`` lets it pass.

    Args:
        reason: Any term; ``normal`` and ``shutdown`` are ends as intended.
    """

    def __init__(self, reason: object = "normal") -> None:
        super().__init__(reason)
        self.reason = reason


class Process:
    """What a process's function is given: its pid, its mailbox, its ties.

    Attributes:
        pid: Its address.
        node: The node it runs on.
        trap_exit: Whether exit signals arrive as ``Exit`` messages and do not end it.
        name: The local name it was spawned with, or None.
    """

    __slots__ = (
        "__weakref__",
        "_box",
        "_children",
        "_ended_by",
        "_processes",
        "_started",
        "_task",
        "name",
        "node",
        "pid",
        "trap_exit",
    )

    def __init__(
        self, processes: Processes, box: ProcessBox, pid: Pid, name: object
    ) -> None:
        self._processes = processes
        self._box = box
        self._task: asyncio.Task[None] | None = None
        self._children: set[asyncio.Task[Any]] | None = None
        self._ended_by: tuple[object] | None = None
        self._started = False
        self.pid = pid
        self.node: Any = processes.node
        self.name = name
        self.trap_exit = False

    def __repr__(self) -> str:
        return f"<Process {self.pid!r} {self.name!r}>"

    async def receive(
        self,
        match: type | Callable[[Any], bool] | object | None = None,
        *,
        timeout: float | None = None,
    ) -> Any:
        """The oldest message, or the oldest that matches; the others stay in order.

        Args:
            match: A class, whose instances match; a predicate; or any other value,
                which matches tuples that have it in slot 0. None takes the oldest.
            timeout: Seconds to wait; None waits for ever, 0 only looks.

        Raises:
            TimeoutError: Nothing came in time. Nothing was taken.
        """
        if match is None and timeout is None:
            box = self._box
            while (message := box.take()) is EMPTY:
                await box
            return message
        if timeout is None:
            return await self._search(match)
        async with asyncio.timeout(timeout):
            if timeout <= 0:
                return self._look(match)
            return await self._search(match)

    async def receive_many(self) -> list[Any]:
        """All messages that wait, at least one. Cheaper than one ``receive`` each."""
        box = self._box
        while not len(box):
            await box
        return box.drain()

    def drain(self) -> list[Any]:
        """All messages that wait, without waiting for one."""
        return self._box.drain()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        box = self._box
        while (message := box.take()) is EMPTY:
            await box
        return message

    def link(self, pid: Pid) -> None:
        """Tie the ends of both processes together, as Erlang's ``link/1``.

        Guarantee:
            Once, and whoever asked first: an exit signal when ``pid`` ends, is not
            there (``noproc``), or its node is lost (``noconnection``). It ends this
            process unless the reason is ``normal``, or arrives as ``Exit`` when
            ``trap_exit`` is set.
        """
        self._processes.ties.link(self.pid.id, pid)

    def unlink(self, pid: Pid) -> None:
        """Undo ``link``. After it no exit signal of that link arrives."""
        self._processes.ties.unlink(self.pid.id, pid)

    def monitor(self, pid: Pid | At) -> Ref:
        """Ask for one ``Down(ref, pid, reason)``: ``pid`` ended or its node is lost.

        Args:
            pid: A process, or ``At(name, node)`` for whoever has the name there now.
                Its node is dialled if there is no channel to it.

        Raises:
            NotEncodable: The name is no key term.
        """
        return self._processes.monitor(self, pid)

    def demonitor(self, ref: Ref, *, flush: bool = True) -> None:
        """Undo ``monitor``; with ``flush``, also drop its ``Down`` from the mailbox."""
        self._processes.demonitor(self, ref, flush=flush)

    def send_after(self, delay: float, to: Pid, message: object) -> Ref:
        """Send ``message`` to ``to`` in ``delay`` seconds, if this process still runs.

        Args:
            delay: 0 to ``TIMER_SECONDS_MAX``.
            to: Any process.
            message: As for ``Pid.send``.

        Returns:
            For ``cancel_timer``.

        Raises:
            InvalidValue: ``delay`` is out of range.
            Busy: This process has ``TIMERS_PER_PROCESS_MAX`` timers.
        """
        return self._processes.send_after(self, delay, to, message)

    def cancel_timer(self, ref: Ref) -> bool:
        """Stop a ``send_after``; whether it was in time."""
        return self._processes.cancel_timer(self, ref)

    def create_task[T](self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``work`` beside the process; it is cancelled when the process ends."""
        task = asyncio.get_running_loop().create_task(work)
        if self._children is None:
            self._children = set()
        self._children.add(task)
        task.add_done_callback(self._children.discard)
        return task

    def exit(self, reason: object = "normal") -> None:
        """End this process now; never returns.

        Raises:
            ProcessExit: Always.
        """
        raise ProcessExit(reason)

    def _end(self, reason: object) -> None:
        self._processes.end(self, reason)

    def _kill(self) -> None:
        self._processes.kill(self)

    def _look(self, match: object) -> Any:
        box = self._box
        message = box.take() if match is None else box.find(match)
        if message is EMPTY:
            raise TimeoutError
        return message

    async def _search(self, match: object) -> Any:
        box = self._box
        if match is None:
            while (message := box.take()) is EMPTY:
                await box
            return message
        message = box.find(match)
        while message is EMPTY:
            await box
            message = box.find(match, True)
        return message
