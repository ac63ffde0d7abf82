cdef int _grow(TermBuffer *out, size_t more) noexcept:
    cdef Place *place = <Place *>out.owner
    cdef uint8_t *base = NULL
    # As much again as there is, so that a long term moves few times.
    cdef size_t room = max(more, out.used)
    place.status = place.hot.reserve(place.engine, place.handle, out.used, room, &base)
    if place.status < 0 and room > more:
        room = more
        place.status = place.hot.reserve(place.engine, place.handle, out.used, room, &base)
    if place.status < 0:
        return -1
    out.base = base
    out.room = out.used + room
    return 0


cdef inline uint64_t _mixed(uint64_t a, uint64_t b) noexcept:
    cdef uint64_t x = (a ^ (b << 32) ^ (b >> 32)) * <uint64_t>0x9E3779B97F4A7C15
    return x >> 40


@cython.final
cdef class Line(FrameSink):
    """One channel as the switch sees it: the sink of its frames, and the way out.

    Args:
        switch: Whose line it is.
        channel: Gives ``name``, ``creation`` once it is up, ``open_data_stream(index)``
            and ``send_control(kind, body)``, and takes what is not a message.
        pump: The engine's.
        streams: Data streams to send on.
    """

    def __init__(self, Switch switch, channel, Pump pump, int streams):
        self.switch = switch
        self.channel = channel
        self.owner = channel
        self.name = channel.name
        self.pump = pump
        self.out = [None] * streams
        self.paused = {}
        self.paused_names = {}
        self.incoming = {}

    cdef int frame(self, InboundStream stream, const bp_frame_t *frame) except -1:
        if stream.role == DATA_ROLE and not self.down:
            if frame.kind == K_SEND:
                return self.deliver(stream, frame)
            if frame.kind == K_CALL:
                return self.called(stream, frame)
            if frame.kind == K_REPLY or frame.kind == K_ERROR:
                return self.replied(frame)
            if frame.kind == K_CANCEL:
                return self.cancel(frame)
            if frame.kind == K_SEND_NAME:
                return self.deliver(stream, frame)
        self.frame_received(stream, new_frame(frame))
        return 0

    # ---- in

    cdef int deliver(self, InboundStream stream, const bp_frame_t *frame) except -1:
        cdef Target to
        cdef ProcessBox box = self.find(frame, frame.kind == K_SEND_NAME, &to)
        cdef object message
        if box is None:
            self.switch.dropped += 1
            return 0
        try:
            message = self.read(to.rest, to.rest_bytes, frame.flags)
        except InvalidValue:
            self.switch.dropped += 1
            return 0
        self.put(box, Cast(message) if frame.flags & F_CAST else message, stream, &to)
        return 0

    cdef int put(
        self, ProcessBox box, object message, InboundStream stream, const Target *to
    ) except -1:
        if box.put(message):
            self.switch.note(box)
        if box.full:
            box.press(self, stream, to)
        return 0

    cdef ProcessBox find(self, const bp_frame_t *frame, bint named, Target *to):
        # The process a frame is for, and what stands behind its address.
        cdef const uint8_t *body = frame.body
        cdef size_t name_bytes
        to.name = NULL
        if not named:
            if frame.body_bytes < SEND_HEAD:
                raise WireError(f"frame of kind {frame.kind} too short", peer=self.name)
            to.rest = body + SEND_HEAD
            to.rest_bytes = frame.body_bytes - SEND_HEAD
            if bp_get32(body + 20) != self.switch.creation:
                return None
            return self.switch.boxes.find(bp_get64(body + 12))
        if frame.body_bytes < 14:
            raise WireError(f"frame of kind {frame.kind} too short", peer=self.name)
        name_bytes = bp_get16(body + 12)
        if name_bytes > NAME_MAX or frame.body_bytes < 14 + name_bytes:
            raise WireError(
                f"name of {name_bytes} bytes in a frame of kind {frame.kind}", peer=self.name
            )
        to.name = body + 14
        to.name_bytes = name_bytes
        to.rest = body + 14 + name_bytes
        to.rest_bytes = frame.body_bytes - 14 - name_bytes
        # Looked up by its bytes: nothing is made of a name that nobody has.
        return self.switch.names.get(PyBytes_FromStringAndSize(<char *>body + 14, name_bytes))

    cdef int called(self, InboundStream stream, const bp_frame_t *frame) except -1:
        cdef Target to
        cdef ProcessBox box = self.find(frame, frame.flags & F_NAMED, &to)
        cdef uint64_t from_id = bp_get64(frame.body)
        cdef uint64_t ref
        cdef uint32_t deadline
        cdef Call call
        if to.rest_bytes < 12:
            raise WireError("a CALL without ref and deadline", peer=self.name)
        ref = bp_get64(to.rest)
        deadline = bp_get32(to.rest + 8)
        if box is None:
            return self.refuse(from_id, 0, ref, "noproc", "no such process")
        if <uint64_t>len(self.incoming) >= _incoming_max:
            return self.refuse(
                from_id, box.id, ref, "overloaded",
                f"{_incoming_max} calls of {self.name} wait already",
            )
        if ref in self.incoming:
            raise WireError(f"call {ref} was made twice", peer=self.name)
        try:
            request = self.read(to.rest + 12, to.rest_bytes - 12, frame.flags)
        except InvalidValue as error:
            return self.refuse(from_id, box.id, ref, "invalid_value", str(error))
        call = new_call(self, box.id, from_id, bp_get32(frame.body + 8), ref, request)
        if deadline > 0:
            call.expires = self.switch.now() + deadline / 1000.0
        self.incoming[ref] = call
        box.calls_open += 1
        return self.put(box, call, stream, &to)

    cdef int replied(self, const bp_frame_t *frame) except -1:
        cdef Reply reply
        cdef uint64_t ref
        cdef object value = None
        cdef object fault = None
        if frame.body_bytes < 8:
            raise WireError("an answer without a ref", peer=self.name)
        ref = bp_get64(frame.body)
        reply = self.switch.replies.find(ref)
        if reply is None or reply.line is not self:
            return 0  # Its caller has given up.
        try:
            value = self.read(frame.body + 8, frame.body_bytes - 8, frame.flags)
        except InvalidValue as error:
            fault = error
        reply.line = None
        if reply.claim():
            self.switch.note(reply)
        if frame.kind == K_REPLY or fault is not None:
            reply.settle(value, fault)
        else:
            reply.settle(None, self.switch.fault_of(value, self.name))
        return 0

    cdef int cancel(self, const bp_frame_t *frame) except -1:
        cdef Call call
        if frame.body_bytes != 8:
            raise WireError("a CANCEL has 8 bytes", peer=self.name)
        call = self.incoming.pop(bp_get64(frame.body), None)
        if call is not None:
            call.withdraw()
        return 0

    @property
    def calls_open(self):
        """Calls of the peer that are neither answered nor withdrawn."""
        return len(self.incoming)

    cdef int withdraw_all(self) except -1:
        # The channel is down, so nobody waits for the answers of these.
        cdef Call call
        cdef list calls = list(self.incoming.values())
        self.incoming.clear()
        for call in calls:
            call.withdraw()
        return 0

    cdef object read(self, const uint8_t *at, size_t size, uint8_t flags):
        cdef TermFault fault
        cdef PyObject *value = term_read(at, size, NULL, &fault)
        if value == NULL:
            term_raise(&fault, True, self.name)
        cdef object made = <object>value
        Py_DECREF(made)
        if flags & F_TYPED and self.switch.lift is not None:
            return self.switch.lift(made, self.name)
        return made

    cdef int refuse(
        self, uint64_t from_id, uint64_t to_id, uint64_t ref, str code, str text
    ) except -1:
        cdef uint8_t head[8]
        bp_put64(head, ref)
        try:
            self.emit(
                self.stream_for(to_id, from_id), K_ERROR, 0, head, 8, (code, text, "", "")
            )
        except Busy:
            # It asks on and reads no answers, and none may be lost.
            self.channel.close("busy", text="its answers are not read")
        except PeerUnreachable:
            pass
        return 0

    def room_frame(self, kind, bytes body not None):
        """Take a PAUSE or RESUME of the peer.

        Raises:
            WireError: ``body`` is neither the id of a process nor a name.
        """
        cdef Py_ssize_t size = PyBytes_GET_SIZE(body)
        cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(body)
        cdef dict paused = self.paused
        cdef uint64_t most = _incoming_max
        cdef object held
        if size == 8:
            held = bp_get64(at)
        elif 10 <= size <= 10 + NAME_MAX and bp_get64(at) == 0 and bp_get16(at + 8) == size - 10:
            held = body[10:]
            paused = self.paused_names
            most = _paused_names_max
        else:
            raise WireError(
                f"frame of kind {kind} is for neither a process nor a name", peer=self.name
            )
        if kind == Kind.PAUSE:
            # Whoever sends to it waits. Beyond the limit, only the credit holds them.
            if held not in paused and <uint64_t>len(paused) < most:
                paused[held] = self.switch.loop.create_future()
            return
        room = paused.pop(held, None)
        if room is not None and not room.done():
            room.set_result(None)

    # ---- out

    def tell_paused(self, uint64_t id, bint paused, bytes key=b""):
        """Ask the peer to hold back messages for our process ``id``, or no more.

        Args:
            id: The process, or 0 for whoever has the name ``key``.
            paused: Whether it is to hold them back.
            key: The ``key_bytes`` of a local name.

        Raises:
            InvalidValue: ``key`` is too long for a frame.
        """
        cdef uint8_t body[10 + NAME_MAX]
        cdef Py_ssize_t size = 8
        if PyBytes_GET_SIZE(key) > NAME_MAX:
            raise InvalidValue(f"a name of {len(key)} bytes exceeds {NAME_MAX}")
        if self.down:
            return
        bp_put64(body, id)
        if id == 0:
            size = 10 + PyBytes_GET_SIZE(key)
            bp_put16(body + 8, <uint16_t>PyBytes_GET_SIZE(key))
            memcpy(body + 10, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        try:
            self.channel.send_control(
                Kind.PAUSE if paused else Kind.RESUME,
                PyBytes_FromStringAndSize(<char *>body, size),
            )
        except Busy:
            # A RESUME that is lost would stop its senders for ever.
            self.channel.close("busy", text="its control frames are not read")
        except PeerUnreachable:
            pass  # The channel is going, and its senders are told.

    cdef RawStream stream_for(self, uint64_t from_id, uint64_t to_id):
        cdef int index = <int>(_mixed(from_id, to_id) % <uint64_t>len(self.out))
        cdef RawStream stream = self.out[index]
        if stream is None:
            stream = self.channel.open_data_stream(index)
            self.out[index] = stream
        return stream

    def send_frame(
        self, uint64_t from_id, uint64_t to_id, uint8_t kind, bytes body not None,
        uint8_t flags=0,
    ):
        """Send a frame in the order of the messages between two processes.

        Raises:
            Busy: The stream's queue is full.
            PeerUnreachable: The channel is down, or going down.
        """
        self.write(
            self.stream_for(from_id, to_id), kind, flags,
            <const uint8_t *>PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body),
        )

    cdef int write(
        self, RawStream stream, uint8_t kind, uint8_t flags, const uint8_t *body, size_t size
    ) except -1:
        cdef Place place
        cdef uint8_t *base = NULL
        self.open_place(&place, stream)
        place.status = place.hot.reserve(
            place.engine, place.handle, 0, BP_FRAME_HEADER_BYTES + size, &base
        )
        if place.status < 0:
            self.fail_place(&place)
        memcpy(base + BP_FRAME_HEADER_BYTES, body, size)
        return self.commit(&place, stream, base, kind, flags, BP_FRAME_HEADER_BYTES + size)

    cdef int emit(
        self, RawStream stream, uint8_t kind, uint8_t flags,
        const uint8_t *head, size_t head_bytes, object term
    ) except -1:
        cdef Place place
        cdef TermBuffer out
        cdef TermFault fault
        self.open_place(&place, stream)
        out.used = 0
        out.grow = _grow
        out.owner = &place
        if _grow(&out, head_bytes + FIRST_BYTES) != 0:
            self.fail_place(&place)
        memcpy(out.base + BP_FRAME_HEADER_BYTES, head, head_bytes)
        out.used = BP_FRAME_HEADER_BYTES + head_bytes
        if term_write(&out, <PyObject *>term, &fault) != 0:
            if place.status < 0:
                term_forget(&fault)
                self.fail_place(&place)
            if flags & F_TYPED or self.switch.lower is None:
                term_raise(&fault, False, None)
            lowered = self.switch.lower(term)
            if lowered is term:
                term_raise(&fault, False, None)
            term_forget(&fault)
            return self.emit(stream, kind, flags | F_TYPED, head, head_bytes, lowered)
        return self.commit(&place, stream, out.base, kind, flags, out.used)

    cdef int open_place(self, Place *place, RawStream stream) except -1:
        place.hot = NULL
        if self.pump.engine == NULL or self.down:
            raise NotConnected(f"the channel to {self.name} is down", peer=self.name)
        place.hot = self.pump.hot
        place.engine = self.pump.engine
        place.handle = stream.handle
        place.status = 0
        return 0

    cdef int fail_place(self, Place *place) except -1:
        if place.status == BP_E_FULL:
            raise Busy(f"the queue towards {self.name} is full", peer=self.name)
        raise PeerUnreachable(f"the channel to {self.name} is closing", peer=self.name)

    cdef int commit(
        self, Place *place, RawStream stream, uint8_t *base, uint8_t kind, uint8_t flags,
        size_t size
    ) except -1:
        cdef int64_t room
        bp_frame_write_header(base, kind, flags, size - BP_FRAME_HEADER_BYTES)
        room = place.hot.commit(place.engine, place.handle, size, 0)
        if room < 0:
            place.status = <int>room
            self.fail_place(place)
        if room == 0:
            stream.blocked = True
        return self.pump.wrote(size)
