cdef Call new_call(
    Line line, uint64_t to, uint64_t caller_id, uint32_t caller_creation, uint64_t ref,
    object request
):
    cdef Call call = Call.__new__(Call)
    call.line = line
    call.to = to
    call.caller_id = caller_id
    call.caller_creation = caller_creation
    call.ref = ref
    call.request = request
    return call


cdef Reply new_reply(Switch switch, Line line, uint64_t from_id, Pid pid):
    cdef Reply reply = Reply.__new__(Reply, switch.loop)
    reply.switch = switch
    reply.line = line
    reply.from_id = from_id
    reply.to_id = pid.id
    reply.to_node = pid.node
    reply.ref = switch.replies.add(reply)
    return reply


cdef uint32_t deadline_ms(object timeout) except? 1:
    # What the other side is told: 0 for none.
    if timeout is None:
        return 0
    cdef double ms = 1000.0 * <double>timeout
    return 1 if ms < 1 else 0 if ms >= 4294967295.0 else <uint32_t>ms


cdef str _in_utf8(str text):
    return text.encode("utf-8", "backslashreplace").decode()


cdef object timed_out(Reply reply, double seconds):
    cdef object who = f"process {reply.to_id}"
    if reply.to_key is not None:
        who = repr(decode(reply.to_key))
    return CallTimeout(
        f"no answer from {who} of {reply.to_node} within {seconds:g} s",
        peer=reply.to_node,
    )


@cython.final
@cython.freelist(256)
cdef class Call:
    """A request that wants an answer, as a process finds it in its mailbox.

    Attributes:
        request: What was asked.
        cancelled: Whether the caller has given up; an answer is then dropped.
        answered: Whether ``reply`` or ``fail`` was called.
        on_cancel: Called without arguments when the caller gives up.
    """

    __match_args__ = ("request",)

    @property
    def caller(self):
        """The pid of the process that called; its id is 0 for plain code."""
        if self.line is None:
            return self.local.switch.pid(self.caller_id)
        return new_pid(self.line.name, self.caller_id, self.caller_creation)

    @property
    def over(self):
        """Whether nobody waits for the answer any more."""
        if self.answered or (self.line is not None and self.line.down):
            return True
        return self.expires > 0 and self.expires <= self.switch().now()

    cdef Switch switch(self):
        return self.local.switch if self.line is None else self.line.switch

    @property
    def blocked(self):
        """Whether the way back is full, so that the next answer should wait."""
        return self.line is not None and not self.answered and (
            self.line.stream_for(self.to, self.caller_id).blocked
        )

    async def wait_room(self):
        """Wait until the way back has room."""
        if self.line is not None and not self.line.down:
            await self.line.stream_for(self.to, self.caller_id).wait_writable()

    def begin(self, on_cancel):
        """Whether it is worth beginning; if so, who is told when the caller gives up."""
        if self.over:
            return False
        self.on_cancel = on_cancel
        return True

    def finish(self, value):
        """Answer with ``value`` if there is room for it now; whether there was.

        Raises:
            NotEncodable: ``value`` has no form on the wire. The call is still open.
        """
        if self.blocked:
            return False
        self.answer(value, False)
        return True

    def reply(self, value):
        """Answer with ``value``. A second answer, or one nobody waits for, is dropped.

        Raises:
            NotEncodable: ``value`` has no form on the wire. The call is still open.
        """
        self.answer(value, False)

    def fail(self, code, text, kind="", traceback=""):
        """Answer with an error: its code, its text, the name of its type, its trace.

        Never raises for the caller's sake: characters that UTF-8 cannot carry are
        escaped, and where there is no room for the answer the channel is closed,
        because its caller would wait for ever.
        """
        cdef tuple term = tuple([_in_utf8(part) for part in (code, text, kind, traceback)])
        try:
            self.answer(term, True)
        except Busy:
            self.line.channel.close("busy", text="its answers are not read")
        except PeerUnreachable:
            pass  # The channel is going, and the caller is told.

    cdef int answer(self, object value, bint failed) except -1:
        cdef uint8_t head[8]
        cdef Line line = self.line
        if self.answered:
            return 0
        if line is None:
            if not failed:
                if self.local.switch.strict:
                    value = self.local.switch.copied(value)
                self.closed()
                self.local.settle(value, None)
                return 0
            self.closed()
            self.local.settle(None, self.local.switch.fault_of(value, self.local.to_node))
            return 0
        if not line.down:
            bp_put64(head, self.ref)
            line.emit(
                line.stream_for(self.to, self.caller_id),
                K_ERROR if failed else K_REPLY, 0, head, 8, value
            )
            line.incoming.pop(self.ref, None)
        self.closed()
        return 0

    cdef int closed(self) except -1:
        cdef ProcessBox box = self.switch().boxes.find(self.to)
        if box is not None:
            box.calls_open -= 1
        self.answered = True
        self.on_cancel = None
        return 0

    cdef int withdraw(self) except -1:
        cdef object on_cancel = self.on_cancel
        if self.answered:
            return 0
        self.closed()
        self.cancelled = True
        if on_cancel is not None:
            on_cancel()
        return 0


@cython.final
cdef class Reply(Waiter):
    """The answer to come. ``while not reply.done: await reply``; then ``outcome()``."""

    cdef bint ready(self) noexcept:
        return self.done

    def outcome(self):
        """The answer.

        Raises:
            BarrelError: What the call failed with.
        """
        if self.error is not None:
            raise self.error
        return self.value

    def abandon(self, error=None):
        """Tell the other side that nobody waits any more; ``error`` is the outcome."""
        cdef uint8_t head[8]
        cdef RawStream stream
        if self.done:
            return
        if self.local is not None:
            self.local.withdraw()
        elif self.line is not None and not self.line.down:
            stream = self.line.stream_for(self.from_id, self.to_id)
            bp_put64(head, self.ref)
            try:
                self.line.write(stream, K_CANCEL, 0, head, 8)
            except (Busy, PeerUnreachable):
                pass  # Then the other side has more to worry about than this call.
        self.settle(None, error)

    cdef int settle(self, object value, object error) except -1:
        if self.done:
            return 0
        self.done = True
        self.value = value
        self.error = error
        self.local = None
        if self.expiry is not None:
            self.expiry.remove(self)
        self.switch.replies.remove(self.ref)
        self.fire_soon()
        return 0

    cdef int held_loop(self, int64_t ms) except -1:
        cdef ProcessBox box = self.switch.boxes.find(self.from_id)
        self.switch.report_slow(None if box is None else box.owner, ms)
        return 0


@cython.final
cdef class Expiry:
    """Calls with the same timeout, in the order of their deadlines."""

    def __init__(self, double timeout):
        self.timeout = timeout

    cdef int add(self, Reply reply) except -1:
        reply.expiry = self
        reply.before = self.last
        if self.last is None:
            self.first = reply
        else:
            self.last.after = reply
        self.last = reply
        return 0

    cdef int remove(self, Reply reply) except -1:
        if reply.before is None:
            self.first = reply.after
        else:
            reply.before.after = reply.after
        if reply.after is None:
            self.last = reply.before
        else:
            reply.after.before = reply.before
        reply.before = None
        reply.after = None
        reply.expiry = None
        return 0
