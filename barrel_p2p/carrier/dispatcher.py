"""Which room a frame is for: a table from kind to handler, filled once at boot.

A handler that raises ``WireError`` says that the peer broke a rule, and the channel
ends. Anything else is our own failure with one frame: counted, logged, and the next one
goes on, so that no message can stop a node from hearing the others.

Source: docs/reference/wire.md, "Kinds".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.errors import Conflict, WireError
from barrel_p2p.wire.frames import Frame
from barrel_p2p.wire.kinds import Kind, skip_unknown

if TYPE_CHECKING:
    from barrel_p2p.carrier.channel import Channel

__all__ = ["Dispatcher", "Handler"]

type Handler = Callable[[Channel, Frame], None]

_OWN = frozenset({Kind.SESSION, Kind.BYE})


class Dispatcher:
    """The table. One for all channels of a node.

    Args:
        complaints: Where a handler's failures go.

    Attributes:
        failed: Frames whose handler failed.
        skipped: Frames of unknown kinds that their senders allowed us to skip.
    """

    def __init__(self, complaints: Complaints | None = None) -> None:
        self._complaints = complaints or Complaints(logging.getLogger(__name__))
        self._handlers: dict[int, tuple[StreamRole, Handler]] = {}
        self.failed = 0
        self.skipped = 0

    def register(
        self, kinds: int | Iterable[int], handler: Handler, *, role: StreamRole
    ) -> None:
        """Hand frames of ``kinds`` that come on streams of ``role`` to ``handler``.

        Args:
            kinds: One kind or several, such as ``wire.kinds.MEMBERSHIP``.
            handler: Called with the channel and the frame, from the loop's callback.
            role: CONTROL, GOSSIP or DATA; elsewhere such a frame breaks a rule.

        Raises:
            Conflict: A kind has a handler, or is the channel's own. Nothing was added.
        """
        wanted = [kinds] if isinstance(kinds, int) else list(kinds)
        for kind in wanted:
            if kind in self._handlers or kind in _OWN:
                raise Conflict(f"frames of kind {kind} have a handler already")
        for kind in wanted:
            self._handlers[kind] = (role, handler)

    def dispatch(self, channel: Channel, role: int, frame: Frame) -> None:
        """Hand ``frame`` to whoever registered for its kind.

        Raises:
            WireError: It came on a stream of another role, its kind is unknown and may
                not be skipped, or its handler refused it.
        """
        found = self._handlers.get(frame.kind)
        if found is None:
            skip_unknown(frame, peer=channel.name)
            self.skipped += 1
            return
        expected, handler = found
        if role != expected:
            raise WireError(
                f"frame of kind {frame.kind} from {channel.name} on a stream of role"
                f" {role}; its place is a {expected.name.lower()} stream",
                peer=channel.name,
            )
        try:
            handler(channel, frame)
        except WireError:
            raise
        except Exception as error:  # noqa: BLE001 -- a handler is somebody else's code
            self.failed += 1
            text = f"the handler of frame kind {frame.kind} failed: {error!r}"
            self._complaints.add(channel.name, text, error=error)
