# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
"""Virtual time: what happens when, one list of calls for each millisecond.

Most events fall into a millisecond that has others already, so adding one is a lookup
and an append; only a new millisecond enters the heap. Events of one millisecond run in
the order in which they were added, which makes a run a function of its seed.

Types: ``_schedule.pyi``; model: ``tests/models/schedule.py``.
"""

from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t
cimport cython

from heapq import heappop, heappush

from barrel_p2p.errors import InvalidValue

cdef extern from "Python.h":
    PyObject *PyDict_GetItemWithError(dict, object) except? NULL


cdef class Task:
    """A call that the agenda makes without Python."""

    cdef int run(self, object a, object b) except -1:
        raise TypeError(f"{type(self).__name__} does nothing")

    def __call__(self, a, b):
        self.run(a, b)


@cython.final
cdef class Schedule:
    """An agenda and its clock.

    Attributes:
        now_ms: Virtual milliseconds since the run began.
        events: How many calls were made.
    """

    def __cinit__(self):
        self._buckets = {}
        self._times = []

    def at(self, int64_t when_ms, call, a, b):
        """Make ``call(a, b)`` at ``when_ms``, after all that was added for then.

        Args:
            when_ms: Not before ``now_ms``.
            call: What to call; it may add further events, also for this millisecond.
            a: Its first argument.
            b: Its second argument.

        Raises:
            InvalidValue: ``when_ms`` is over.
        """
        self.add(when_ms, call, a, b)

    cdef int add(self, int64_t when_ms, object call, object a, object b) except -1:
        cdef object when = when_ms
        cdef PyObject *found = PyDict_GetItemWithError(self._buckets, when)
        cdef list bucket
        if found is not NULL:
            bucket = <list>found
            bucket.append(call)
            bucket.append(a)
            bucket.append(b)
            return 0
        if when_ms < self.now_ms:
            raise InvalidValue(f"an event at {when} ms, and it is {self.now_ms} ms")
        self._buckets[when] = [call, a, b]
        heappush(self._times, when)
        return 0

    def run_until(self, int64_t end_ms):
        """Make all calls up to and including ``end_ms``, which it is afterwards.

        Returns:
            How many calls that were.
        """
        cdef list times = self._times, bucket
        cdef Py_ssize_t at
        cdef int64_t made = 0
        cdef object call
        while times and times[0] <= end_ms:
            # The list stays in `_buckets` while it runs, so that calls added for this
            # millisecond join it and the loop reaches them.
            self.now_ms = times[0]
            bucket = self._buckets[times[0]]
            at = 0
            while at < PyList_GET_SIZE(bucket):
                call = <object>PyList_GET_ITEM(bucket, at)
                if isinstance(call, Task):
                    (<Task>call).run(bucket[at + 1], bucket[at + 2])
                else:
                    call(bucket[at + 1], bucket[at + 2])
                at += 3
            made += at // 3
            del self._buckets[heappop(times)]
        self.now_ms = max(self.now_ms, end_ms)
        self.events += made
        return made

    def __len__(self):
        return sum([len(bucket) for bucket in self._buckets.values()]) // 3
