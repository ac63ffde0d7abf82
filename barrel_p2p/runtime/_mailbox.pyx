# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
"""A process's queue, and the one task that may be parked on it.

Messages stand in a ring that doubles. A full mailbox still takes what arrives (bounding
the senders is their side's task, see ``_switch.pyx``), and says when it filled and when
it has fallen to half.

A ``Waiter`` is the least that asyncio's tasks accept as a future. It is private: what
users await is always a coroutine, because ``asyncio.isfuture`` would otherwise take it
for a real one.

Types: ``_mailbox.pyi``; model: ``tests/models/mailbox.py``.
"""

from cpython.list cimport PyList_GET_ITEM, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint32_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from asyncio import CancelledError

from barrel_p2p.errors import InvalidValue, NoProc

cdef extern from "Python.h":
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    int PyObject_IsInstance(object inst, object cls) except -1

cdef enum:
    RING_MIN = 16
    SLOW_NS = 100_000_000    # a task that runs this long without a pause is named

LIMIT_MAX = 1 << 24


cdef inline int64_t monotonic_ns() noexcept:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1_000_000_000 + t.tv_nsec


class _Empty:
    """The type of ``EMPTY``."""

    def __repr__(self):
        return "EMPTY"


EMPTY = _Empty()
cdef object _EMPTY = EMPTY


