"""Who a message is for: a pid, a name on another node, or a name on this one.

Everything here is bound to the node that sends, which is told by an ``Origin``; pids
alone find theirs by themselves.
"""

from __future__ import annotations

from typing import Any

from barrel_p2p.core.names import At
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import NoProc
from barrel_p2p.runtime import calls
from barrel_p2p.runtime.switch import Origin, Switch, tell_later
from barrel_p2p.wire.terms import key_bytes

__all__ = ["At", "Destination", "call", "cast", "resolve", "send"]

type Destination = Pid | At | object
"""A pid, ``At(name, node)``, or a key term that names a process of the node itself."""


def resolve(switch: Switch, to: Destination) -> Pid | At:
    """The process that ``to`` names, or ``At`` where only another node knows.

    Raises:
        NoProc: ``to`` is a name, and nobody has it on this node.
        NotEncodable: ``to`` is no key term.
    """
    if type(to) is Pid:
        return to
    if type(to) is At:
        if to.node != switch.name:
            return to
        to = to.name
    box = switch.names.get(key_bytes(to))
    if box is None:
        raise NoProc(f"nobody has the name {to!r:.200} on {switch.name}")
    return switch.pid(box.id)


async def send(me: Origin, to: Destination, message: object) -> None:
    """Send ``message``; waits only for room, or for a channel to be opened.

    What is sent to a process that is gone, or to a name that nobody has on another
    node, is dropped. Messages to a name and messages to the pid behind it have no order
    among each other.

    Raises:
        NoProc: ``to`` is a name on this node, and nobody has it.
        NotEncodable: ``message`` has no form on the wire.
        PeerUnreachable: There is no way to the node.
    """
    await _tell(me, to, message, cast=False)


async def cast(me: Origin, to: Destination, request: object) -> None:
    """Send a request that wants no answer. Raises as ``send``."""
    await _tell(me, to, request, cast=True)


async def call(
    me: Origin, to: Destination, request: object, *, timeout: float | None = 5.0
) -> Any:
    """Ask ``to`` and wait for its answer. Cancelling it cancels the work there.

    Args:
        me: Who asks.
        to: Whom.
        request: What.
        timeout: Seconds, the time to open a channel included; None waits for ever.

    Raises:
        NoProc: Nobody is there, or has the name.
        CallTimeout: No answer in time.
        RemoteError: The handler raised.
        PeerUnreachable: There is no way to the node, or it was lost meanwhile.
    """
    target = to if type(to) is Pid else resolve(me.switch, to)
    if type(target) is Pid:
        return await calls.call(me, target, request, timeout)
    assert type(target) is At
    place, key = _place(target)
    reply = me.switch.ask_name(me.id, place, key, request, timeout)
    if reply is None:
        reply = await calls.ask_later(
            me,
            place,
            lambda left: me.switch.ask_name(me.id, place, key, request, left),
            timeout,
            key,
        )
    return await calls.answer_of(reply)


async def _tell(me: Origin, to: Destination, message: object, *, cast: bool) -> None:
    target = to if type(to) is Pid else resolve(me.switch, to)
    if type(target) is Pid:
        if not me.switch.tell(me.id, target, message, cast):
            await tell_later(me, target, message, cast)
        return
    assert type(target) is At
    place, key = _place(target)
    while not me.switch.tell_name(me.id, place, key, message, cast):
        await me.switch.way(me.id, place, key)


def _place(to: At) -> tuple[Pid, bytes]:
    # What stands for the name: its node, and the id 0, which chooses the stream.
    return Pid(to.node, 0, 0), key_bytes(to.name)
