"""Commands from this host: a Unix socket, one JSON object a line each way.

A request is answered by ``{"ok": ...}`` or ``{"error": ...}`` before the next one of
the same connection is looked at. Who closes a connection takes back what it waits for.
Who asks for events gets ``{"event": ...}`` after the answer, a line each, until one of
the two closes: that connection takes no more requests, and a reader that is slow is
told how many events it has missed. Nothing is called by a name that came over the
socket: ``requests.py`` is the whole list.

The socket's mode is 0600 from its first moment, its directory is the node's own, and
the kernel says who connects: this user or root, or nobody.

Bounded by ``REQUEST_BYTES_MAX``, ``ANSWER_BYTES_MAX``, ``CONNECTIONS_MAX`` and
``IDLE_S``.

Source: unix(7), SO_PEERCRED.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import stat
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, cast

from barrel_p2p.errors import BarrelError, Busy, InvalidValue, StorageError
from barrel_p2p.node.failures import describe
from barrel_p2p.node.requests import Request, read_request

__all__ = [
    "ANSWER_BYTES_MAX",
    "CONNECTIONS_MAX",
    "IDLE_S",
    "REQUEST_BYTES_MAX",
    "Control",
    "is_allowed",
    "open_control",
]

REQUEST_BYTES_MAX: Final = 1 << 20
"""Bytes of one request, without its newline."""

ANSWER_BYTES_MAX: Final = 1 << 26
"""Bytes of one answer, without its newline."""

CONNECTIONS_MAX: Final = 32
"""Connections at a time. Another one is told ``would_block`` and closed."""

IDLE_S: Final = 60.0
"""Seconds without a whole request after which a connection is closed."""

_BACKLOG: Final = 128
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid
_UNREAD_BYTES: Final = 65_536

_log = logging.getLogger("barrel_p2p.node")

type Perform = Callable[[Request], Awaitable[object]]
"""Answers a request. Of an asynchronous generator the first item is the answer, and the
others are events."""

type _Answer = bytes | AsyncGenerator[bytes]


def is_allowed(uid: int) -> bool:
    """Whether a process of user ``uid`` may command this one."""
    return uid in (os.geteuid(), 0)


@asynccontextmanager
async def open_control(path: Path, perform: Perform) -> AsyncIterator[Control]:
    """Take commands at ``path`` until the context is left.

    Args:
        path: In a private directory that this process has locked, so that a socket
            which is there already is left from a process that was killed.
        perform: Does what a request says.

    Raises:
        StorageError: Something else is at ``path``, or it cannot be bound.
    """
    control = Control(perform)
    with _bound(path) as listener:
        server = await asyncio.get_running_loop().create_unix_server(
            control.conversation, sock=listener
        )
        try:
            yield control
        finally:
            server.close()
            control.close()


class Control:
    """The conversations of one socket.

    Args:
        perform: Does what a request says.
    """

    def __init__(self, perform: Perform) -> None:
        self._perform = perform
        self._open: set[_Conversation] = set()

    def __len__(self) -> int:
        return len(self._open)

    def conversation(self) -> asyncio.Protocol:
        """For the next connection."""
        return _Conversation(self._answer, self._open)

    def close(self) -> None:
        """End all conversations; what is being done for them is cancelled."""
        for conversation in list(self._open):
            conversation.end()

    async def _answer(self, line: bytes) -> _Answer:
        try:
            done = await self._perform(read_request(line))
            if isinstance(done, AsyncGenerator):
                return _lines(done)
            return _encoded("ok", done)
        except Exception as error:  # noqa: BLE001 -- somebody waits for an answer
            return _failure(error)


async def _lines(items: AsyncGenerator[object]) -> AsyncGenerator[bytes]:
    kind = "ok"
    async with contextlib.aclosing(items):
        try:
            async for item in items:
                yield _encoded(kind, item)
                kind = "event"
        except Exception as error:  # noqa: BLE001 -- somebody waits for an answer
            yield _failure(error)


def _encoded(kind: str, what: object) -> bytes:
    encoded = json.dumps({kind: what}, separators=(",", ":")).encode()
    if len(encoded) > ANSWER_BYTES_MAX:
        return _refusal(
            InvalidValue(
                f"an answer of {len(encoded)} bytes exceeds "
                f"ANSWER_BYTES_MAX={ANSWER_BYTES_MAX}"
            )
        )
    return encoded


def _failure(error: Exception) -> bytes:
    if not isinstance(error, BarrelError):
        _log.error(
            "a command failed", exc_info=error, extra={"event": "command_failed"}
        )
    return _refusal(error)


class _Conversation(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(
        self,
        answer: Callable[[bytes], Awaitable[_Answer]],
        others: set[_Conversation],
    ) -> None:
        self._answer = answer
        self._others = others
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._reads = asyncio.Event()  # Whether the other side takes its answers.
        self._reads.set()
        self._transport: asyncio.Transport | None = None
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, made: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", made)
        uid = _uid_of(transport.get_extra_info("socket"))
        if not is_allowed(uid):
            _log.warning("user %d may not command this node", uid)
            transport.abort()
            return
        if len(self._others) >= CONNECTIONS_MAX:
            busy = Busy(f"CONNECTIONS_MAX={CONNECTIONS_MAX} programs are connected")
            transport.write(_refusal(busy) + b"\n")
            transport.close()
            return
        transport.set_write_buffer_limits(high=_UNREAD_BYTES)
        self._transport = transport
        self._others.add(self)
        self._wait()

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        self._buffer += data
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._others.discard(self)
        self._cancel()
        if self._idle is not None:
            self._idle.cancel()

    def pause_writing(self) -> None:
        self._reads.clear()

    def resume_writing(self) -> None:
        self._reads.set()
        self._next()

    def end(self) -> None:
        """Close the connection once what was answered has been sent."""
        self._cancel()
        if self._transport is not None:
            self._transport.close()

    def _next(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._task is None and self._reads.is_set():
            end = self._buffer.find(b"\n", 0, REQUEST_BYTES_MAX + 1)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                self._begin(line)
                return
        # What waits behind an answer is bounded as a request is.
        if len(self._buffer) > REQUEST_BYTES_MAX:
            self._buffer.clear()
            excess = InvalidValue(
                f"a request exceeds REQUEST_BYTES_MAX={REQUEST_BYTES_MAX}"
            )
            transport.write(_refusal(excess) + b"\n")
            self.end()

    def _begin(self, line: bytes) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._task = asyncio.get_running_loop().create_task(self._run(line))

    async def _run(self, line: bytes) -> None:
        answer = await self._answer(line)
        if not isinstance(answer, bytes):
            await self._stream(answer)
            return
        self._task = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer + b"\n")
            self._wait()
            self._next()

    async def _stream(self, lines: AsyncGenerator[bytes]) -> None:
        async with contextlib.aclosing(lines):
            async for line in lines:
                if self._transport is None or self._transport.is_closing():
                    return
                self._transport.write(line + b"\n")
                await self._reads.wait()
        self._task = None
        self.end()

    def _wait(self) -> None:
        if self._transport is not None:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(IDLE_S, self._transport.abort)

    def _cancel(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()


def _refusal(error: BaseException) -> bytes:
    return json.dumps({"error": describe(error)}, separators=(",", ":")).encode()


def _uid_of(connection: socket.socket) -> int:
    found = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
    )
    uid: int = _CREDENTIALS.unpack(found)[1]
    return uid


@contextlib.contextmanager
def _bound(path: Path) -> Iterator[socket.socket]:
    """A listening socket at ``path``, which is gone again at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.setblocking(False)
        try:
            _clear(path)
            # Linux gives the file the mode of the socket, so it is never another one.
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(os.fspath(path))
            listener.listen(_BACKLOG)
            ours = path.lstat()
        except OSError as error:
            raise StorageError(
                f"cannot take commands at {path}: {error.strerror}"
            ) from error
        try:
            yield listener
        finally:
            with contextlib.suppress(OSError):
                if os.path.samestat(path.lstat(), ours):
                    path.unlink()


def _clear(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StorageError(
            f"{path} is no socket, so it was not made by a node",
            hint="move it away",
        )
    path.unlink()
