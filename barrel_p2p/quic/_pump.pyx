# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
# distutils: include_dirs = csrc
"""The event loop's door to an engine: one call per wake-up, events to objects.

``Pump.wake`` is the reader callback. It receives, hands every event to the stream or
connection it is about, and sends what the handlers wrote, together with the
acknowledgements. Handlers run while received bytes are still in the engine's arena,
so the pump never sends, and so never moves that memory, in the middle of a batch.

Types: ``_pump.pyi``. The engine is called through its exported table (csrc/quic/hot.h).
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
cimport cython

cdef extern from "sched.h" nogil:
    int sched_yield()

cdef extern from "<sys/resource.h>" nogil:
    """
    #ifndef RUSAGE_THREAD
    #define RUSAGE_THREAD 1 /* Linux; behind _GNU_SOURCE */
    #endif
    """
    int RUSAGE_THREAD
    cdef struct rusage:
        long ru_nvcsw
        long ru_nivcsw
    int getrusage(int who, rusage *usage)


from barrel_p2p.errors import (
    Busy,
    InvalidValue,
    NotConnected,
    NotStarted,
    PeerUnreachable,
    StreamClosed,
)

# A writer that outruns the loop is sent out every so many bytes. What a wake-up brings
# about goes out once before that: the peer works on the first answers of a batch while
# this side makes the others.
cdef enum:
    UNSENT_MAX = 65536
    UNSENT_EARLY = 4096
    ROUNDS_MAX = 16
    STALL_NS = 50_000_000
    # An exchange is worth polling for after so many quick answers, of at most so many
    # events each: more is a transfer, which is the faster the larger its batches are.
    # Answers that wake the loop are late by that alone, and so may take some times
    # longer. Each time that polling was in vain, twice as many are asked for.
    QUICK_MIN = 4
    QUICK_MAX = 4096
    QUICK_EVENTS_MAX = 4
    ASLEEP = 4
    # While it polls, the loop gives way to whoever else wants its core. If each of so
    # many answers in a row took another's turn on it, those who answer are on this core
    # and polling delays them: the next so many answers wake the loop instead.
    SHARED_ANSWERS = 8
    SHARED_REST = 4096



cdef inline int64_t monotonic_ns() noexcept:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1_000_000_000 + t.tv_nsec


cdef inline long switches() noexcept:
    """How often the core went from this thread to another one."""
    cdef rusage usage
    getrusage(RUSAGE_THREAD, &usage)
    return usage.ru_nvcsw + usage.ru_nivcsw


CODE_MAX = 2**62 - 1  # of a QUIC variable-length integer
cdef object _FULL_HINT = "wait for room: use `await write(...)` or write smaller pieces"


@cython.final
cdef class Pump:
    """Moves events out of one engine and bytes into it. Belongs to one event loop.

    Args:
        engine: Address of the engine, owned by the caller until ``close``.
        hot: Address of the engine's exported table.
        call_soon: The loop's ``call_soon``.
        on_error: Called with an exception that a handler let escape.
        accept: Called for each accepted connection; returns its ``RawConnection``.
    """

    def __cinit__(self, uintptr_t engine, uintptr_t hot, call_soon, on_error, accept):
        self.hot = <const bp_hot_t *>hot
        if self.hot.version != BP_HOT_VERSION or self.hot.size != sizeof(bp_hot_t):
            raise ImportError(
                f"barrel_p2p.quic._pump was built for table version {BP_HOT_VERSION} of "
                f"{sizeof(bp_hot_t)} bytes, the engine has {self.hot.version} of "
                f"{self.hot.size}; rebuild both: python setup.py build_ext --inplace --force"
            )
        self.engine = <bp_engine_t *>engine
        self.call_soon = call_soon
        self.on_error = on_error
        self.accept = accept
        self.after_wake = None
        self.after_dispatch = None
        self.streams = []
        self.connections = []
        self.unsent_max = UNSENT_MAX
        self.quick_min = QUICK_MIN

    def close(self):
        """Forget the engine: every later call raises or does nothing."""
        self.engine = NULL
        self.after_wake = None
        self.after_dispatch = None
        self.streams.clear()
        self.connections.clear()

    def set_after_wake(self, after_wake):
        """Call ``after_wake()`` at the end of each wake-up, or not at all (None)."""
        self.after_wake = after_wake

    def set_after_dispatch(self, after_dispatch):
        """Call ``after_dispatch()`` when a batch of events was delivered, or nothing (None).

        The received bytes are given back by then, so it may run anything. What it writes
        is sent with the batch's acknowledgements.
        """
        self.after_dispatch = after_dispatch

    def set_poll(self, uint32_t poll_us):
        """Poll for the next answer of a quick exchange for so long; 0 for never."""
        self.poll_ns = <int64_t>poll_us * 1_000

    def attach(self, RawConnection connection, uint64_t handle):
        """Tie ``connection`` to the engine's handle for it."""
        cdef size_t index = handle & 0xFFFFFFFF
        while index >= <size_t>len(self.connections):
            self.connections.append(None)
        self.connections[index] = connection
        connection.pump = self
        connection.handle = handle

    def wake(self):
        """Receive, deliver, send. The callback for the engine's descriptor."""
        cdef int more = 1
        cdef int rounds = 0
        cdef int64_t now_ns = monotonic_ns()
        # After a stall everything that has arrived is read before timers run, so that
        # the peer's packets count before our own idle timeout does.
        cdef bint stalled = now_ns - self.woken_ns > STALL_NS
        self.arrived = 0
        while more and rounds < (ROUNDS_MAX if stalled else 1) and self.engine != NULL:
            more = self.hot.receive(self.engine)
            self.dispatch()
            rounds += 1
        self.woken_ns = now_ns
        self.flush()
        if self.poll_ns and self.arrived:
            self.pace(now_ns)

    cdef int pace(self, int64_t woken_ns) except -1:
        """Decide, after a wake-up that brought something, whether to poll for the next."""
        cdef int64_t bound = self.poll_ns if self.polling else ASLEEP * self.poll_ns
        if self.arrived > QUICK_EVENTS_MAX or woken_ns - self.quiet_ns > bound:
            self.quick = 0
            self.polled = 0
        else:
            self.quick += 1
            if self.polling:
                self.quick_min = QUICK_MIN
                self.share()
        self.quiet_ns = monotonic_ns()
        if self.resting:
            self.resting -= 1
        elif self.quick >= self.quick_min and not self.polling and self.engine != NULL:
            self.polling = True
            self.call_soon(self.poll)
        return 0

    cdef void share(self) noexcept:
        """Count an answer that was polled for, and who else had the core meanwhile."""
        if self.polled == 0:
            self.switches = switches()
        elif self.polled == SHARED_ANSWERS:
            if switches() - self.switches >= SHARED_ANSWERS:
                self.resting = SHARED_REST
            self.polled = 0
            return
        self.polled += 1

    def poll(self):
        """Keep the loop from sleeping while an answer is likely to be on its way.

        Everything else that is ready runs in between; another process on this core, too.
        """
        self.polling = False
        if self.engine == NULL or self.quick < self.quick_min or self.resting:
            return
        if monotonic_ns() - self.quiet_ns > self.poll_ns:
            self.polled = 0
            self.quick = 0
            self.quick_min = min(2 * self.quick_min, QUICK_MAX)
            return
        sched_yield()
        self.polling = True
        self.call_soon(self.poll)

    def flush(self):
        """Send what is due and deliver what that brought up."""
        cdef uint32_t count = 1
        cdef int rounds = 0
        self.scheduled = False
        while count > 0 and rounds < ROUNDS_MAX and self.engine != NULL:
            self.unsent = 0
            self.hot.send(self.engine)
            self.hot.events(self.engine, &count)
            if count > 0:
                self.dispatch()
            rounds += 1
        if count > 0:
            self.schedule()  # Out of rounds: others get their turn, then it goes on.
        if self.after_wake is not None and self.engine != NULL:
            self.after_wake()

    def schedule(self):
        """Flush once the running callback has returned."""
        if not self.scheduled and not self.sending_later and self.engine != NULL:
            self.scheduled = True
            self.call_soon(self.flush)

    cdef int wrote(self, size_t length) except -1:
        if self.dispatching:
            return 0  # The wake-up that delivers also sends.
        self.unsent += length
        if not self.scheduled and not self.sending_later:
            self.scheduled = True
            self.call_soon(self.flush)
        if self.unsent >= self.unsent_max:
            self.unsent = 0
            self.unsent_max = UNSENT_MAX
            self.hot.send(self.engine)  # Its events wait for the scheduled flush.
        return 0

    cdef int dispatch(self) except -1:
        cdef uint32_t count = 0
        cdef uint32_t i = 0
        cdef const bp_event_t *events
        cdef bp_event_t event
        cdef object interrupt = None
        if self.dispatching:
            return 0
        self.dispatching = self.sending_later = True
        try:
            while self.engine != NULL:
                events = self.hot.events(self.engine, &count)
                if i >= count:
                    break
                event = events[i]  # A handler may make the array grow, and so move.
                i += 1
                self.arrived += 1
                try:
                    self.deliver(&event)
                except Exception as error:
                    self.on_error(error)
                except BaseException as error:
                    interrupt = error
        finally:
            self.dispatching = False
            if self.engine != NULL:
                self.hot.consume(self.engine)
        self.unsent_max = UNSENT_EARLY
        try:
            if self.after_dispatch is not None:
                self.after_dispatch()
        except BaseException as error:
            interrupt = error
        finally:
            self.sending_later = False
            self.unsent_max = UNSENT_MAX
        if interrupt is not None:
            self.schedule()  # What the handlers wrote must not wait for the next packet.
            raise interrupt
        return 0

    cdef RawStream stream_of(self, const bp_event_t *event):
        cdef size_t index = event.stream & 0xFFFFFFFF
        cdef RawStream stream
        if index >= <size_t>len(self.streams):
            return None
        stream = self.streams[index]
        if stream is None or stream.handle != event.stream:
            return None
        return stream

    cdef RawConnection connection_of(self, const bp_event_t *event):
        cdef size_t index = event.connection & 0xFFFFFFFF
        cdef RawConnection connection
        if index >= <size_t>len(self.connections):
            return None
        connection = self.connections[index]
        if connection is None or connection.handle != event.connection:
            return None
        return connection

    cdef RawStream adopt(self, RawConnection connection, const bp_event_t *event):
        cdef RawStream stream = connection.make_stream(event.stream, event.stream_id)
        connection.register(stream)
        connection.stream_opened(stream)
        return stream

    cdef int deliver(self, const bp_event_t *event) except -1:
        cdef RawConnection connection
        cdef RawStream stream
        if event.type == BP_EVENT_CONNECTED and event.flags & BP_FLAG_ACCEPTED:
            connection = self.accept()
            self.attach(connection, event.connection)
            connection.connected()
            return 0
        if event.stream != 0:
            stream = self.stream_of(event)
            if stream is None:
                connection = self.connection_of(event)
                if connection is None or not event.flags & BP_FLAG_NEW:
                    return 0
                stream = self.adopt(connection, event)
            return deliver_to_stream(stream, event)
        connection = self.connection_of(event)
        if connection is None:
            return 0
        if event.type == BP_EVENT_CONNECTED:
            connection.connected()
        elif event.type == BP_EVENT_CLOSED:
            self.connections[<uint32_t>event.connection] = None
            connection.finish(event.flags, event.a, event.b, event.length)
        elif event.type == BP_EVENT_PATH:
            connection.path_changed(event.a, bool(event.flags & BP_FLAG_MOVED))
        elif event.type == BP_EVENT_PATH_FAILED:
            connection.path_failed()
        return 0


