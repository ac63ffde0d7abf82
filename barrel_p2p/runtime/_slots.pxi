@cython.final
cdef class Slots:
    """Values by a number that is never used again: a slot, and how often it was used."""

    def __cinit__(self):
        self.items = []
        self.free = []
        self.ids = NULL
        self.room = 0
        self.count = 0

    def __dealloc__(self):
        free(self.ids)

    def __len__(self):
        return self.count

    cdef uint64_t add(self, object value) except 0:
        cdef size_t slot
        cdef uint64_t *ids
        if self.free:
            slot = self.free.pop()
        else:
            slot = len(self.items)
            if slot >= _slots_max:
                raise Busy(f"{slot} processes or calls at once is the limit")
            if slot >= self.room:
                ids = <uint64_t *>realloc(self.ids, 2 * (self.room + 32) * sizeof(uint64_t))
                if ids == NULL:
                    raise MemoryError
                self.ids = ids
                self.room = 2 * (self.room + 32)
            self.ids[slot] = slot
            self.items.append(None)
        self.ids[slot] += <uint64_t>1 << SLOT_BITS
        self.items[slot] = value
        self.count += 1
        return self.ids[slot]

    cdef object find(self, uint64_t id):
        cdef size_t slot = id & ((1 << SLOT_BITS) - 1)
        if slot >= <size_t>len(self.items) or self.ids[slot] != id:
            return None
        return self.items[slot]

    cdef object remove(self, uint64_t id):
        cdef size_t slot = id & ((1 << SLOT_BITS) - 1)
        cdef object value = self.find(id)
        if value is not None:
            self.items[slot] = None
            self.free.append(slot)
            self.count -= 1
        return value

    def values(self):
        """What is held now, as a list."""
        return [item for item in self.items if item is not None]
