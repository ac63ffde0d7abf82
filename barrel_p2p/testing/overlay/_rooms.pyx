# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
"""The path of every event: a message's arrival, a timer, what a machine orders for it.

Does what ``runtime.runner.Runner`` does, on virtual time: one input at a time, effects
in order, and what an effect brings back waits until the others are performed.

Types: ``_rooms.pyi``; model: ``tests/models/rooms.py``.
"""

from libc.stdint cimport int64_t
cimport cython

from barrel_p2p.testing.overlay._schedule cimport Schedule, Task

from barrel_p2p.core.effects import (
    CancelTimer,
    Dial,
    HangUp,
    Persist,
    Publish,
    Send,
    SetTimer,
)
from barrel_p2p.core.inputs import Persisted, Received, TimerFired
from barrel_p2p.errors import InvalidValue
from barrel_p2p.testing.overlay.trace import KIND_TIMER as _KIND_TIMER

cdef enum:
    ROOMS_LIMIT = 2
    STATE_DOWN = 0
    STATE_UP = 1
    STATE_HELD = 2

ROOMS_MAX = ROOMS_LIMIT
DOWN = STATE_DOWN
UP = STATE_UP
HELD = STATE_HELD

# Compared and called a million times a run: C variables, not names of the module.
cdef object _send = Send
cdef object _set_timer = SetTimer
cdef object _cancel_timer = CancelTimer
cdef object _publish = Publish
cdef object _received = Received
cdef object _timer_fired = TimerFired


@cython.final
cdef class End:
    """One end of a channel.

    Args:
        node: Whose end it is.
        peer: The node at the other end.
        latency_ms: How long a message takes to the other end.

    Attributes:
        name: The peer's name.
        twin: The other end; whoever makes both sets it.
        state: ``DOWN``, ``UP`` or ``HELD``: its node is paused, what arrives waits.
        last_ms: When the last message from here arrives there.
        slow: Messages from here need more than the common case.
        cut_ms: Since when nothing passes from here to there; -1: it does.
        kept: What was sent since then, to be repeated when the path is whole again.
    """

    # What every message needs comes first: most of its cost is memory that is cold.
    cdef public End twin
    cdef readonly int64_t latency_ms
    cdef public int64_t last_ms
    cdef public int state
    cdef public bint slow
    cdef readonly object name
    cdef Room _first         # the rooms of the node, in the life in which this began
    cdef Room _second
    cdef readonly object node
    cdef readonly object peer
    cdef public int64_t cut_ms
    cdef public list kept

    def __cinit__(self, node, peer, int64_t latency_ms):
        self.node = node
        self.peer = peer
        self.name = peer.name
        self.state = STATE_UP
        self.latency_ms = latency_ms
        self.cut_ms = -1
        self.kept = []
        self._first, self._second = (*node.rooms, None, None)[:ROOMS_MAX]


@cython.final
cdef class Receiver(Task):
    """Hands a message to a room at an end of a channel.

    Args:
        index: Of the room, below ``ROOMS_MAX``.
        received: Message class to how many arrived, a ``defaultdict``; kept here.
        not_up: Takes an end that cannot take a message now, this, and the message.

    Raises:
        InvalidValue: A node has no such room.
    """

    cdef bint _is_second
    cdef object _counts
    cdef object _not_up

    def __cinit__(self, Py_ssize_t index, received, not_up):
        if not 0 <= index < ROOMS_LIMIT:
            raise InvalidValue(f"room {index}: a node has up to ROOMS_MAX={ROOMS_MAX}")
        self._is_second = index == 1
        self._counts = received
        self._not_up = not_up

    cdef int run(self, object a, object b) except -1:
        cdef End end = <End?>a
        cdef Room room
        if end.state != STATE_UP:
            self._not_up(end, self, b)
            return 0
        kind = type(b)
        self._counts[kind] += 1
        room = end._second if self._is_second else end._first
        if room is None:
            raise TypeError(f"{end.node.name} has no room for {b!r}")
        return room.tell(_received(end.name, b))


