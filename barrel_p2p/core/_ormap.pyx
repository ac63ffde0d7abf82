# cython: language_level=3, boundscheck=False, wraparound=False
"""A map that replicas write apart and merge alike. Types: ``_ormap.pyi``; model:
``tests/models/ormap.py``.

Entries lie in ``BUCKETS`` dicts by the hash of their key's bytes, so that the digest of
a bucket and the bucket itself cost nothing to find. A digest is the sum of its entries'
hashes, which one write changes by one subtraction and one addition.

Source: Shapiro, Preguica, Baquero, Zawirski, "A comprehensive study of Convergent and
Commutative Replicated Data Types", 2011 (last-writer-wins element set); the stamps are
those of the hybrid logical clock.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport (
    PyDict_DelItem,
    PyDict_GetItem,
    PyDict_Next,
    PyDict_SetDefault,
    PyDict_SetItem,
    PyDict_Size,
)
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
cimport cython

from barrel_p2p.core._hlc cimport HLC, Timestamp, new_timestamp
from barrel_p2p.core._terms cimport NODE_NAME_BYTES

from barrel_p2p.core._terms import check_node_name
from barrel_p2p.errors import InvalidValue, NotStarted

cdef extern from "codec/words.h":
    void bp_put32(uint8_t *p, uint32_t v) noexcept
    void bp_put64(uint8_t *p, uint64_t v) noexcept

cdef extern from "codec/xxh64.h":
    uint64_t bp_xxh64(const uint8_t *p, size_t n) noexcept

cdef extern from *:
    """
    #define bp_prefetch(p) __builtin_prefetch((p), 1)
    """
    void bp_prefetch(void *p) noexcept

cdef enum:
    AHEAD = 8              # Entries fetched into the cache before they are looked at.
    BUCKET_COUNT = 256
    BUCKET_SHIFT = 56      # The highest bits of a key's hash say its bucket.
    WINDOW_SHIFT = 16      # Tombstones lie together by 65,536 ms of their stamps.
    STAMPED = 8 + 8 + 4 + 1

BUCKETS = BUCKET_COUNT

# Canonical bytes of a key term. They are the wire's, which stands above this room.
cdef object _key_bytes = None


def set_key_bytes(key_bytes):
    """Let maps know their keys by ``key_bytes``. For ``barrel_p2p.wire.terms``."""
    global _key_bytes
    _key_bytes = key_bytes


include "_ormap_entries.pxi"


@cython.final
cdef class OrMap:
    """Keys and values that replicas add and remove apart, and that merging makes equal.

    Not thread-safe: it belongs to the node's event loop.

    Args:
        node: Name of the node whose writes ``add`` and ``remove`` are.
        clock: That node's clock; all its maps share one.

    Raises:
        InvalidValue: ``node`` is no node name.

    Guarantee:
        Maps that merged the same entries, in any order and however often, hold the same
        entries and have the same digest. Of two writes to a key the one with the
        greater (stamp, node) stays, whether it adds or removes.
    """

    cdef readonly str node
    cdef readonly HLC clock
    cdef readonly uint64_t horizon_ms    # greatest cutoff of gc_tombstones so far
    cdef list _buckets                   # of dict[bytes, Entry], None while empty
    cdef dict _dead                      # wall window -> dict[bytes, Entry]
    cdef Py_ssize_t _entries
    cdef Py_ssize_t _tombstones
    cdef uint64_t _sums[BUCKET_COUNT]

    def __cinit__(self, str node not None, HLC clock not None):
        self.node = check_node_name(node)
        self.clock = clock
        self._buckets = [None] * BUCKET_COUNT
        self._dead = {}

    def add(self, key, value):
        """Write ``value`` under ``key``.

        Args:
            key: A key term.
            value: Kept as it is, not copied; do not change it any more.

        Returns:
            The delta with this one entry, stamped once: what other replicas merge.

        Raises:
            NotEncodable: ``key`` is no key term.
            InvalidValue: ``value`` is ``TOMBSTONE``, or the clock is at its end.
            ClockDrift: What is there was stamped by a clock so far ahead that nothing
                written now can follow it. Nothing has changed.
        """
        if value is _tombstone:
            raise InvalidValue("TOMBSTONE cannot be added", hint="call remove(key)")
        return self._write(key, value)

    def remove(self, key):
        """Write a tombstone under ``key``, whether or not the map knows the key.

        Returns:
            The delta with the tombstone.

        Raises:
            NotEncodable: ``key`` is no key term.
            ClockDrift: As for ``add``.
        """
        return self._write(key, _tombstone)

    def get(self, key, default=None):
        """Return the value under ``key``, or ``default`` if there is none.

        Raises:
            NotEncodable: ``key`` is no key term.
        """
        cdef bytes name = _canonical(key)
        cdef Entry found = self._find(name, _hash_key(name))
        if found is None or found.value is _tombstone:
            return default
        return found.value

    def entry(self, key):
        """Return the entry under ``key``, also if it is a tombstone, or None.

        Raises:
            NotEncodable: ``key`` is no key term.
        """
        cdef bytes name = _canonical(key)
        return self._find(name, _hash_key(name))

    def __contains__(self, key):
        cdef bytes name = _canonical(key)
        cdef Entry found = self._find(name, _hash_key(name))
        return found is not None and found.value is not _tombstone

    def __len__(self):
        return self._entries - self._tombstones

    def is_empty(self):
        """Whether no key has a value. There may be tombstones, which travel too."""
        return self._entries == self._tombstones

    @property
    def tombstones(self):
        """How many removed keys are remembered."""
        return self._tombstones

    def keys(self):
        """Return the keys that have a value, in no order that means anything."""
        cdef Entry entry
        return [entry.key for entry in self._all() if entry.value is not _tombstone]

    def to_list(self):
        """Return the keys that have a value with it, in the order of ``keys``."""
        cdef Entry entry
        return [
            (entry.key, entry.value)
            for entry in self._all() if entry.value is not _tombstone
        ]

    def absorb_clock(self, dict delta not None):
        """Move the clock past every stamp of ``delta``; call it before ``merge``.

        Without it a later ``add`` could be older than what was merged. The clock is
        updated once, by the greatest stamp.

        Raises:
            ClockDrift: The greatest stamp is too far ahead; the clock is as it was.
        """
        cdef Entry entry
        cdef Entry latest = None
        for name, each in delta.items():
            if type(name) is not bytes or type(each) is not Entry:
                raise _no_delta(name, each)
            entry = <Entry>each
            if latest is None or _is_later(entry, latest):
                latest = entry
        if latest is not None:
            self.clock.update(new_timestamp(latest._wall_ms, latest._counter))

    def merge(self, dict delta not None):
        """Take from ``delta`` what beats the entries that are here.

        It costs what the delta costs, however large the map is.

        Args:
            delta: Entries by their keys' canonical bytes, from ``add``, ``remove``,
                ``bucket``, ``snapshot`` or ``barrel_p2p.wire.crdt_ingest``.

        Returns:
            What changed, in the order of the delta.

        Raises:
            TypeError: Something in ``delta`` is no ``Entry`` by bytes. What stood before
                it is merged.
        """
        cdef list changes = []
        cdef Change change
        cdef Entry entry
        cdef bytes name
        cdef PyObject *key_bytes
        cdef PyObject *each
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t ahead = 0
        for _ in range(AHEAD):
            _fetch(delta, &ahead)
        # Nothing in the loop runs code that could change the delta.
        while PyDict_Next(delta, &at, &key_bytes, &each):
            _fetch(delta, &ahead)
            if type(<object>key_bytes) is not bytes or type(<object>each) is not Entry:
                raise _no_delta(<object>key_bytes, <object>each)
            name = <bytes>key_bytes
            entry = <Entry>each
            change = self._offer(name, _hash_key(name), entry)
            if change is not None:
                changes.append(change)
        return changes

    def forget(self, key):
        """Drop what is known of ``key``, without a tombstone and on this node only.

        Returns:
            The entry that was there, or None.

        Raises:
            NotEncodable: ``key`` is no key term.
        """
        cdef bytes name = _canonical(key)
        cdef uint64_t hashed = _hash_key(name)
        cdef Entry found = self._find(name, hashed)
        if found is not None:
            self._take(name, hashed, found)
        return found

    def gc_tombstones(self, uint64_t cutoff_wall_ms):
        """Forget the tombstones stamped before ``cutoff_wall_ms``.

        It costs what it forgets, and not what the map holds. ``horizon_ms`` keeps the
        greatest cutoff: a value from before it, under a key that the map does not
        know, may have been removed long ago.

        Args:
            cutoff_wall_ms: Milliseconds since 1970-01-01 UTC.

        Returns:
            How many were forgotten.
        """
        cdef uint64_t last = cutoff_wall_ms >> WINDOW_SHIFT
        cdef Py_ssize_t before = self._tombstones
        cdef bytes name
        cdef Entry entry
        for window in [w for w in self._dead if w <= last]:
            for key_bytes, each in list((<dict>self._dead[window]).items()):
                name = <bytes>key_bytes
                entry = <Entry>each
                if entry._wall_ms < cutoff_wall_ms:
                    self._take(name, _hash_key(name), entry)
        self.horizon_ms = max(self.horizon_ms, cutoff_wall_ms)
        return before - self._tombstones

    def digest(self):
        """Return ``BUCKETS`` unsigned 64-bit sums, big endian, one for each bucket.

        Equal maps have equal digests. Where a sum differs, so do the buckets.
        """
        cdef bytes out = PyBytes_FromStringAndSize(NULL, BUCKET_COUNT * 8)
        cdef uint8_t *to = <uint8_t *>PyBytes_AS_STRING(out)
        cdef int i
        for i in range(BUCKET_COUNT):
            bp_put64(to + 8 * i, self._sums[i])
        return out

    def bucket(self, index):
        """Return the entries of one bucket, tombstones included, as a delta.

        Args:
            index: 0 to ``BUCKETS - 1``.

        Raises:
            InvalidValue: There is no such bucket.
        """
        if type(index) is not int or not 0 <= index < BUCKET_COUNT:
            raise InvalidValue(f"bucket {index!r} is not one of 0 to {BUCKET_COUNT - 1}")
        return dict(self._buckets[index] or ())

    def snapshot(self):
        """Return all entries, tombstones included, as a delta."""
        cdef dict every = {}
        for bucket in self._buckets:
            if bucket is not None:
                every.update(<dict>bucket)
        return every

    def __repr__(self):
        return (
            f"OrMap(node={self.node!r}, keys={len(self)}, "
            f"tombstones={self._tombstones})"
        )

    cdef list _all(self):
        cdef list every = []
        for bucket in self._buckets:
            if bucket is not None:
                every.extend((<dict>bucket).values())
        return every

    cdef dict _write(self, object key, object value):
        cdef bytes name = _canonical(key)
        cdef uint64_t hashed = _hash_key(name)
        cdef Entry before = self._find(name, hashed)
        cdef Timestamp stamp = self.clock.now()
        cdef Entry entry = _new_entry(key, stamp, self.node, value)
        if before is not None and not _is_later(entry, before):
            # Merged without absorb_clock: a write that cannot win must not be silent.
            stamp = self.clock.update(new_timestamp(before._wall_ms, before._counter))
            entry = _new_entry(key, stamp, self.node, value)
        self._put(name, hashed, before, entry)
        return {name: entry}

    cdef Entry _find(self, bytes name, uint64_t hashed):
        cdef object bucket = self._buckets[<Py_ssize_t>(hashed >> BUCKET_SHIFT)]
        cdef PyObject *found
        if bucket is None:
            return None
        found = PyDict_GetItem(bucket, name)
        return None if found == NULL else <Entry>found

    cdef int _put(self, bytes name, uint64_t hashed, Entry before, Entry entry) except -1:
        # Requires before to be what _find returns for name.
        cdef dict bucket = self._bucket(hashed)
        if entry._hash == 0:
            entry._hash = _hash_entry(entry, hashed)
        PyDict_SetItem(bucket, name, entry)
        return self._account(name, hashed, before, entry)

    cdef Change _offer(self, bytes name, uint64_t hashed, Entry entry):
        # Keep entry if it is new or beats what is there: _find and _put in one look.
        cdef dict bucket = self._bucket(hashed)
        cdef Py_ssize_t known = PyDict_Size(bucket)
        cdef Entry before = None
        cdef PyObject *found
        if entry._hash == 0:
            entry._hash = _hash_entry(entry, hashed)
        found = PyDict_SetDefault(bucket, name, entry)
        if PyDict_Size(bucket) == known:
            before = <Entry>found
            if not _beats(entry, before):
                return None
            PyDict_SetItem(bucket, name, entry)
        self._account(name, hashed, before, entry)
        return _new_change(name, before, entry)

    cdef dict _bucket(self, uint64_t hashed):
        cdef Py_ssize_t index = <Py_ssize_t>(hashed >> BUCKET_SHIFT)
        cdef object bucket = self._buckets[index]
        if bucket is None:
            bucket = self._buckets[index] = {}
        return <dict>bucket

    cdef int _account(
        self, bytes name, uint64_t hashed, Entry before, Entry entry
    ) except -1:
        cdef Py_ssize_t index = <Py_ssize_t>(hashed >> BUCKET_SHIFT)
        if before is None:
            self._entries += 1
        else:
            self._sums[index] -= before._hash
            if before.value is _tombstone:
                self._bury(name, before, None)
        self._sums[index] += entry._hash
        if entry.value is _tombstone:
            self._bury(name, None, entry)
        return 0

    cdef int _take(self, bytes name, uint64_t hashed, Entry entry) except -1:
        # Requires entry to be what _find returns for name.
        cdef Py_ssize_t index = <Py_ssize_t>(hashed >> BUCKET_SHIFT)
        cdef dict bucket = <dict>self._buckets[index]
        PyDict_DelItem(bucket, name)
        if not bucket:
            self._buckets[index] = None
        self._entries -= 1
        self._sums[index] -= entry._hash
        if entry.value is _tombstone:
            self._bury(name, entry, None)
        return 0

    cdef int _bury(self, bytes name, Entry gone, Entry new) except -1:
        # Keep the tombstones where gc_tombstones finds them.
        cdef object window
        cdef dict grave
        if gone is not None:
            window = gone._wall_ms >> WINDOW_SHIFT
            grave = <dict>self._dead[window]
            PyDict_DelItem(grave, name)
            if not grave:
                del self._dead[window]
            self._tombstones -= 1
        if new is not None:
            window = new._wall_ms >> WINDOW_SHIFT
            grave = <dict>self._dead.get(window)
            if grave is None:
                grave = self._dead[window] = {}
            PyDict_SetItem(grave, name, new)
            self._tombstones += 1
        return 0


cdef bytes _canonical(object key):
    if _key_bytes is None:
        raise NotStarted(
            "keys have no bytes yet", hint="import barrel_p2p.wire.terms first"
        )
    return <bytes?>_key_bytes(key)


cdef object _no_delta(object name, object entry):
    return TypeError(
        "a delta holds Entry objects by bytes, not a "
        f"{type(entry).__name__} by a {type(name).__name__}"
    )


cdef inline void _fetch(dict delta, Py_ssize_t *ahead) noexcept:
    # Half of a large merge's time is waiting for memory, entry by entry.
    cdef PyObject *name
    cdef PyObject *entry
    if PyDict_Next(delta, ahead, &name, &entry):
        bp_prefetch(name)
        bp_prefetch(entry)


cdef Entry _new_entry(object key, Timestamp stamp, str node, object value):
    # Requires node to be a node name.
    cdef Entry entry = <Entry>Entry.__new__(Entry)
    entry.key = key
    entry.node = node
    entry.value = value
    entry._wall_ms = stamp.wall_ms
    entry._counter = stamp.counter
    return entry


cdef Change _new_change(bytes name, Entry before, Entry after):
    cdef Change change = <Change>Change.__new__(Change)
    change.key_bytes = name
    change.before = before
    change.after = after
    return change


cdef inline bint _is_later(Entry a, Entry b) noexcept:
    if a._wall_ms != b._wall_ms:
        return a._wall_ms > b._wall_ms
    return a._counter > b._counter


cdef inline bint _beats(Entry a, Entry b) except -1:
    if a._wall_ms != b._wall_ms:
        return a._wall_ms > b._wall_ms
    if a._counter != b._counter:
        return a._counter > b._counter
    if a.node is not b.node and a.node != b.node:
        return a.node > b.node
    return a.value is _tombstone and b.value is not _tombstone


cdef inline uint64_t _hash_key(bytes name) noexcept:
    return bp_xxh64(
        <const uint8_t *>PyBytes_AS_STRING(name), <size_t>PyBytes_GET_SIZE(name)
    )


cdef uint64_t _hash_entry(Entry entry, uint64_t key_hash) except? 0:
    # The key's hash, the stamp, the kind, the node's name; see wire.md, "Digests".
    cdef uint8_t text[STAMPED + NODE_NAME_BYTES]
    cdef Py_ssize_t size = 0
    cdef const char *node = PyUnicode_AsUTF8AndSize(entry.node, &size)
    if node == NULL or size > NODE_NAME_BYTES:
        raise InvalidValue(f"{entry!r} was not made by a constructor")
    bp_put64(text, key_hash)
    bp_put64(text + 8, entry._wall_ms)
    bp_put32(text + 16, entry._counter)
    text[20] = entry.value is _tombstone
    memcpy(text + STAMPED, node, <size_t>size)
    return bp_xxh64(text, STAMPED + <size_t>size)
