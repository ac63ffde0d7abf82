# What a map holds and what it tells of a merge.


@cython.final
cdef class _Tombstone:
    def __repr__(self):
        return "TOMBSTONE"

    def __reduce__(self):
        # A name: copies are the same object, and ``is`` goes on working.
        return "TOMBSTONE"


TOMBSTONE = _Tombstone()
cdef object _tombstone = TOMBSTONE


# Values are terms, and a term cannot hold an entry: there is no cycle to collect.
@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Entry:
    """What one key holds, and who wrote it when. Immutable.

    Args:
        key: A key term.
        stamp: The writer's clock when it wrote.
        node: The writer's name.
        value: What was written, which must not be changed any more; ``TOMBSTONE`` for
            a key that was removed.

    Raises:
        InvalidValue: ``node`` is no node name.
    """

    __match_args__ = ("key", "stamp", "node", "value")

    cdef readonly object key
    cdef readonly str node
    cdef readonly object value
    cdef uint64_t _wall_ms
    cdef uint64_t _hash          # 0 until it is asked for
    cdef uint32_t _counter

    def __init__(self, key, Timestamp stamp not None, str node not None, value):
        self.key = key
        self.node = check_node_name(node)
        self.value = value
        self._wall_ms = stamp.wall_ms
        self._counter = stamp.counter

    @property
    def stamp(self):
        """When it was written, by the writer's clock."""
        return new_timestamp(self._wall_ms, self._counter)

    @property
    def wall_ms(self):
        """The wall part of ``stamp``, in milliseconds."""
        return self._wall_ms

    @property
    def is_tombstone(self):
        """Whether it says that the key was removed."""
        return self.value is _tombstone

    def beats(self, Entry other not None):
        """Whether it takes the place of ``other`` under the same key.

        The greater stamp wins, then the greater node name, byte by byte. An owner
        never stamps two writes alike; should two entries still be equal in both, a
        tombstone wins.
        """
        return _beats(self, other)

    def __eq__(self, other):
        if type(other) is not Entry:
            return NotImplemented
        cdef Entry that = <Entry>other
        return (
            self._wall_ms == that._wall_ms
            and self._counter == that._counter
            and self.node == that.node
            and self.key == that.key
            and self.value == that.value
        )

    def __repr__(self):
        return (
            f"Entry(key={self.key!r}, stamp={self.stamp!r}, node={self.node!r}, "
            f"value={self.value!r})"
        )

    def __reduce__(self):
        return Entry, (self.key, self.stamp, self.node, self.value)


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Change:
    """One key whose entry a merge has replaced.

    ``before`` is None for a key that the map knew nothing of. ``key_bytes`` are the
    key's canonical bytes, under which a delta holds it.
    """

    __match_args__ = ("key", "before", "after")

    cdef readonly bytes key_bytes
    cdef readonly Entry before
    cdef readonly Entry after

    def __init__(self, bytes key_bytes not None, Entry before, Entry after not None):
        self.key_bytes = key_bytes
        self.before = before
        self.after = after

    @property
    def key(self):
        """The key that changed."""
        return self.after.key

    def __eq__(self, other):
        if type(other) is not Change:
            return NotImplemented
        cdef Change that = <Change>other
        return (
            self.key_bytes == that.key_bytes
            and self.before == that.before
            and self.after == that.after
        )

    def __repr__(self):
        return (
            f"Change(key={self.key!r}, before={self.before!r}, after={self.after!r})"
        )
