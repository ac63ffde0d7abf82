# What other compiled modules may use of the pump: the hot table and the stream sink.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "quic/hot.h":
    ctypedef struct bp_engine_t:
        pass

    ctypedef struct bp_event_t:
        uint16_t type
        uint16_t flags
        uint64_t connection
        uint64_t stream
        uint64_t stream_id
        uint64_t a
        uint64_t b
        const uint8_t *data
        uint64_t length

    ctypedef struct bp_hot_t:
        uint32_t version
        uint32_t size
        int (*receive)(bp_engine_t *) noexcept
        int (*send)(bp_engine_t *) noexcept
        const bp_event_t *(*events)(const bp_engine_t *, uint32_t *) noexcept
        void (*consume)(bp_engine_t *) noexcept
        int (*reserve)(bp_engine_t *, uint64_t, size_t, size_t, uint8_t **) noexcept
        int64_t (*commit)(bp_engine_t *, uint64_t, size_t, int) noexcept
        int64_t (*write)(bp_engine_t *, uint64_t, const uint8_t *, size_t, int) noexcept
        int (*consumed)(bp_engine_t *, uint64_t, uint64_t) noexcept
        int (*open)(bp_engine_t *, uint64_t, int, uint64_t *, uint64_t *) noexcept
        int (*reset)(bp_engine_t *, uint64_t, uint64_t) noexcept
        int (*stop_sending)(bp_engine_t *, uint64_t, uint64_t) noexcept
        int (*priority)(bp_engine_t *, uint64_t, uint8_t) noexcept
        int64_t (*queued)(const bp_engine_t *, uint64_t) noexcept

    enum:
        BP_HOT_VERSION
        BP_E_GONE
        BP_E_STATE
        BP_E_FULL
        BP_E_LIMIT
        BP_E_MEMORY
        BP_EVENT_CONNECTED
        BP_EVENT_CLOSED
        BP_EVENT_DATA
        BP_EVENT_RESET
        BP_EVENT_STOP_SENDING
        BP_EVENT_WRITABLE
        BP_EVENT_RELEASED
        BP_EVENT_PATH
        BP_EVENT_PATH_FAILED
        BP_FLAG_FIN
        BP_FLAG_NEW
        BP_FLAG_ACCEPTED
        BP_FLAG_MOVED


cdef class Pump:
    cdef bp_engine_t *engine  # NULL once closed
    cdef const bp_hot_t *hot
    cdef object call_soon
    cdef object on_error
    cdef object accept
    cdef object after_wake
    cdef object after_dispatch
    cdef list streams      # by the index in the handle
    cdef list connections  # by the index in the handle
    cdef bint dispatching
    cdef bint sending_later  # the running callback ends with a send
    cdef bint scheduled
    cdef size_t unsent     # bytes written since the last send
    cdef size_t unsent_max   # at which they are sent
    cdef int64_t woken_ns
    cdef int64_t poll_ns     # how long to look for an answer before sleeping
    cdef int64_t quiet_ns    # when the last wake-up with events was over
    cdef uint32_t arrived    # events since the wake-up began
    cdef int quick           # answers in a row that came within poll_ns
    cdef int quick_min       # how many of them make polling worthwhile
    cdef int polled          # answers since ``switches`` was counted
    cdef long switches       # of this core, up to the first of them
    cdef readonly int resting  # answers to come that wake the loop, whatever their pace
    cdef readonly bint polling  # the loop is kept from sleeping

    cdef int pace(self, int64_t woken_ns) except -1
    cdef void share(self) noexcept
    cdef int wrote(self, size_t length) except -1
    cdef int dispatch(self) except -1
    cdef int deliver(self, const bp_event_t *event) except -1
    cdef RawStream stream_of(self, const bp_event_t *event)
    cdef RawConnection connection_of(self, const bp_event_t *event)
    cdef RawStream adopt(self, RawConnection connection, const bp_event_t *event)


cdef class RawConnection:
    cdef readonly Pump pump
    cdef readonly uint64_t handle  # 0 before it is attached
    cdef readonly bint closed
    cdef set streams

    cdef int register(self, RawStream stream) except -1


cdef class RawStream:
    cdef readonly RawConnection connection
    cdef readonly uint64_t handle
    cdef readonly uint64_t id
    cdef readonly bint released
    cdef readonly bint blocked     # a write reported no room, and WRITABLE has not come

    cdef int take(self, const uint8_t *data, size_t length, bint fin) except -1
