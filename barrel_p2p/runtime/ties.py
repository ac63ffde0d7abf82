"""Where the machine of links and monitors meets processes, lines and dials."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol, assert_never

from barrel_p2p.core.events import Exit
from barrel_p2p.core.names import At
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import BarrelError, Busy, NotConnected
from barrel_p2p.runtime.messages import (
    ExitFrame,
    MonitorNameFrame,
    TieFrame,
    decode,
    encode,
    reason_term,
)
from barrel_p2p.runtime.signals import Signals
from barrel_p2p.runtime.switch import Line, Origin, Switch
from barrel_p2p.runtime.tie_events import (
    ChannelUp,
    DemonitorAsked,
    Dial,
    Effect,
    Ended,
    Event,
    LinkAsked,
    MonitorAsked,
    NodeLost,
    Received,
    SendTie,
    Signal,
    TellDown,
    UnlinkAsked,
)
from barrel_p2p.wire.frames import Frame
from barrel_p2p.wire.terms import key_bytes

if TYPE_CHECKING:
    from barrel_p2p.runtime.process import Process

__all__ = ["TieChannel", "Ties", "send_exit", "signal_process"]

_log = logging.getLogger("barrel_p2p.runtime")


class TieChannel(Protocol):
    """What a frame came over."""

    @property
    def name(self) -> str:
        """The peer's node name."""
        ...

    @property
    def creation(self) -> int:
        """The peer's creation."""
        ...


class Ties:
    """Runs ``Signals`` for one node.

    Args:
        switch: The node's.
    """

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._machine = Signals(
            switch.name, switch.creation, alive=self._alive, named=self._named
        )
        self._queue: deque[Event] = deque()
        self._running = False
        self._dials: dict[str, asyncio.Task[None]] = {}

    def link(self, me: int, to: Pid) -> None:
        """Process ``me`` links itself to ``to``."""
        self._feed(LinkAsked(me, to, self._creation_of(to.node)))

    def unlink(self, me: int, to: Pid) -> None:
        """Process ``me`` undoes that."""
        self._feed(UnlinkAsked(me, to))

    def monitor(self, me: int, ref: int, target: Pid | At) -> None:
        """Process ``me`` monitors ``target`` under a new ``ref``.

        Raises:
            NotEncodable: The name in an ``At`` is no key term.
        """
        name = key_bytes(target.name) if isinstance(target, At) else b""
        creation = self._creation_of(target.node)
        self._feed(MonitorAsked(me, ref, target, name, creation))

    def demonitor(self, me: int, ref: int) -> None:
        """Process ``me`` undoes that."""
        self._feed(DemonitorAsked(me, ref))

    def ended(self, me: int, reason: object) -> None:
        """Process ``me`` is no more."""
        self._feed(Ended(me, reason_term(reason)))

    def handle_frame(self, channel: TieChannel, frame: Frame) -> None:
        """Take a frame of ``TIE_KINDS``.

        Raises:
            WireError: It breaks a rule.
        """
        line = self._switch.lines.get(channel.name)
        if line is None or line.channel is not channel:
            return  # Its ties were lost with it.
        message = decode(
            frame, peer=line.name, creation=line.creation, here=self._switch.name
        )
        self._feed(Received(message))

    def node_up(self, node: str) -> None:
        """There is a line to ``node``: send what waited for it."""
        creation = self._creation_of(node)
        if creation is not None:
            self._feed(ChannelUp(node, creation))

    def node_lost(self, node: str) -> None:
        """The line to ``node`` is gone, with all that was tied over it."""
        self._feed(NodeLost(node))

    async def stop(self) -> None:
        """End the dials that are under way."""
        dials = list(self._dials.values())
        for task in dials:
            task.cancel()
        if dials:
            await asyncio.wait(dials)

    def _feed(self, event: Event) -> None:
        # An effect may end a process or a channel, which is an event again.
        self._queue.append(event)
        if self._running:
            return
        self._running = True
        now_ms = int(self._switch.loop.time() * 1000)
        try:
            while self._queue:
                for effect in self._machine.handle(
                    self._queue.popleft(), now_ms=now_ms
                ):
                    self._perform(effect)
        finally:
            self._running = False

    def _perform(self, effect: Effect) -> None:
        match effect:
            case TellDown(to, down):
                box = self._switch.box_of(to)
                if box is not None:
                    box.offer(down)
            case Signal(to, sender, reason, linked):
                box = self._switch.box_of(to)
                if box is not None:
                    signal_process(box.owner, sender, reason, linked=linked)
            case SendTie(node, message):
                self._send(node, message)
            case Dial(node):
                if node not in self._dials:
                    self._dials[node] = self._switch.loop.create_task(
                        self._dial(node), context=contextvars.Context()
                    )
            case _:
                assert_never(effect)

    def _send(self, node: str, message: TieFrame) -> None:
        line = self._switch.lines.get(node)
        if line is None:
            self._queue.append(NodeLost(node))
            return
        try:
            _send_frame(line, message)
        except Busy as error:
            # It must not be lost, and what it is about will not wait.
            _log.warning(
                "the channel to %s ends: a signal found no room: %s",
                node,
                error,
                extra={"event": "signal_lost", "peer": node},
            )
            line.channel.close("busy", text="a signal found no room")
            self._queue.append(NodeLost(node))
        except BarrelError:
            self._queue.append(NodeLost(node))

    async def _dial(self, node: str) -> None:
        dial = self._switch.dial
        try:
            if dial is not None and node not in self._switch.lines:
                await dial(node)
        except Exception as error:  # noqa: BLE001 -- however it failed, it did
            _log.debug("no channel to %s: %r", node, error)
        finally:
            self._dials.pop(node, None)
        if node in self._switch.lines:
            self.node_up(node)
        else:
            self.node_lost(node)

    def _creation_of(self, node: str) -> int | None:
        line = self._switch.lines.get(node)
        return None if line is None else line.creation

    def _alive(self, process: int) -> bool:
        return self._switch.box_of(process) is not None

    def _named(self, key: bytes) -> int | None:
        box = self._switch.names.get(key)
        return None if box is None else box.id


