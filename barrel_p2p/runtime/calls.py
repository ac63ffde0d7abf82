"""Calls: a request, an answer, a deadline, and the word that nobody waits any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import (
    BarrelError,
    CallTimeout,
    InvalidValue,
    NoProc,
    NoSuchFunction,
    Overloaded,
    PeerUnreachable,
    RemoteError,
)
from barrel_p2p.runtime.switch import Origin, Reply

__all__ = ["answer_of", "ask_later", "call", "fault_of"]

_LEFT_MIN_S: Final = 0.001

_BY_CODE: dict[str, type[BarrelError]] = {
    kind.code: kind
    for kind in (
        NoProc,
        NoSuchFunction,
        Overloaded,
        InvalidValue,
        CallTimeout,
        PeerUnreachable,  # Whoever was asked passed it on, and did not get there.
    )
}


async def call(
    me: Origin, pid: Pid, request: object, timeout: float | None = 5.0
) -> Any:
    """Ask ``pid`` and wait for its answer. Cancelling it cancels the work there.

    Raises:
        As ``Pid.call``.
    """
    reply = me.switch.ask(me.id, pid, request, timeout)
    if reply is None:
        reply = await ask_later(
            me, pid, lambda left: me.switch.ask(me.id, pid, request, left), timeout
        )
    return await answer_of(reply)


async def answer_of(reply: Reply) -> Any:
    """Wait for the answer of a call that was sent, and take it back when cancelled."""
    try:
        while not reply.done:
            await reply
    except asyncio.CancelledError:
        reply.abandon()
        raise
    return reply.outcome()


async def ask_later(
    me: Origin,
    place: Pid,
    ask: Callable[[float | None], Reply | None],
    timeout: float | None,
    key: bytes | None = None,
) -> Reply:
    """Send a call as soon as there is a way and room. That time is the call's own.

    Args:
        me: Who asks.
        place: A pid of the node that is asked, which chooses the stream.
        ask: Sends it, if there is room, with the seconds that are left.
        timeout: Seconds for all; None for ever.
        key: The ``key_bytes`` of the name that is asked, if it is a name.

    Raises:
        CallTimeout: There was no way in time.
        PeerUnreachable: There is none.
    """
    now = asyncio.get_running_loop().time
    until = None if timeout is None else now() + timeout
    try:
        async with asyncio.timeout(timeout):
            while True:
                await me.switch.way(me.id, place, key)
                left = None if until is None else max(until - now(), _LEFT_MIN_S)
                reply = ask(left)
                if reply is not None:
                    return reply
    except TimeoutError as error:
        if isinstance(error, BarrelError):
            raise
        raise CallTimeout(
            f"no way to {place.node} within {timeout:g} s", peer=place.node
        ) from None


def fault_of(term: object, peer: str) -> BarrelError:
    """The exception for the body of an ERROR frame: ``(code, text, type, traceback)``.

    Only the codes of a fixed list become classes of their own; anything else, also what
    has another shape, is a ``RemoteError``.
    """
    parts = term if isinstance(term, tuple) else ()
    code, text, kind, traceback = (
        part if isinstance(part, str) else "" for part in (*parts, "", "", "", "")[:4]
    )
    known = _BY_CODE.get(code)
    if known is not None:
        return known(f"{text} (on {peer})", peer=peer)
    error = RemoteError(
        f"{kind or code or 'error'} on {peer}: {text}",
        remote_type=kind,
        remote_traceback=traceback,
        peer=peer,
    )
    if traceback:
        error.add_note(f"--- traceback on {peer} ---\n{traceback}")
    return error
