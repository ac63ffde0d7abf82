@cython.final
cdef class ProcessBox(Mailbox):
    """The mailbox of a process or of ``node.mailbox()``. Made by ``Switch.open_box``."""

    def __cinit__(self, loop, limit, Switch switch, owner):
        self.switch = switch
        self.owner = owner
        self.paused = []
        self.paused_names = []
        self.held = []

    def set_owner(self, owner):
        """Say whose mailbox it is."""
        self.owner = owner

    def unnamed(self, bytes key not None):
        """It has the local name ``key`` no more: nobody waits for room under it."""
        cdef Line line
        for line, held in [pair for pair in self.paused_names if pair[1] == key]:
            self.paused_names.remove((line, held))
            line.tell_paused(0, False, held)

    cdef int press(self, Line line, InboundStream stream, const Target *to) except -1:
        # It is full. Ask the sender's node to wait; do without its consent when the
        # queue has twice its length. Who sends to a name need not know the id behind it.
        if to.name != NULL:
            self.press_name(line, PyBytes_FromStringAndSize(<char *>to.name, to.name_bytes))
        elif line not in self.paused:
            self.paused.append(line)
            line.tell_paused(self.id, True)
        if self.count > 2 * <uint64_t>self.limit + _slack and stream not in self.held:
            stream.hold()
            self.held.append(stream)
        return 0

    cdef int press_name(self, Line line, bytes key) except -1:
        if (line, key) not in self.paused_names:
            self.paused_names.append((line, key))
            line.tell_paused(0, True, key)
        return 0

    cdef int drained(self) except -1:
        cdef Line line
        cdef InboundStream stream
        cdef list lines = self.paused
        cdef list names = self.paused_names
        cdef list streams = self.held
        self.paused = []
        self.paused_names = []
        self.held = []
        for line in lines:
            line.tell_paused(self.id, False)
        for line, key in names:
            line.tell_paused(0, False, key)
        for stream in streams:
            stream.unhold()
        return 0

    cdef int held_loop(self, int64_t ms) except -1:
        self.switch.report_slow(self.owner, ms)
        return 0