def signal_process(
    process: Process, sender: Pid, reason: object, *, linked: bool
) -> None:
    """Give a process of this node an exit signal.

    Args:
        process: For whom.
        sender: Whose.
        reason: A term. ``kill`` cannot be trapped, unless it comes over a link.
        linked: Whether ``sender`` ended and was linked to it.
    """
    if reason == "kill" and not linked:
        process._kill()
    elif process.trap_exit:
        process._box.offer(Exit(sender, reason))
    elif reason != "normal" or (sender == process.pid and not linked):
        process._end(reason)


async def send_exit(me: Origin, pid: Pid, reason: object) -> None:
    """The work of ``pid.exit(reason)``.

    Raises:
        PeerUnreachable: There is no channel to the node, and none can be opened.
        Busy: There is no room for the signal.
    """
    switch = me.switch
    sender = switch.pid(me.id)
    reason = reason_term(reason)
    if pid.node == switch.name:
        box = switch.box_of(pid.id) if pid.creation == switch.creation else None
        if box is not None:
            signal_process(box.owner, sender, reason, linked=False)
        return
    if pid.node not in switch.lines and switch.dial is not None:
        await switch.dial(pid.node)
    line = switch.lines.get(pid.node)
    if line is None:
        raise NotConnected(f"there is no channel to {pid.node}", peer=pid.node)
    if line.creation == pid.creation:
        _send_frame(line, ExitFrame(sender, pid, False, reason))


def _send_frame(line: Line, message: TieFrame) -> None:
    kind, flags, body = encode(message)
    # A name has no process yet: 0, as for messages to names.
    to = 0 if isinstance(message, MonitorNameFrame) else message.to.id
    line.send_frame(message.sender.id, to, kind, body, flags)