cdef class Waiter:
    """Parks one task and wakes it, from a loop callback without passing the loop again.

    ``await waiter`` returns at once when ``ready``, else when it is fired, and then only
    says: look again.
    """

    def __cinit__(self, loop, *args, **kwargs):
        self.loop = loop

    cdef bint ready(self) noexcept:
        return False

    def __await__(self):
        return self

    def __next__(self):
        if self.state != WAITER_FIRED and not self.ready():
            self.state = WAITER_WAITING
            self._asyncio_future_blocking = True
            return self
        self.state = WAITER_IDLE
        raise StopIteration

    def get_loop(self):
        """For the task."""
        return self.loop

    def add_done_callback(self, callback, *, context=None):
        """For the task: how to wake it."""
        self.callback = callback
        self.context = context

    def result(self):
        """For the task: nothing, or that it was cancelled."""
        if self.cancelled:
            self.cancelled = False
            self.state = WAITER_IDLE
            if self.cancel_message is not None:
                raise CancelledError(self.cancel_message)
            raise CancelledError

    def cancel(self, msg=None):
        """For the task that is cancelled while it is parked here."""
        if self.state != WAITER_WAITING:
            return False
        self.cancelled = True
        self.cancel_message = msg
        self.fire_soon()
        return True

    cdef bint claim(self) noexcept:
        if self.state != WAITER_WAITING:
            return False
        self.state = WAITER_FIRED
        return True

    cdef int fire_soon(self) except -1:
        if self.claim():
            self.resume_soon()
        return 0

    cdef int resume_soon(self) except -1:
        cdef object context = self.context
        self.context = None
        self.loop.call_soon(self._step, context=context)
        return 0

    cdef int resume(self) except -1:
        cdef object context = self.context
        self.context = None
        PyContext_Enter(context)
        try:
            self.step()
        finally:
            PyContext_Exit(context)
        return 0

    def _step(self):
        self.step()

    cdef int step(self) except -1:
        cdef object callback = self.callback
        cdef int64_t started_ns = monotonic_ns()
        cdef int64_t took_ns
        self.callback = None
        callback(self)
        took_ns = monotonic_ns() - started_ns
        if took_ns > SLOW_NS:
            self.held_loop(took_ns // 1_000_000)
        return 0

    cdef int held_loop(self, int64_t ms) except -1:
        return 0


cdef class Mailbox(Waiter):
    """Messages for one process, oldest first.

    Args:
        loop: The event loop of the process.
        limit: Messages at which it is full, 1 to ``LIMIT_MAX``.

    Raises:
        InvalidValue: ``limit`` is out of range.
    """

    def __cinit__(self, loop, limit, *args):
        if type(limit) is not int or not 1 <= limit <= LIMIT_MAX:
            raise InvalidValue(f"limit={limit!r} is not an integer of 1 to {LIMIT_MAX}")
        self.limit = limit
        self.mask = RING_MIN - 1
        self.ring = [None] * RING_MIN

    def __len__(self):
        return self.count

    def __next__(self):
        if self.closed and self.count == 0:
            # Whoever waits here would be told to look again for ever.
            self.state = WAITER_IDLE
            raise NoProc("the mailbox is closed: its process has ended")
        if self.state != WAITER_FIRED and not self.ready():
            self.state = WAITER_WAITING
            self._asyncio_future_blocking = True
            return self
        self.state = WAITER_IDLE
        raise StopIteration

    cdef bint ready(self) noexcept:
        return self.count > self.wanted or self.closed

    cdef int put(self, object message) except -1:
        if self.closed:
            return 0
        if self.count > self.mask:
            self.grow()
        Py_INCREF(message)
        # The slot holds None, which needs no release: it is immortal.
        PyList_SET_ITEM(self.ring, (self.head + self.count) & self.mask, message)
        self.count += 1
        if self.count >= self.limit and not self.full:
            self.full = True
            self.filled()
        return self.count > self.wanted and self.claim()

    cdef int grow(self) except -1:
        cdef uint32_t size = self.mask + 1
        if size > LIMIT_MAX:
            raise MemoryError(f"a mailbox holds {size} messages")
        self.ring = (
            self.ring[self.head:] + self.ring[:self.head] + [None] * <Py_ssize_t>size
        )
        self.head = 0
        self.mask = 2 * size - 1
        return 0

    def offer(self, message):
        """Queue ``message`` and wake the process through the loop."""
        if self.put(message):
            self.resume_soon()

    def offer_first(self, message):
        """Queue ``message`` before all that waits: what comes after it depends on it."""
        if self.closed:
            return
        if self.count > self.mask:
            self.grow()
        self.head = (self.head - 1) & self.mask
        Py_INCREF(message)
        PyList_SET_ITEM(self.ring, self.head, message)
        self.count += 1
        self.wanted = 0
        self.scanned = 0
        if self.count >= self.limit and not self.full:
            self.full = True
            self.filled()
        self.fire_soon()

    def take(self):
        """Return the oldest message, or ``EMPTY``."""
        cdef object message
        if self.count == 0:
            return _EMPTY
        message = <object>PyList_GET_ITEM(self.ring, self.head)
        self.ring[self.head] = None
        self.head = (self.head + 1) & self.mask
        self.count -= 1
        self.wanted = 0
        self.scanned = 0
        if self.full and 2 * self.count <= self.limit:
            self.fell()
        return message

    def drain(self):
        """Return all messages, oldest first, as a list."""
        cdef list found = []
        cdef uint32_t i
        for i in range(self.count):
            found.append(<object>PyList_GET_ITEM(self.ring, (self.head + i) & self.mask))
            self.ring[(self.head + i) & self.mask] = None
        self.head = 0
        self.count = 0
        self.wanted = 0
        self.scanned = 0
        if self.full:
            self.fell()
        return found

    def find(self, match, again=False):
        """Return and remove the oldest message that matches, or ``EMPTY``.

        Args:
            match: A class, whose instances match; or a predicate; or any other value,
                which matches tuples that have it in slot 0.
            again: Look only at messages that came after the last ``find``.

        Raises:
            Whatever the predicate raises. The mailbox is as it was.
        """
        cdef uint32_t i = self.scanned if again else 0
        cdef int kind = 0 if isinstance(match, type) else 1 if callable(match) else 2
        cdef object message
        cdef bint found
        while i < self.count:
            message = <object>PyList_GET_ITEM(self.ring, (self.head + i) & self.mask)
            if kind == 0:
                found = PyObject_IsInstance(message, match)
            elif kind == 1:
                found = match(message)
            else:
                found = (
                    type(message) is tuple
                    and len(<tuple>message) > 0
                    and (<tuple>message)[0] == match
                )
            if found and i < self.count:
                return self.remove(i)
            i += 1
        self.scanned = self.wanted = self.count
        return _EMPTY

    def discard(self, match):
        """Remove the oldest message for which ``match(message)`` holds; whether one did.

        A selective receive that is parked misses nothing by it.
        """
        cdef uint32_t i = 0
        while i < self.count:
            if match(<object>PyList_GET_ITEM(self.ring, (self.head + i) & self.mask)):
                self.remove(i)
                return True
            i += 1
        return False

    cdef object remove(self, uint32_t index):
        cdef list ring = self.ring
        cdef object message = ring[(self.head + index) & self.mask]
        while index > 0:
            ring[(self.head + index) & self.mask] = ring[(self.head + index - 1) & self.mask]
            index -= 1
        ring[self.head] = None
        self.head = (self.head + 1) & self.mask
        self.count -= 1
        self.wanted = 0
        self.scanned = 0
        if self.full and 2 * self.count <= self.limit:
            self.fell()
        return message

    def room_future(self):
        """A future that is done when the mailbox is no longer full, or is closed."""
        if self.room is None or self.room.done():
            self.room = self.loop.create_future()
            if not self.full or self.closed:
                self.room.set_result(None)
        return self.room

    def close(self):
        """Take nothing more; return what was never received, oldest first."""
        cdef list left = self.drain()
        self.closed = True
        if self.room is not None and not self.room.done():
            self.room.set_result(None)
        self.fire_soon()
        return left

    cdef int fell(self) except -1:
        self.full = False
        if self.room is not None and not self.room.done():
            self.room.set_result(None)
        self.drained()
        return 0

    cdef int filled(self) except -1:
        return 0

    cdef int drained(self) except -1:
        return 0
