"""The loop of a server: take a message, run its handler, answer.

An exception in the handler of a call goes to the caller and the loop goes on. A caller
that gives up cancels the handler that works for it, never the server. The private
attributes are set by ``start_server`` before anything runs.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Coroutine
from typing import Any, ClassVar, Final

from barrel_p2p.core.events import Exit
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import (
    BarrelError,
    InvalidValue,
    NoSuchFunction,
    Overloaded,
)
from barrel_p2p.runtime.mailbox import EMPTY
from barrel_p2p.runtime.process import Process
from barrel_p2p.runtime.switch import Call, Cast
from barrel_p2p.runtime.verbs import REQUEST_TAG, Handler

__all__ = [
    "ANSWERS_WAITING_MAX",
    "CONCURRENT_CALLS_MAX",
    "FAULT_CHARS_MAX",
    "NO_REPLY",
    "TRACEBACK_CHARS_MAX",
    "TURNS_MAX",
    "ServerLoop",
]

CONCURRENT_CALLS_MAX: Final = 256
"""Calls of ``@call(concurrent=True)`` methods that one server runs at once."""

ANSWERS_WAITING_MAX: Final = 256
"""Answers of one server that wait for room towards one peer; its further calls are
answered ``overloaded`` before they are looked at."""

TURNS_MAX: Final = 256
"""Messages a server takes before it lets the event loop go round, however many wait."""

FAULT_CHARS_MAX: Final = 4_096
"""Characters of an error's text that travel to the caller."""

TRACEBACK_CHARS_MAX: Final = 16_384
"""Characters of a traceback that travel to the caller, the last ones."""

_log = logging.getLogger("barrel_p2p.runtime")


class _Refusal(Exception):
    """Answers a call with the code of ``error`` itself: no handler ran."""

    def __init__(self, error: BarrelError) -> None:
        super().__init__(str(error))
        self.error = error


class _NoReply:
    """The type of ``NO_REPLY``."""

    def __repr__(self) -> str:
        return "NO_REPLY"


NO_REPLY: Final = _NoReply()
"""A handler returns it when the answer comes later, from ``current_call.reply``."""

_LOOK: Final = object()  # Wakes a server that was told to stop.


