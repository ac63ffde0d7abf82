"""Waiters and mailboxes for compiled callers."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum:
    WAITER_IDLE
    WAITER_WAITING       # a task is parked here
    WAITER_FIRED         # it will run; nothing else may wake it


cdef class Waiter:
    cdef readonly object loop
    cdef public object _asyncio_future_blocking
    cdef object callback             # the task's wake-up
    cdef object context              # and the context it runs in
    cdef object cancel_message
    cdef bint cancelled
    cdef int state

    # Whether the one who waits has no need to.
    cdef bint ready(self) noexcept
    # Wake through the loop.
    cdef int fire_soon(self) except -1
    # Take the wake-up; whoever took it must call resume() from a loop callback.
    cdef bint claim(self) noexcept
    cdef int resume(self) except -1
    # Wake through the loop after claim().
    cdef int resume_soon(self) except -1
    # Run the task, in its context.
    cdef int step(self) except -1
    # The task ran this long without a pause.
    cdef int held_loop(self, int64_t ms) except -1


cdef class Mailbox(Waiter):
    cdef readonly uint32_t limit
    cdef readonly uint32_t count
    cdef readonly bint full          # has reached the limit and not yet fallen to half
    cdef readonly bint closed
    cdef uint32_t head
    cdef uint32_t mask
    cdef uint32_t wanted             # wake when there are more than so many
    cdef uint32_t scanned            # messages that a selective receive has seen
    cdef list ring
    cdef object room                 # a future for those who wait for room

    # Queue message. Returns 1 when a parked task must be resumed, which the caller has
    # then claimed, or 0.
    cdef int put(self, object message) except -1
    cdef int grow(self) except -1
    cdef object remove(self, uint32_t index)
    cdef int fell(self) except -1
    # The bounds were crossed; subclasses tell whoever sends.
    cdef int filled(self) except -1
    cdef int drained(self) except -1
