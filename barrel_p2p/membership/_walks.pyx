# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
"""Walks that come by. Types: ``_walks.pyi``; model: ``tests/models/walks.py``."""

from cpython.dict cimport PyDict_Next
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t
from libc.string cimport memmove
cimport cython

from barrel_p2p.core.effects import Send
from barrel_p2p.membership.messages import REQUEST_ID_MAX as _REQUEST_ID_MAX
from barrel_p2p.membership.messages import Shuffle, ShuffleReply

cdef enum:
    RELAYS_LIMIT = 256
    FIRST_ROOM = 8
    WALKS_LIMIT = 256
    WINDOW_MS = 1_000
    WALK_IGNORED = 0
    WALK_PASSED = 1
    WALK_ENDS = 2

RELAYS_MAX = RELAYS_LIMIT
WALKS_MAX = WALKS_LIMIT
WALKS_WINDOW_MS = WINDOW_MS
IGNORED = WALK_IGNORED
PASSED = WALK_PASSED
ENDS = WALK_ENDS

cdef object _send = Send
cdef object _shuffle = Shuffle
cdef object _shuffle_reply = ShuffleReply
cdef int64_t _id_max = _REQUEST_ID_MAX

cdef struct Relay:
    int64_t request_id         # of what was sent on
    int64_t origin_id          # of what had come
    PyObject *to
    PyObject *origin


@cython.final
@cython.no_gc
cdef class ActivePeer:
    """A peer, and how much it was allowed to ask of us lately.

    Args:
        address: Where it says it is.
        window_ms: Since when its walks are counted.

    Attributes:
        walks: How many it sent since then.
    """

    cdef public object address
    cdef public int64_t window_ms
    cdef public int64_t walks

    def __cinit__(self, address, int64_t window_ms):
        self.address = address
        self.window_ms = window_ms


@cython.final
cdef class Walks:
    """What a node remembers of the walks that pass through it.

    A walk makes up to ``arwl`` nodes work for one message, so only peers may send one,
    and each only so many.

    Args:
        me: This node's name.
        active: Its peers, by name; kept here.
        rng: Whom a walk goes to.
        arwl: Steps of a walk, at most.
        last_id: The request id before the first.
    """

    cdef object _me
    cdef dict _active
    cdef object _rng
    cdef int64_t _arwl
    cdef int64_t _last_id
    cdef Relay *_relays        # the oldest first
    cdef Py_ssize_t _count
    cdef Py_ssize_t _room

    def __cinit__(self, me, dict active not None, rng, int64_t arwl, int64_t last_id):
        self._me = me
        self._active = active
        self._rng = rng
        self._arwl = arwl
        self._last_id = last_id

    def __dealloc__(self):
        while self._count:
            self.remove(self._count - 1)
        PyMem_Free(self._relays)

    def __len__(self):
        return self._count

    def next_id(self):
        """A number that this node has not used for long."""
        self._last_id = (self._last_id + 1) & _id_max
        return self._last_id

    def may_walk(self, peer, int64_t now_ms):
        """Whether to follow a walk that came from ``peer``, which counts it."""
        return self.counts(peer, now_ms)

    def pass_on(self, peer, message, int64_t now_ms, list out not None):
        """Take one step of a walk that carries a shuffle.

        Args:
            peer: Whom it came from.
            message: The ``Shuffle``.
            now_ms: The monotonic clock.
            out: Gets the ``Send`` if it goes on.

        Returns:
            ``PASSED`` on, ``IGNORED``, or it ``ENDS`` here.
        """
        cdef object origin = message.origin[0], to
        cdef int64_t ttl = message.ttl, request_id
        if not self.counts(peer, now_ms) or origin == self._me:
            return WALK_IGNORED
        ttl = min(ttl, self._arwl)
        if ttl <= 0:
            return WALK_ENDS
        to = self.other(peer, origin)
        if to is None:
            return WALK_ENDS
        request_id = self.next_id()
        self.keep(request_id, message.request_id, to, peer)
        message = _shuffle(request_id, ttl - 1, message.origin, message.peers)
        out.append(_send(to, message))
        return WALK_PASSED

    def hand_back(self, peer, message, list out not None):
        """Answer whom a walk came from, if that ``ShuffleReply`` answers a walk.

        Args:
            peer: Whom it came from.
            message: The ``ShuffleReply``.
            out: Gets the ``Send``.

        Returns:
            Whether it did.
        """
        cdef int64_t request_id = message.request_id
        cdef Py_ssize_t at = self._count - 1
        while at >= 0 and self._relays[at].request_id != request_id:
            at -= 1
        if at < 0 or <object>self._relays[at].to != peer:
            return False
        origin = <object>self._relays[at].origin
        message = _shuffle_reply(self._relays[at].origin_id, message.peers)
        self.remove(at)
        out.append(_send(origin, message))
        return True

    cdef bint counts(self, object peer, int64_t now_ms) except -1:
        found = self._active.get(peer)
        cdef ActivePeer entry
        if found is None:
            return False
        entry = <ActivePeer?>found
        if now_ms - entry.window_ms >= WINDOW_MS:
            entry.window_ms = now_ms
            entry.walks = 0
        entry.walks += 1
        return entry.walks <= WALKS_LIMIT

    cdef object other(self, object peer, object origin):
        """A random peer besides the two; None if there is none."""
        cdef list others = []
        cdef Py_ssize_t position = 0
        cdef PyObject *name
        while PyDict_Next(self._active, &position, &name, NULL):
            if <object>name != peer and <object>name != origin:
                others.append(<object>name)
        if not others:
            return None
        return others[<Py_ssize_t>self._rng.below(len(others))]

    cdef int keep(
        self, int64_t request_id, int64_t origin_id, object to, object origin
    ) except -1:
        cdef Py_ssize_t room
        cdef void *more
        if self._count == RELAYS_LIMIT:
            self.remove(0)
        if self._count == self._room:
            room = 2 * self._room if self._room else FIRST_ROOM
            more = PyMem_Realloc(self._relays, room * sizeof(Relay))
            if more is NULL:
                raise MemoryError("no memory for the way back of a walk")
            self._relays = <Relay *>more
            self._room = room
        Py_INCREF(to)
        Py_INCREF(origin)
        self._relays[self._count] = Relay(
            request_id, origin_id, <PyObject *>to, <PyObject *>origin
        )
        self._count += 1
        return 0

    cdef int remove(self, Py_ssize_t at) except -1:
        cdef Relay gone = self._relays[at]
        cdef Py_ssize_t behind = self._count - at - 1
        memmove(&self._relays[at], &self._relays[at + 1], behind * sizeof(Relay))
        self._count -= 1
        Py_DECREF(<object>gone.to)
        Py_DECREF(<object>gone.origin)
        return 0
