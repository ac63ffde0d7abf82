"""The message path of one node: processes here, lines to the nodes beyond."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from barrel_p2p.carrier._inbound cimport FrameSink, InboundStream
from barrel_p2p.core._terms cimport Pid
from barrel_p2p.quic._pump cimport Pump, RawStream, bp_engine_t, bp_hot_t
from barrel_p2p.runtime._mailbox cimport Mailbox, Waiter
from barrel_p2p.wire._frames cimport bp_frame_t

# The place of a frame under construction: the send buffer of its stream.
cdef struct Place:
    const bp_hot_t *hot
    bp_engine_t *engine
    uint64_t handle
    int status

# What stands behind the address in a frame.
cdef struct Target:
    const uint8_t *rest
    size_t rest_bytes
    const uint8_t *name              # the local name it was sent to, if it was a name
    size_t name_bytes


# Values by a number that is never used again: slot in the low 24 bits, then a count.
cdef class Slots:
    cdef list items
    cdef list free
    cdef uint64_t *ids
    cdef size_t room
    cdef readonly size_t count

    cdef uint64_t add(self, object value) except 0
    cdef object find(self, uint64_t id)
    cdef object remove(self, uint64_t id)


cdef class Origin:
    cdef readonly Switch switch
    cdef readonly uint64_t id        # of the process that sends; 0 for none
    cdef readonly object process


cdef class ProcessBox(Mailbox):
    cdef readonly Switch switch
    cdef readonly uint64_t id
    cdef readonly object owner       # the Process
    cdef list paused                 # lines that were told PAUSE
    cdef list paused_names           # (line, key_bytes): of the names of this process
    cdef list held                   # streams that get no credit
    cdef uint32_t calls_open         # put here, and neither answered nor withdrawn

    cdef int press(self, Line line, InboundStream stream, const Target *to) except -1
    cdef int press_name(self, Line line, bytes key) except -1


cdef class Call:
    cdef readonly object request
    cdef readonly uint64_t to        # id of the process that was called
    cdef readonly bint cancelled
    cdef readonly bint answered
    cdef public object on_cancel     # called once when the caller gives up
    cdef uint64_t caller_id
    cdef uint32_t caller_creation
    cdef uint64_t ref
    cdef Line line                   # None: the caller is on this node
    cdef Reply local
    cdef double expires              # the loop's time; 0: never

    cdef Switch switch(self)
    cdef int closed(self) except -1
    cdef int answer(self, object value, bint failed) except -1
    cdef int withdraw(self) except -1


cdef class Reply(Waiter):
    cdef readonly Switch switch
    cdef readonly bint done
    cdef object value
    cdef object error
    cdef uint64_t ref
    cdef Line line
    cdef Call local                  # the other end, when it is on this node
    cdef uint64_t from_id
    cdef uint64_t to_id
    cdef str to_node
    cdef bytes to_key                # of the name that was called, if it was a name
    cdef double deadline
    cdef Expiry expiry
    cdef Reply before
    cdef Reply after

    cdef int settle(self, object value, object error) except -1


# The replies that wait equally long, soonest first.
cdef class Expiry:
    cdef readonly double timeout
    cdef Reply first
    cdef Reply last

    cdef int add(self, Reply reply) except -1
    cdef int remove(self, Reply reply) except -1


cdef class Line(FrameSink):
    cdef readonly Switch switch
    cdef readonly object channel
    cdef readonly str name
    cdef readonly uint32_t creation
    cdef readonly bint down
    cdef Pump pump
    cdef list out                    # RawStream or None
    cdef dict paused                 # process id there: future
    cdef dict paused_names           # key_bytes of a name there: future
    cdef dict incoming               # ref: Call

    cdef int deliver(self, InboundStream stream, const bp_frame_t *frame) except -1
    cdef int called(self, InboundStream stream, const bp_frame_t *frame) except -1
    cdef int replied(self, const bp_frame_t *frame) except -1
    cdef int cancel(self, const bp_frame_t *frame) except -1
    cdef ProcessBox find(self, const bp_frame_t *frame, bint named, Target *to)
    cdef int put(
        self, ProcessBox box, object message, InboundStream stream, const Target *to
    ) except -1
    cdef int withdraw_all(self) except -1
    cdef object read(self, const uint8_t *at, size_t size, uint8_t flags)
    cdef int refuse(
        self, uint64_t from_id, uint64_t to_id, uint64_t ref, str code, str text
    ) except -1

    cdef RawStream stream_for(self, uint64_t from_id, uint64_t to_id)
    cdef int emit(
        self, RawStream stream, uint8_t kind, uint8_t flags,
        const uint8_t *head, size_t head_bytes, object term
    ) except -1
    cdef int write(
        self, RawStream stream, uint8_t kind, uint8_t flags, const uint8_t *body, size_t size
    ) except -1
    cdef int open_place(self, Place *place, RawStream stream) except -1
    cdef int fail_place(self, Place *place) except -1
    cdef int commit(
        self, Place *place, RawStream stream, uint8_t *base, uint8_t kind, uint8_t flags,
        size_t size
    ) except -1


cdef class Switch:
    cdef readonly str name
    cdef readonly uint32_t creation
    cdef readonly object loop
    cdef readonly dict lines         # node name: Line
    cdef readonly Slots boxes
    cdef readonly dict names         # key_bytes of a local name: ProcessBox
    cdef readonly Origin origin      # of the node itself
    cdef readonly uint64_t dropped   # messages for processes that are gone
    cdef public bint strict          # local messages are copied through their bytes
    cdef public object lower         # typed values to terms; returns the same when none
    cdef public object lift          # and back
    cdef public object fault_of      # (error term, peer name) to an exception
    cdef public object dial          # async: opens a line to the node named
    cdef public object on_slow       # (process or None, ms)
    cdef public object node          # whose switch it is
    cdef Slots replies
    cdef list noted                  # waiters claimed during a batch
    cdef dict expiries
    cdef object timer
    cdef double timer_at
    cdef object now                  # the loop's clock

    cdef list open_calls(self, uint64_t to)
    cdef int note(self, Waiter waiter) except -1
    cdef bint tell_here(self, Pid pid, object message, bint cast) except -1
    cdef Reply ask_here(self, uint64_t from_id, Pid pid, object request, object timeout)
    cdef size_t name_head(self, uint8_t *head, uint64_t from_id, bytes key) except 0
    cdef object copied(self, object message)
    cdef int fail_replies(self, Line line, object error) except -1
    cdef int expect(self, Reply reply, object timeout) except -1
    cdef int arm(self, double at) except -1


cdef Origin origin_for(Pid pid)
