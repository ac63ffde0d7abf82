# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
"""The passive view. Types: ``_passive.pyi``; model: ``tests/models/passive.py``.

Entries and spares lie in their order in arrays, beside the hashes of their names. A
look at all hashes touches fewer lines of memory than a dict does for one, and memory
that is cold is what a node with much else to do waits for.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject, PyObject_Hash
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_Check, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memmove
cimport cython

cdef enum:
    BACKOFF_MS_LIMIT = 300_000
    SPARES_LIMIT = 128
    SPARES_ROOM = 256          # they wander through it, and begin again at its end
    FIRST_ROOM = 8
    REFUSED_MS = 500
    REFUSALS_COUNTED = 7
    DOUBLINGS_LIMIT = 20

BACKOFF_MS_MAX = BACKOFF_MS_LIMIT
SPARES_MAX = SPARES_LIMIT


@cython.final
@cython.no_gc
cdef class PassiveEntry:
    """A replacement, and this node's own experience with it.

    Args:
        address: Where it may be.
        last_seen_ms: When it was last known to be there, by the monotonic clock.

    Attributes:
        proven: There was a channel to it, so that it exists.
        fail_count: Failures in a row.
        refusals: Refusals in a row.
        backoff_until_ms: It is left alone until then.
    """

    cdef object name
    cdef public object address
    cdef public int64_t last_seen_ms
    cdef public int64_t backoff_until_ms
    cdef public int fail_count
    cdef public int refusals
    cdef public bint proven

    def __cinit__(self, address, int64_t last_seen_ms):
        self.name = _name_of(address)
        self.address = address
        self.last_seen_ms = last_seen_ms


@cython.final
cdef class PassiveView:
    """Nodes that may replace a peer. Who is in the active view is not in here.

    Who had to make room is kept as a spare: when most of the cluster is gone, whom this
    node ever heard of counts.

    Args:
        settings: Its size, and how failures count.
        rng: Who goes when it is full.
    """

    cdef Py_ssize_t _count
    cdef Py_ssize_t _size_max
    cdef Py_hash_t *_hashes
    cdef PyObject **_entries
    cdef bint _may_have_failed    # False: no entry has a `fail_count`
    cdef object _rng
    cdef Py_ssize_t _spares_from
    cdef Py_ssize_t _spares_to
    cdef uint32_t *_spare_hashes
    cdef PyObject **_spares
    cdef Py_ssize_t _room
    cdef int64_t _base_backoff_ms
    cdef int64_t _max_age_ms
    cdef int64_t _max_fail_count

    def __cinit__(self, settings, rng):
        self._rng = rng
        self._size_max = settings.passive_size
        self._base_backoff_ms = settings.base_backoff_ms
        self._max_age_ms = settings.passive_max_age_ms
        self._max_fail_count = settings.max_fail_count

    def __dealloc__(self):
        self.drop_all()
        PyMem_Free(self._hashes)
        PyMem_Free(self._entries)
        PyMem_Free(self._spare_hashes)
        PyMem_Free(self._spares)

    def __len__(self):
        return self._count

    def __contains__(self, name):
        return self.find(name, PyObject_Hash(name)) >= 0

    def get(self, name):
        """The entry of ``name``, if there is one."""
        cdef Py_ssize_t at = self.find(name, PyObject_Hash(name))
        return None if at < 0 else <PassiveEntry>self._entries[at]

    def names(self):
        """Who is in it, the longest known first."""
        return [self.entry(at).name for at in range(self._count)]

    def entries(self):
        """All entries, the longest known first."""
        return [self.entry(at) for at in range(self._count)]

    def add(self, address, int64_t now_ms, *, first_out=()):
        """Take in ``address``; returns its entry if it is new; see ``renew``.

        Args:
            address: Hearsay, or where it said itself that it is.
            now_ms: The monotonic clock.
            first_out: Who goes first if it is full; otherwise anybody.
        """
        if self.renew(address):
            return None
        return self.put(address, now_ms, first_out)

    def renew(self, address):
        """Hear again of a node that is in here; returns False if it is not.

        What this node knows itself is not overruled: the address of an entry changes
        only while nobody has met it there.
        """
        cdef object name = _name_of(address)
        return self.renew_named(address, name, PyObject_Hash(name))

    def hear_all(
        self,
        tuple addresses not None,
        Py_ssize_t count,
        int64_t now_ms,
        *,
        tuple barred not None,
        tuple expiring not None,
        dict up not None,
        first_out=(),
    ):
        """Take in hearsay: the first ``count`` of ``addresses``.

        Args:
            addresses: Who, and where that is said to be.
            count: How many of them count.
            now_ms: The monotonic clock.
            barred: Tables of names that are not to be in here.
            expiring: Tables of names that are not until a time.
            up: Who there is a channel to, and so exists.
            first_out: Who goes first if it is full; otherwise anybody.

        Returns:
            How many are new.
        """
        cdef Py_ssize_t at, found = 0
        cdef object address, name
        cdef PassiveEntry entry
        for at in range(min(count, PyTuple_GET_SIZE(addresses))):
            address = <object>PyTuple_GET_ITEM(addresses, at)
            name = _name_of(address)
            if self.renew_named(address, name, PyObject_Hash(name)):
                continue
            if _is_barred(name, barred, expiring, now_ms):
                continue
            entry = self.put(address, now_ms, first_out)
            entry.proven = name in up
            found += 1
        return found

    def met(self, address, int64_t now_ms):
        """Take in a node that there is, or was, a channel to."""
        cdef object name = _name_of(address)
        cdef Py_ssize_t at = self.find(name, PyObject_Hash(name))
        cdef PassiveEntry entry
        entry = self.put(address, now_ms, ()) if at < 0 else self.entry(at)
        if address[2]:
            entry.address = address
        entry.proven = True
        entry.last_seen_ms = now_ms
        entry.fail_count = 0
        return entry

    def pop(self, name):
        """Forget ``name``."""
        cdef Py_ssize_t at = self.find(name, PyObject_Hash(name))
        if at >= 0:
            self.remove(at)

    def clear(self):
        """Forget all."""
        self.drop_all()

    def take_spare(self):
        """The last one that had to make room and was not taken since."""
        if self._spares_from == self._spares_to:
            return None
        spare = <object>self._spares[self._spares_to - 1]
        self.remove_spare(self._spares_to - 1)
        return spare

    def failed(self, name, int64_t now_ms):
        """Count a failure of ``name``; returns whether that was one too many.

        A node that nobody ever met is given one try.
        """
        cdef Py_ssize_t at = self.find(name, PyObject_Hash(name))
        cdef PassiveEntry entry
        cdef int64_t wait_ms
        if at < 0:
            return False
        entry = self.entry(at)
        entry.fail_count += 1
        self._may_have_failed = True
        if not entry.proven or entry.fail_count >= self._max_fail_count:
            self.remove(at)
            return True
        wait_ms = _backoff_ms(entry.fail_count, self._base_backoff_ms)
        entry.backoff_until_ms = now_ms + wait_ms + <int64_t>self._rng.jitter(wait_ms // 8)
        return False

    def refused(self, name, int64_t now_ms):
        """Leave ``name`` alone for a while, longer each time, for it had no room."""
        cdef Py_ssize_t at = self.find(name, PyObject_Hash(name))
        cdef PassiveEntry entry
        cdef int64_t wait_ms
        if at < 0:
            return
        entry = self.entry(at)
        entry.refusals = min(entry.refusals + 1, REFUSALS_COUNTED)
        wait_ms = REFUSED_MS << (entry.refusals - 1)
        entry.backoff_until_ms = now_ms + wait_ms + <int64_t>self._rng.jitter(wait_ms // 2)

    def eligible(self, int64_t now_ms, unfit):
        """The entries that may be asked now, without the ``unfit``."""
        cdef list found = []
        cdef PassiveEntry entry
        cdef Py_ssize_t at
        for at in range(self._count):
            entry = self.entry(at)
            if entry.backoff_until_ms <= now_ms and entry.name not in unfit:
                found.append(entry)
        return found

    def first_free_ms(self, unfit, *, int64_t enough_ms):
        """When the first of them may be asked that is not ``unfit``; None: never.

        Args:
            unfit: Names that do not count.
            enough_ms: Of times up to this, any will do.
        """
        cdef bint is_known = False
        cdef int64_t first_ms = 0
        cdef PassiveEntry entry
        cdef Py_ssize_t at
        for at in range(self._count):
            entry = self.entry(at)
            if is_known and entry.backoff_until_ms >= first_ms:
                continue
            if entry.name not in unfit:
                is_known = True
                first_ms = entry.backoff_until_ms
                if first_ms <= enough_ms:
                    break
        return first_ms if is_known else None

    def sample(self, count, *, without=""):
        """At most ``count`` of the nodes that have not failed, in random order."""
        cdef list at_free = []      # positions: who is not chosen is not touched
        cdef Py_ssize_t at, left_out = self.find(without, PyObject_Hash(without))
        cdef bint look = self._may_have_failed, found = False
        for at in range(self._count):
            if look and self.entry(at).fail_count:
                found = True
            elif at != left_out:
                at_free.append(at)
        self._may_have_failed = found
        chosen = self._rng.sample(at_free, count)
        return [self.entry(place).address for place in chosen]

    def drop_aged(self, int64_t now_ms):
        """Forget whom nothing was seen of for too long; returns how many."""
        cdef int64_t oldest_ms = now_ms - self._max_age_ms
        cdef Py_ssize_t at = 0, dropped = 0
        while at < self._count:
            if self.entry(at).last_seen_ms < oldest_ms:
                self.remove(at)
                dropped += 1
            else:
                at += 1
        return dropped

    cdef int drop_all(self) except -1:
        while self._count:
            self.remove(self._count - 1)
        while self._spares_from < self._spares_to:
            self.remove_spare(self._spares_to - 1)
        return 0

    cdef inline PassiveEntry entry(self, Py_ssize_t at):
        return <PassiveEntry>self._entries[at]

    cdef Py_ssize_t find(self, object name, Py_hash_t hashed) except -2:
        cdef Py_ssize_t at
        cdef PassiveEntry entry
        for at in range(self._count):
            if self._hashes[at] == hashed:
                entry = <PassiveEntry>self._entries[at]
                if entry.name is name or entry.name == name:
                    return at
        return -1

    cdef bint renew_named(self, object address, object name, Py_hash_t hashed) except -1:
        cdef Py_ssize_t at = self.find(name, hashed)
        cdef PassiveEntry entry
        if at < 0:
            return False
        entry = <PassiveEntry>self._entries[at]
        if not entry.proven or entry.fail_count:
            entry.address = address
        return True

    cdef PassiveEntry put(self, object address, int64_t now_ms, object first_out):
        """Take in one that is not in here."""
        cdef PassiveEntry entry = PassiveEntry(address, now_ms)
        cdef Py_hash_t hashed = PyObject_Hash(entry.name)
        if self._count >= self._size_max:
            self.drop_one(first_out)
        if self._count == self._room:
            self.grow()
        Py_INCREF(entry)
        self._entries[self._count] = <PyObject *>entry
        self._hashes[self._count] = hashed
        self._count += 1
        return entry

    cdef int grow(self) except -1:
        cdef Py_ssize_t room = 2 * self._room if self._room else FIRST_ROOM
        cdef void *more = PyMem_Realloc(self._hashes, room * sizeof(Py_hash_t))
        if more is NULL:
            raise MemoryError("no memory for the passive view")
        self._hashes = <Py_hash_t *>more
        more = PyMem_Realloc(self._entries, room * sizeof(PyObject *))
        if more is NULL:
            raise MemoryError("no memory for the passive view")
        self._entries = <PyObject **>more
        self._room = room
        return 0

    cdef int remove(self, Py_ssize_t at) except -1:
        cdef PyObject *entry = self._entries[at]
        cdef Py_ssize_t behind = self._count - at - 1
        memmove(&self._entries[at], &self._entries[at + 1], behind * sizeof(PyObject *))
        memmove(&self._hashes[at], &self._hashes[at + 1], behind * sizeof(Py_hash_t))
        self._count -= 1
        Py_DECREF(<PassiveEntry>entry)
        return 0

    cdef int drop_one(self, object first_out) except -1:
        cdef Py_ssize_t at = -1
        cdef PassiveEntry dropped
        for name in first_out:
            at = self.find(name, PyObject_Hash(name))
            if at >= 0:
                break
        else:
            at = self._rng.below(self._count)
        dropped = self.entry(at)
        self.remove(at)
        if not dropped.fail_count:
            self.keep_spare(dropped.name, dropped.address)
        return 0

    cdef int keep_spare(self, object name, object address) except -1:
        cdef uint32_t hashed = <uint32_t>PyObject_Hash(name)
        cdef Py_ssize_t at
        if self._spares is NULL:
            self.make_room_for_spares()
        for at in range(self._spares_from, self._spares_to):
            if self._spare_hashes[at] == hashed and _name_of(<object>self._spares[at]) == name:
                self.remove_spare(at)
                break
        if self._spares_to - self._spares_from == SPARES_LIMIT:
            self.remove_spare(self._spares_from)
        if self._spares_to == SPARES_ROOM:
            self.move_spares()
        Py_INCREF(address)
        self._spares[self._spares_to] = <PyObject *>address
        self._spare_hashes[self._spares_to] = hashed
        self._spares_to += 1
        return 0

    cdef int make_room_for_spares(self) except -1:
        self._spare_hashes = <uint32_t *>PyMem_Malloc(SPARES_ROOM * sizeof(uint32_t))
        if self._spare_hashes is NULL:
            raise MemoryError("no memory for spares")
        self._spares = <PyObject **>PyMem_Malloc(SPARES_ROOM * sizeof(PyObject *))
        if self._spares is NULL:
            PyMem_Free(self._spare_hashes)
            self._spare_hashes = NULL
            raise MemoryError("no memory for spares")
        return 0

    cdef int move_spares(self) except -1:
        cdef Py_ssize_t count = self._spares_to - self._spares_from
        memmove(self._spares, &self._spares[self._spares_from], count * sizeof(PyObject *))
        memmove(
            self._spare_hashes,
            &self._spare_hashes[self._spares_from],
            count * sizeof(uint32_t),
        )
        self._spares_from, self._spares_to = 0, count
        return 0

    cdef int remove_spare(self, Py_ssize_t at) except -1:
        cdef PyObject *spare = self._spares[at]
        cdef Py_ssize_t behind = self._spares_to - at - 1
        if at == self._spares_from:
            self._spares_from += 1
        else:
            memmove(&self._spares[at], &self._spares[at + 1], behind * sizeof(PyObject *))
            memmove(
                &self._spare_hashes[at],
                &self._spare_hashes[at + 1],
                behind * sizeof(uint32_t),
            )
            self._spares_to -= 1
        Py_DECREF(<object>spare)
        return 0


def backoff_ms(int64_t fail_count, int64_t base_ms):
    """How long a node is left alone after ``fail_count`` failures in a row.

    Args:
        fail_count: At least 0.
        base_ms: ``base_backoff_ms``.

    Returns:
        ``base_ms`` doubled as often as it failed, at most ``BACKOFF_MS_MAX``.
    """
    return _backoff_ms(fail_count, base_ms)


cdef int64_t _backoff_ms(int64_t fail_count, int64_t base_ms) noexcept:
    if base_ms >= BACKOFF_MS_LIMIT:
        return BACKOFF_MS_LIMIT
    return min(base_ms << min(fail_count, DOUBLINGS_LIMIT), BACKOFF_MS_LIMIT)


cdef object _name_of(object address):
    if not PyTuple_Check(address) or PyTuple_GET_SIZE(address) != 3:
        raise TypeError(f"{address!r} is no address")
    return <object>PyTuple_GET_ITEM(address, 0)


cdef bint _is_barred(
    object name, tuple barred, tuple expiring, int64_t now_ms
) except -1:
    cdef dict table
    for table in barred:
        if name in table:
            return True
    for table in expiring:
        if table:
            until_ms = table.get(name)
            if until_ms is not None and now_ms < until_ms:
                return True
    return False