class ServerLoop:
    """What every server does between its handlers. ``GenServer`` says what they are."""

    pid: Pid
    current_call: Call | None = None
    dropped: int = 0

    _process: Process
    _task: asyncio.Task[Any]
    _parent: Pid | None
    _waiting: dict[str, int]
    _handlers: ClassVar[dict[str, Handler]] = {}
    _stopped: tuple[object] | None = None
    _withdrawn: bool = False
    _concurrent: int = 0

    async def handle_call(self, request: Any, caller: Pid) -> Any:
        """See ``GenServer``."""
        raise InvalidValue(f"{type(self).__name__} takes no such call")

    async def handle_cast(self, request: Any) -> None:
        """See ``GenServer``."""
        self._drop("cast", request)

    async def handle_info(self, message: Any) -> None:
        """See ``GenServer``."""
        self._drop("message", message)

    def stop(self, reason: object = "normal") -> None:
        """End the server when the running handler is done; what waits is dropped."""
        if self._stopped is None:
            self._stopped = (reason,)
            self._process._box.offer(_LOOK)

    async def _serve(self) -> object:
        # The reason to end with. A cancellation that was only a caller giving up may
        # still come out of an await that has nothing to do with the call.
        while self._stopped is None:
            try:
                await self._take_some()
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if not self._forgiven():
                    raise
        return self._stopped[0]

    async def _take_some(self) -> None:
        box = self._process._box
        take = box.take
        withdraw = self._withdraw
        left = TURNS_MAX
        while left > 0 and self._stopped is None:
            left -= 1
            while (message := take()) is EMPTY:
                await box
            if type(message) is not Call:
                await self._take(message)
                continue
            if self._waiting and self._crowded(message):
                continue
            if not message.begin(withdraw):
                continue
            self.current_call = message
            try:
                request = message.request
                if (
                    type(request) is tuple
                    and len(request) == 4
                    and request[0] == REQUEST_TAG
                ):
                    value = await self._invoke(message, request)
                else:
                    value = await self.handle_call(request, message.caller)
                if value is NO_REPLY or not message.finish(value):
                    self._later(message, value)
            except asyncio.CancelledError as error:
                if not self._absorbed(message, error):
                    raise
            except Exception as error:  # noqa: BLE001 - it is the caller's to see
                self._fail(message, error)
            if self._withdrawn:
                self._forgiven()
            self.current_call = None

    def _invoke(self, call: Call, request: Any) -> Coroutine[Any, Any, Any]:
        handler = self._handlers.get(request[1]) if type(request[1]) is str else None
        if handler is None or handler.verb != "call":
            raise _Refusal(
                NoSuchFunction(f"{type(self).__name__} has no @call {request[1]!r:.80}")
            )
        try:
            args, kwargs = handler.arguments.check(request[2], request[3])
        except InvalidValue as error:
            raise _Refusal(error) from None
        if handler.concurrent:
            return self._beside(call, handler, args, kwargs)
        return handler.function(self, *args, **kwargs)

    async def _take(self, message: object) -> None:
        if type(message) is not Cast:
            await self._inform(message)
            return
        request = message.request
        if type(request) is not tuple or len(request) != 4 or request[0] != REQUEST_TAG:
            await self.handle_cast(request)
            return
        handler = self._handlers.get(request[1]) if type(request[1]) is str else None
        if handler is None or handler.verb != "cast":
            self._drop("cast", request[1])
            return
        try:
            args, kwargs = handler.arguments.check(request[2], request[3])
        except InvalidValue as error:
            self._drop("cast", error)
            return
        await handler.function(self, *args, **kwargs)

    async def _inform(self, message: object) -> None:
        if message is _LOOK:
            return
        if type(message) is Exit and message.pid == self._parent:
            # Whoever it was started for is gone, so it goes too, trapping or not.
            self.stop(message.reason)
            return
        await self.handle_info(message)

    # ---- callers that give up

    def _withdraw(self) -> None:
        self._withdrawn = True
        self._task.cancel()

    def _forgiven(self) -> bool:
        # Whether the cancellation was a caller's, and nobody else wants the end.
        if self._withdrawn:
            self._withdrawn = False
            self._task.uncancel()
        return self._task.cancelling() == 0

    def _absorbed(self, call: Call, error: asyncio.CancelledError) -> bool:
        if not self._withdrawn and self._task.cancelling() == 0:
            # Something that the handler waited for was cancelled, not the handler.
            self._fail(call, error)
            return True
        return self._forgiven()

    # ---- answers

    def _fail(self, call: Call, error: BaseException) -> None:
        code, kind, trace = "error", type(error).__name__, ""
        if isinstance(error, _Refusal):
            error = error.error
            code, kind = error.code, ""
        else:
            trace = "".join(traceback.format_exception(error))[-TRACEBACK_CHARS_MAX:]
            _log.debug(
                "a call of %s failed",
                type(self).__name__,
                exc_info=error,
                extra={"event": "call_failed"},
            )
        call.fail(code, str(error)[:FAULT_CHARS_MAX], kind, trace)

    def _later(self, call: Call, value: object) -> None:
        if value is NO_REPLY:
            if call.on_cancel == self._withdraw:
                call.on_cancel = None
            return
        node = call.caller.node
        self._waiting[node] = self._waiting.get(node, 0) + 1
        call.on_cancel = None
        self._process.create_task(self._answer_later(call, value, node))

    async def _answer_later(self, call: Call, value: object, node: str) -> None:
        # One caller that does not read its answers must not keep the others waiting.
        try:
            while call.blocked:
                await call.wait_room()
            call.reply(value)
        except Exception as error:  # noqa: BLE001 - as in the loop
            self._fail(call, error)
        finally:
            self._waiting[node] -= 1
            if self._waiting[node] == 0:
                del self._waiting[node]

    def _crowded(self, call: Call) -> bool:
        node = call.caller.node
        if self._waiting.get(node, 0) < ANSWERS_WAITING_MAX:
            return False
        self._fail(
            call, _Refusal(Overloaded(f"{ANSWERS_WAITING_MAX} answers to {node} wait"))
        )
        return True

    async def _beside(
        self,
        call: Call,
        handler: Handler,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> object:
        if self._concurrent >= CONCURRENT_CALLS_MAX:
            raise _Refusal(
                Overloaded(
                    f"{type(self).__name__} runs {CONCURRENT_CALLS_MAX} calls already"
                )
            )
        self._concurrent += 1
        task = self._process.create_task(
            self._answer_beside(call, handler, args, kwargs)
        )
        call.on_cancel = task.cancel
        return NO_REPLY

    async def _answer_beside(
        self,
        call: Call,
        handler: Handler,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        try:
            value = await handler.function(self, *args, **kwargs)
            while call.blocked:
                await call.wait_room()
            call.reply(value)
        except asyncio.CancelledError as error:
            self._fail(call, error)
            raise
        except Exception as error:  # noqa: BLE001 - it is the caller's to see
            self._fail(call, error)
        finally:
            self._concurrent -= 1

    def _drop(self, kind: str, what: object) -> None:
        self.dropped += 1
        _log.debug(
            "%s dropped a %s: %.200r",
            type(self).__name__,
            kind,
            what,
            extra={"event": "message_unhandled"},
        )