cdef int deliver_to_stream(RawStream stream, const bp_event_t *event) except -1:
    if event.type == BP_EVENT_DATA:
        return stream.take(event.data, event.length, event.flags & BP_FLAG_FIN)
    if event.type == BP_EVENT_WRITABLE:
        stream.blocked = False
        stream.writable()
    elif event.type == BP_EVENT_RESET:
        stream.reset_received(event.a)
    elif event.type == BP_EVENT_STOP_SENDING:
        stream.stop_received(event.a)
    elif event.type == BP_EVENT_RELEASED:
        stream.release()
    return 0


cdef class RawConnection:
    """One QUIC connection, seen from the loop. Subclasses override the callbacks."""

    def __cinit__(self, *args, **kwargs):
        self.streams = set()

    def open_raw_stream(self, bint uni):
        """Open a stream; returns what ``make_stream`` makes of it."""
        cdef uint64_t handle = 0
        cdef uint64_t stream_id = 0
        cdef int status
        if self.closed or self.handle == 0 or self.pump.engine == NULL:
            raise PeerUnreachable("the connection is closed")
        status = self.pump.hot.open(self.pump.engine, self.handle, uni, &handle, &stream_id)
        if status == BP_E_LIMIT or status == BP_E_MEMORY:
            raise Busy(
                "no stream left: the engine's streams_max is reached",
                hint="close streams that are no longer used, or raise streams_max",
            )
        if status < 0:
            raise PeerUnreachable("the connection is not open")
        cdef RawStream stream = self.make_stream(handle, stream_id)
        self.register(stream)
        return stream

    @property
    def unsent(self):
        """Bytes written and not yet handed to a packet, all streams."""
        cdef RawStream stream
        cdef uint64_t total = 0
        for stream in self.streams:
            total += stream.queued
        return total

    cdef int register(self, RawStream stream) except -1:
        cdef size_t index = stream.handle & 0xFFFFFFFF
        cdef list table = self.pump.streams
        while index >= <size_t>len(table):
            table.append(None)
        table[index] = stream
        self.streams.add(stream)
        return 0

    def make_stream(self, uint64_t handle, uint64_t stream_id):
        """Make the object for a stream that either side opened."""
        return RawStream(self, handle, stream_id)

    def finish(self, why, local, remote, application):
        """The last event: close every stream, then tell the subclass."""
        cdef RawStream stream
        self.closed = True
        for stream in list(self.streams):
            stream.release()
        self.streams.clear()
        self.connection_closed(why, local, remote, application)

    def connected(self):
        """The handshake is complete."""

    def stream_opened(self, RawStream stream):
        """The peer opened ``stream``; its first data follows."""

    def connection_closed(self, why, local, remote, application):
        """The connection is over, for the reason ``why`` (BP_CLOSED_*)."""

    def path_changed(self, path_id, moved):
        """A path became usable; ``moved`` when it answers our own migration."""

    def path_failed(self):
        """Our migration got no answer; the old path stays."""