@cython.final
cdef class Room(Task):
    """One machine of one node, in one of the node's lives.

    The agenda calls it with what it was given for a timer.

    Args:
        node: Where it runs.
        machine: What decides.
        codec: Of its messages.
        publish: Hears every ``Publish``, in order.
        deliver: What the agenda calls with an end and a message for this room there.
        first: What the machine is told when its node starts; None is nothing.

    Attributes:
        current: The input that the machine is being told.
        unsent: Messages that found no channel.
    """

    cdef readonly object node
    cdef readonly object machine
    cdef readonly object codec
    cdef readonly object publish
    cdef readonly object first
    cdef readonly object current
    cdef readonly int64_t unsent
    cdef Schedule _schedule
    cdef int64_t _origin_ms
    cdef dict _ends
    cdef dict _timers        # key -> what the agenda was given for it
    cdef object _handle
    cdef object _deliver
    cdef list _waiting       # inputs; None until one has to wait
    cdef bint _busy

    def __cinit__(self, node, machine, codec, publish, deliver, first=None):
        self.node = node
        self.machine = machine
        self.codec = codec
        self.publish = publish
        self.first = first
        self._schedule = node.world.schedule
        self._origin_ms = node.origin_ms
        self._ends = node.ends
        self._timers = {}
        self._handle = machine.handle
        self._deliver = deliver

    def feed(self, event):
        """Tell the machine ``event``, now or after what it is being told already."""
        self.tell(event)

    def stop(self):
        """Forget the timers and whatever waits."""
        self._timers.clear()
        self._waiting = None

    cdef int tell(self, object event) except -1:
        if self._busy:
            if self._waiting is None:
                self._waiting = []
            self._waiting.append(event)
            return 0
        self._busy = True
        while True:
            self.current = event
            effects = self._handle(event, now_ms=self._schedule.now_ms + self._origin_ms)
            if effects:
                self.perform(effects)
            if not self._waiting:
                break
            event = self._waiting.pop(0)
        self._busy = False
        return 0

    cdef int perform(self, list effects) except -1:
        for effect in effects:
            kind = type(effect)
            if kind is _send:
                self.send(effect)
            elif kind is _set_timer:
                self.set_timer(effect)
            elif kind is _cancel_timer:
                self._timers.pop(effect.key, None)
            elif kind is _publish:
                self.publish(effect.event)
            else:
                self.perform_rare(effect)
        return 0

    cdef int send(self, object effect) except -1:
        cdef End end = self._ends.get(effect.to)
        cdef int64_t when_ms
        if end is None:
            self.unsent += 1
        elif end.slow:
            self.node.world.links.transmit(end, self._deliver, effect.message)
        else:
            # What ``Links.transmit`` does without faults: most events begin here.
            when_ms = max(self._schedule.now_ms + end.latency_ms, end.last_ms)
            end.last_ms = when_ms
            self._schedule.add(when_ms, self._deliver, end.twin, effect.message)
        return 0

    cdef int set_timer(self, object effect) except -1:
        cdef int64_t delay_ms = effect.delay_ms
        cdef tuple entry = (effect.key,)
        self._timers[effect.key] = entry
        return self._schedule.add(
            self._schedule.now_ms + max(0, delay_ms), self, entry, None
        )

    cdef int perform_rare(self, object effect) except -1:
        node = self.node
        if isinstance(effect, Dial):
            node.dial(self, effect)
        elif isinstance(effect, HangUp):
            end = node.ends.get(effect.node)
            if end is not None:
                node.world.links.close(end, effect.reason)
        elif isinstance(effect, Persist):
            node.disk[effect.key] = effect.value
            at_ms = self._schedule.now_ms + 1
            self._schedule.add(at_ms, self._persisted, effect.key, None)
        else:
            raise TypeError(f"not an effect: {effect!r}")
        return 0

    def _persisted(self, key, _):
        if self in self.node.rooms:
            self.tell(Persisted(key))

    cdef int run(self, object a, object b) except -1:
        cdef tuple entry = <tuple?>a
        key = entry[0]
        # Another entry, or none: the timer was set again, cancelled, or its node died.
        if self._timers.get(key) is not entry:
            return 0
        node = self.node
        if node.is_paused:
            node.deferred.append((self, entry, None))
            return 0
        del self._timers[key]
        trace = node.world.trace
        if trace is not None:
            trace.add(self._schedule.now_ms, node.index, node.index, _KIND_TIMER)
        return self.tell(_timer_fired(key))
