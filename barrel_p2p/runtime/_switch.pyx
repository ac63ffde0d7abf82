# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
# distutils: include_dirs = csrc
"""Where a message goes: to a process of this node, or over the line to another.

A ``Switch`` knows the mailboxes of one node and its lines. A ``Line`` is the sink of one
channel: frames are decoded where they arrived and put into mailboxes, and messages are
encoded into the send buffer of the stream that their pair of processes hashes to. Nothing
here runs a user's code while received bytes are lent: whoever is to be woken is noted, and
``Switch.resume`` runs them once the engine has its memory back.

Types: ``_switch.pyi``. Source: docs/reference/wire.md, "Messages"; docs/design/0004-nodes.md.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy
cimport cython

from barrel_p2p.carrier._inbound cimport FrameSink, InboundStream
from barrel_p2p.core._terms cimport Pid, new_pid
from barrel_p2p.quic._pump cimport BP_E_FULL, Pump, RawStream, bp_engine_t, bp_hot_t
from barrel_p2p.runtime._mailbox cimport Mailbox, Waiter
from barrel_p2p.wire._frames cimport BP_FRAME_HEADER_BYTES, bp_frame_t, bp_frame_write_header, new_frame
from barrel_p2p.wire._terms cimport TermBuffer, TermFault, term_forget, term_raise, term_read, term_write

from asyncio import current_task, shield
from contextvars import ContextVar

from barrel_p2p.errors import (
    Busy,
    CallTimeout,
    InvalidValue,
    NoProc,
    NotConnected,
    NotEncodable,
    NotStarted,
    PeerUnreachable,
    WireError,
)
from barrel_p2p.runtime import limits as _limits
from barrel_p2p.wire.kinds import Kind
from barrel_p2p.wire.terms import decode, encode

cdef extern from "codec/words.h":
    uint16_t bp_get16(const uint8_t *p) noexcept
    uint32_t bp_get32(const uint8_t *p) noexcept
    uint64_t bp_get64(const uint8_t *p) noexcept
    void bp_put16(uint8_t *p, uint16_t v) noexcept
    void bp_put32(uint8_t *p, uint32_t v) noexcept
    void bp_put64(uint8_t *p, uint64_t v) noexcept

cdef extern from "Python.h":
    int PyContextVar_Get(object var, PyObject *default_value, PyObject **value) except -1

cdef enum:
    K_SEND = 2
    K_SEND_NAME = 3
    K_CALL = 4
    K_REPLY = 5
    K_ERROR = 6
    K_CANCEL = 7
    DATA_ROLE = 3
    F_TYPED = 0x02           # the term holds typed messages
    F_CAST = 0x04            # a SEND that is a cast
    F_NAMED = 0x08           # a CALL to a name
    SLOT_BITS = 24
    SEND_HEAD = 24
    CALL_HEAD = 36
    NAMED_HEAD = 26          # without the name
    NAME_MAX = 1024
    FIRST_BYTES = 512        # room asked for behind the head, before a message is encoded

if (Kind.SEND, Kind.SEND_NAME, Kind.CALL, Kind.REPLY, Kind.ERROR, Kind.CANCEL) != (
    K_SEND, K_SEND_NAME, K_CALL, K_REPLY, K_ERROR, K_CANCEL
):
    raise ImportError("runtime/_switch was built for other kinds: run `make setup`")

cdef uint64_t _incoming_max = _limits.INCOMING_CALLS_MAX
cdef uint64_t _slack = _limits.MAILBOX_SLACK
cdef uint64_t _paused_names_max = _limits.PAUSED_NAMES_MAX
cdef uint64_t _slots_max = _limits.PROCESSES_MAX
cdef double _expiry_step_s = _limits.EXPIRY_STEP_S

ORIGIN = ContextVar("barrel_p2p_origin")
cdef object _ORIGIN = ORIGIN
cdef list _switches = []     # those that run in this process


@cython.final
cdef class Done:
    """An awaitable that is done."""

    def __await__(self):
        return self

    def __next__(self):
        raise StopIteration


DONE = Done()
cdef Done _DONE = DONE


@cython.final
cdef class Cast:
    """A request that wants no answer, as a server finds it in its mailbox."""

    __match_args__ = ("request",)
    cdef readonly object request

    def __init__(self, request):
        self.request = request

    def __repr__(self):
        return f"Cast({self.request!r})"


include "_slots.pxi"
include "_calls.pxi"
include "_line.pxi"
include "_origin.pxi"
include "_process_box.pxi"


@cython.final
cdef class Switch:
    """The processes of one node and its lines to others. Belongs to one event loop.

    Args:
        name: The node's name.
        creation: This life of the node.
        loop: The running event loop.
        strict: Copy local messages through their bytes, as remote ones are.
    """

    def __cinit__(self, str name, uint32_t creation, loop, *, bint strict=False):
        self.name = name
        self.creation = creation
        self.loop = loop
        self.now = loop.time
        self.strict = strict
        self.lines = {}
        self.boxes = Slots()
        self.replies = Slots()
        self.noted = []
        self.expiries = {}
        self.names = {}
        self.origin = Origin(self, 0, None)
        _switches.append(self)

    def close(self):
        """Forget every process and call. Calls that wait fail."""
        cdef Line line
        if self.loop is None:
            return
        for line in list(self.lines.values()):
            self.drop_line(line, NotStarted(f"node {self.name} has stopped"))
        self.fail_replies(None, NotStarted(f"node {self.name} has stopped"))
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        _switches.remove(self)
        self.loop = None

    # ---- processes

    def open_box(self, limit, owner):
        """Make the mailbox of a new process; its ``id`` is the process's."""
        cdef ProcessBox box = ProcessBox(self.loop, limit, self, owner)
        box.id = self.boxes.add(box)
        return box

    def close_box(self, ProcessBox box, code, text):
        """Take ``box`` away. Its open calls fail with ``code``, also those it has taken.

        Returns:
            The messages in it that were no calls.
        """
        cdef list left = [item for item in box.close() if type(item) is not Call]
        cdef list calls = self.open_calls(box.id) if box.calls_open > 0 else []
        cdef Call call
        if self.boxes.find(box.id) is box:
            self.boxes.remove(box.id)
        for call in calls:
            call.fail(code, text)
        return left

    cdef list open_calls(self, uint64_t to):
        # All calls to a process that wait for its answer.
        cdef list found = []
        cdef Line line
        cdef Call call
        cdef Reply reply
        for line in self.lines.values():
            for call in line.incoming.values():
                if call.to == to:
                    found.append(call)
        for reply in self.replies.values():
            if reply.local is not None and reply.local.to == to:
                found.append(reply.local)
        return found

    def box_of(self, uint64_t id):
        """The mailbox of the process ``id``, or None."""
        return self.boxes.find(id)

    def pid(self, uint64_t id):
        """The pid of the process ``id`` of this node."""
        return new_pid(self.name, id, self.creation)

    @property
    def calls_waiting(self):
        """Calls of this node that wait for an answer."""
        return self.replies.count

    def origin_here(self):
        """The process that runs, if it is one of this node's, else the node itself."""
        cdef PyObject *found = NULL
        cdef Origin origin
        PyContextVar_Get(_ORIGIN, NULL, &found)
        if found == NULL:
            return self.origin
        origin = <Origin>found
        Py_DECREF(origin)
        return origin if origin.switch is self else self.origin

    # ---- sending

    def tell(self, uint64_t from_id, to, message, bint cast=False):
        """Queue ``message`` for ``to`` if there is room now; returns whether it was.

        Args:
            from_id: The process that sends, 0 for none. Messages of one pair of
                processes keep their order.
            to: A ``Pid``. What is sent to a process that is gone is dropped.
            message: Any term, or typed messages.
            cast: Deliver it as a ``Cast``.

        Raises:
            NotEncodable: ``message`` has no form on the wire.
        """
        cdef Pid pid = to
        cdef Line line
        cdef RawStream stream
        cdef uint8_t head[SEND_HEAD]
        if pid.node == self.name:
            return self.tell_here(pid, message, cast)
        line = self.lines.get(pid.node)
        if line is None:
            return False
        if pid.creation != line.creation:
            self.dropped += 1
            return True
        stream = line.stream_for(from_id, pid.id)
        if stream.blocked or (line.paused and pid.id in line.paused):
            return False
        bp_put64(head, from_id)
        bp_put32(head + 8, self.creation)
        bp_put64(head + 12, pid.id)
        bp_put32(head + 20, pid.creation)
        line.emit(stream, K_SEND, F_CAST if cast else 0, head, SEND_HEAD, message)
        return True

    cdef bint tell_here(self, Pid pid, object message, bint cast) except -1:
        cdef ProcessBox box = None
        if pid.creation == self.creation:
            box = self.boxes.find(pid.id)
        if box is None:
            self.dropped += 1
            return True
        if box.full:
            return False
        if self.strict:
            message = self.copied(message)
        box.offer(Cast(message) if cast else message)
        return True

    cdef object copied(self, object message):
        if self.lower is None:
            return decode(encode(message))
        cdef object term = self.lower(message)
        if term is message:
            return decode(encode(message))
        return self.lift(decode(encode(term)), self.name)

    def ask(self, uint64_t from_id, to, request, timeout):
        """Send a call if there is room now; returns its ``Reply``, or None.

        Args:
            from_id: The process that calls, 0 for none.
            to: A ``Pid``.
            request: Any term, or typed messages.
            timeout: Seconds; None waits for ever.

        Raises:
            NoProc: ``to`` is a process of an earlier life of its node.
            NotEncodable: ``request`` has no form on the wire.
        """
        cdef Pid pid = to
        cdef Line line = None
        cdef RawStream stream
        cdef Reply reply
        cdef uint8_t head[CALL_HEAD]
        if pid.node == self.name:
            return self.ask_here(from_id, pid, request, timeout)
        line = self.lines.get(pid.node)
        if line is None:
            return None
        if pid.creation != line.creation:
            raise NoProc(f"{pid!r} belongs to an earlier life of {pid.node}", peer=pid.node)
        stream = line.stream_for(from_id, pid.id)
        if stream.blocked or (line.paused and pid.id in line.paused):
            return None
        reply = new_reply(self, line, from_id, pid)
        try:
            bp_put64(head, from_id)
            bp_put32(head + 8, self.creation)
            bp_put64(head + 12, pid.id)
            bp_put32(head + 20, pid.creation)
            bp_put64(head + 24, reply.ref)
            bp_put32(head + 32, deadline_ms(timeout))
            line.emit(stream, K_CALL, 0, head, CALL_HEAD, request)
        except BaseException:
            self.replies.remove(reply.ref)
            raise
        if timeout is not None:
            self.expect(reply, timeout)
        return reply

    cdef Reply ask_here(self, uint64_t from_id, Pid pid, object request, object timeout):
        cdef ProcessBox box = None
        cdef Reply reply
        cdef Call call
        if pid.creation == self.creation:
            box = self.boxes.find(pid.id)
        if box is None:
            raise NoProc(f"{pid!r} is no process", peer=pid.node)
        if box.full:
            return None
        if self.strict:
            request = self.copied(request)
        reply = new_reply(self, None, from_id, pid)
        call = new_call(None, pid.id, from_id, self.creation, reply.ref, request)
        call.local = reply
        reply.local = call
        if timeout is not None:
            call.expires = self.now() + <double>timeout
            self.expect(reply, timeout)
        box.calls_open += 1
        box.offer(call)
        return reply

    def tell_name(self, uint64_t from_id, to, bytes key not None, message, bint cast=False):
        """As ``tell``, for whoever has a local name on another node.

        Args:
            from_id: As for ``tell``.
            to: A ``Pid`` that stands for the name: its node, and an id that chooses the
                stream.
            key: The ``key_bytes`` of the name.
            message: As for ``tell``.
            cast: As for ``tell``.
        """
        cdef Pid place = to
        cdef Line line = self.lines.get(place.node)
        cdef RawStream stream
        cdef uint8_t head[NAMED_HEAD + NAME_MAX]
        cdef size_t size = self.name_head(head, from_id, key)
        if line is None:
            return False
        stream = line.stream_for(from_id, place.id)
        if stream.blocked or (line.paused_names and key in line.paused_names):
            return False
        line.emit(stream, K_SEND_NAME, F_CAST if cast else 0, head, size, message)
        return True

    def ask_name(self, uint64_t from_id, to, bytes key not None, request, timeout):
        """As ``ask``, for whoever has a local name on another node. See ``tell_name``."""
        cdef Pid place = to
        cdef Line line = self.lines.get(place.node)
        cdef RawStream stream
        cdef Reply reply
        cdef uint8_t head[NAMED_HEAD + NAME_MAX]
        cdef size_t size = self.name_head(head, from_id, key)
        if line is None:
            return None
        stream = line.stream_for(from_id, place.id)
        if stream.blocked or (line.paused_names and key in line.paused_names):
            return None
        reply = new_reply(self, line, from_id, place)
        reply.to_key = key
        try:
            bp_put64(head + size, reply.ref)
            bp_put32(head + size + 8, deadline_ms(timeout))
            line.emit(stream, K_CALL, F_NAMED, head, size + 12, request)
        except BaseException:
            self.replies.remove(reply.ref)
            raise
        if timeout is not None:
            self.expect(reply, timeout)
        return reply

    cdef size_t name_head(self, uint8_t *head, uint64_t from_id, bytes key) except 0:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(key)
        if size > NAME_MAX:
            raise InvalidValue(f"a name of {size} bytes exceeds {NAME_MAX}")
        bp_put64(head, from_id)
        bp_put32(head + 8, self.creation)
        bp_put16(head + 12, <uint16_t>size)
        memcpy(head + 14, PyBytes_AS_STRING(key), size)
        return 14 + size

    async def way(self, uint64_t from_id, to, bytes key=None):
        """Wait until ``tell`` or ``ask`` may succeed, dialling if need be.

        Args:
            from_id: As for ``tell``.
            to: As for ``tell``, or as for ``tell_name`` where ``key`` is given.
            key: As for ``tell_name``.

        Raises:
            PeerUnreachable: There is no way to the node.
        """
        cdef Pid pid = to
        cdef Line line
        cdef ProcessBox box
        cdef RawStream stream
        if pid.node == self.name:
            box = self.boxes.find(pid.id)
            if box is not None and box.full:
                await _shielded(box.room_future())
            return
        line = self.lines.get(pid.node)
        if line is None:
            if self.dial is None:
                raise NotConnected(f"there is no channel to {pid.node}", peer=pid.node)
            await self.dial(pid.node)
            return
        room = line.paused.get(pid.id) if key is None else line.paused_names.get(key)
        if room is not None:
            await _shielded(room)
            return
        stream = line.stream_for(from_id, pid.id)
        if stream.blocked:
            await stream.wait_writable()

    # ---- lines

    def line_up(self, Line line):
        """The channel of ``line`` is up: it is the way to its peer from now on."""
        line.creation = line.channel.creation
        self.lines[line.name] = line

    def drop_line(self, Line line, error):
        """The channel is down: fail its calls and whoever waits to send."""
        if line.down:
            return
        line.down = True
        if self.lines.get(line.name) is line:
            del self.lines[line.name]
        self.fail_replies(line, error)
        line.withdraw_all()
        for room in (*line.paused.values(), *line.paused_names.values()):
            if not room.done():
                room.set_exception(error)
                room.exception()  # Whoever waited may have been cancelled.
        line.paused.clear()
        line.paused_names.clear()

    cdef int fail_replies(self, Line line, object error) except -1:
        cdef Reply reply
        for reply in self.replies.values():
            if line is None or reply.line is line:
                reply.settle(None, error)
        return 0

    # ---- waking

    cdef int note(self, Waiter waiter) except -1:
        self.noted.append(waiter)
        return 0

    def resume(self):
        """Run whom the last batch woke. For the pump, once the arena is given back."""
        cdef list noted = self.noted
        cdef Waiter waiter
        cdef Py_ssize_t i = 0
        if not noted:
            return
        self.noted = []
        if current_task(self.loop) is not None:
            # Called from inside a task: asyncio lets no other one run now.
            for waiter in noted:
                waiter.resume_soon()
            return
        try:
            while i < len(noted):
                waiter = noted[i]
                i += 1
                waiter.resume()
        finally:
            for waiter in noted[i:]:
                waiter.resume_soon()

    def report_slow(self, process, ms):
        """A process held the loop."""
        if self.on_slow is not None:
            self.on_slow(process, ms)

    # ---- deadlines

    cdef int expect(self, Reply reply, object timeout) except -1:
        cdef double seconds = timeout
        cdef Expiry expiry = self.expiries.get(timeout)
        if expiry is None:
            expiry = Expiry(seconds)
            self.expiries[timeout] = expiry
        reply.deadline = self.now() + seconds
        expiry.add(reply)
        if self.timer is None or reply.deadline < self.timer_at:
            self.arm(reply.deadline)
        return 0

    cdef int arm(self, double at) except -1:
        if self.timer is not None:
            self.timer.cancel()
        self.timer_at = at
        self.timer = self.loop.call_at(at, self._expire)
        return 0

    def _expire(self):
        cdef Expiry expiry
        cdef Reply reply
        cdef double now = self.now()
        cdef double soonest = 0
        self.timer = None
        for key, expiry in list(self.expiries.items()):
            while expiry.first is not None and expiry.first.deadline <= now:
                reply = expiry.first
                reply.abandon(timed_out(reply, expiry.timeout))
            if expiry.first is None:
                del self.expiries[key]
            elif soonest == 0 or expiry.first.deadline < soonest:
                soonest = expiry.first.deadline
        if soonest > 0:
            # Not once for each call of a burst: a little late, and many together.
            self.arm(max(soonest, now + _expiry_step_s))


async def _shielded(future):
    # Many may wait for one room; one that is cancelled must not cancel the others.
    await shield(future)