cdef class RawStream:
    """One QUIC stream, seen from the loop. Subclasses override the callbacks."""

    def __cinit__(
        self, RawConnection connection not None, uint64_t handle, uint64_t stream_id, *args
    ):
        if connection.pump is None:
            raise NotConnected("the connection was never dialled")
        self.connection = connection
        self.handle = handle
        self.id = stream_id

    def __init__(self, connection, handle, stream_id):
        pass  # __cinit__ has done it; this only names the parameters.

    cdef int take(self, const uint8_t *data, size_t length, bint fin) except -1:
        self.data_received(PyBytes_FromStringAndSize(<const char *>data, length), fin)
        return 0

    def write_nowait(self, data, *, bint fin=False):
        """Queue ``data``; returns the room left, 0 meaning: wait for ``writable``."""
        cdef Pump pump = self.connection.pump
        cdef Py_buffer view
        cdef size_t length
        cdef int64_t room
        if pump.engine == NULL:
            raise NotStarted("the endpoint is closed")
        if type(data) is bytes:
            length = PyBytes_GET_SIZE(data)
            room = pump.hot.write(
                pump.engine, self.handle, <const uint8_t *>PyBytes_AS_STRING(data), length, fin
            )
        else:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            length = view.len
            room = pump.hot.write(
                pump.engine, self.handle, <const uint8_t *>view.buf, length, fin
            )
            PyBuffer_Release(&view)
        if room < 0:
            raise write_error(self, room, length)
        if room == 0:
            self.blocked = True
        pump.wrote(length)
        return room

    def consumed(self, size_t length):
        """Tell how many received bytes are used up, so that the peer may send more."""
        cdef Pump pump = self.connection.pump
        if pump.engine != NULL and not self.released:
            pump.hot.consumed(pump.engine, self.handle, length)
            pump.schedule()

    def reset_nowait(self, error_code):
        """Give up sending; what was not sent is dropped."""
        cdef Pump pump = self.connection.pump
        cdef uint64_t code = checked(error_code, CODE_MAX, "error_code")
        if pump.engine != NULL and not self.released:
            pump.hot.reset(pump.engine, self.handle, code)
            pump.schedule()

    def stop_sending(self, error_code):
        """Ask the peer to give up sending; what it sent before is dropped."""
        cdef Pump pump = self.connection.pump
        cdef uint64_t code = checked(error_code, CODE_MAX, "error_code")
        if pump.engine != NULL and not self.released:
            pump.hot.stop_sending(pump.engine, self.handle, code)
            pump.schedule()

    def set_priority(self, priority):
        """Lower goes first, strictly; streams of an equal even number take turns."""
        cdef Pump pump = self.connection.pump
        cdef uint64_t level = checked(priority, 255, "priority")
        if pump.engine != NULL and not self.released:
            pump.hot.priority(pump.engine, self.handle, <uint8_t>level)

    @property
    def queued(self):
        """Bytes written and not yet handed to a packet."""
        cdef Pump pump = self.connection.pump
        cdef int64_t n
        if pump.engine == NULL or self.released:
            return 0
        n = pump.hot.queued(pump.engine, self.handle)
        return n if n > 0 else 0

    def release(self):
        """The engine has forgotten the stream: both directions are done."""
        cdef Pump pump = self.connection.pump
        cdef size_t index = self.handle & 0xFFFFFFFF
        if self.released:
            return
        self.released = True
        self.blocked = False
        self.connection.streams.discard(self)
        if index < <size_t>len(pump.streams) and pump.streams[index] is self:
            pump.streams[index] = None
        self.stream_released()

    def data_received(self, chunk, fin):
        """``chunk`` arrived in order; ``fin`` when it is the last."""

    def writable(self):
        """There is room again after ``write_nowait`` returned 0."""

    def reset_received(self, error_code):
        """The peer gave up sending."""

    def stop_received(self, error_code):
        """The peer gave up reading; the engine has reset our sending side."""

    def stream_released(self):
        """Both directions are done, or the connection is over."""


cdef uint64_t checked(object value, object highest, str name) except? 0:
    if not isinstance(value, int) or not 0 <= value <= highest:
        raise InvalidValue(f"{name}={value!r} is outside 0 to {highest}")
    return value


cdef object write_error(RawStream stream, int64_t status, size_t length):
    if status == BP_E_STATE:
        return StreamClosed(f"stream {stream.id} is not open for writing")
    if status == BP_E_FULL:
        return Busy(
            f"{length} bytes do not fit the send queue of stream {stream.id}, "
            f"which holds {stream.queued}",
            hint=_FULL_HINT,
        )
    if status == BP_E_MEMORY:
        return MemoryError(f"no memory for {length} bytes on stream {stream.id}")
    if stream.connection.closed or not stream.released:
        # The engine has dropped it; the event that says so may be in this very batch.
        return PeerUnreachable(f"the connection of stream {stream.id} is closed")
    return StreamClosed(f"stream {stream.id} is closed")
