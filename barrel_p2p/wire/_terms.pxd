"""Terms for compiled callers: encode in place, decode from a lent buffer, raise once.

Nothing here raises but ``term_raise`` and nothing runs Python code, so pointers into
buffers that Python code might move stay valid for the call.
"""

from cpython.object cimport PyObject
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t


# A place for bytes under construction. ``grow`` makes room for ``more`` bytes after the
# first ``used``, which it keeps; it may move ``base`` and must update ``base`` and
# ``room``. It returns 0, or anything else when there is no more room.
ctypedef struct TermBuffer:
    uint8_t *base
    size_t used
    size_t room
    int (*grow)(TermBuffer *out, size_t more) noexcept
    void *owner


# Why a call failed. ``where`` is owned, and released by ``term_raise`` or ``term_forget``.
ctypedef struct TermFault:
    int code             # BP_E_TERM_*, 0 for none
    int tag              # reading: the tag at offset, -1 when there is none
    size_t offset        # reading: the byte that is wrong, from the start of the term
    uint64_t got         # what exceeded the limit, where one did
    uint64_t limit
    PyObject *where      # writing: a str that names the value; reading: NULL


ctypedef struct TermLimits:
    size_t bytes_max
    size_t memory_max    # 0: in proportion to the bytes, as wire.limits says
    int depth_max        # 1 to TERM_DEPTH_MAX


# The limits of barrel_p2p.wire.limits.
cdef TermLimits term_limits() noexcept

# Append ``value`` with its version byte. Returns 0, or a BP_E_TERM_* with the fault set
# and ``out.used`` as it was.
cdef int term_write(TermBuffer *out, PyObject *value, TermFault *fault) noexcept

# The value of the term with its version byte that fills ``data`` exactly: a new
# reference, or NULL with the fault set. ``limits`` may be NULL. The bytes are copied.
cdef PyObject *term_read(
    const uint8_t *data, size_t size, const TermLimits *limits, TermFault *fault
) noexcept

# Raise the exception that describes a fault: WireError, blaming ``peer`` (a str or
# None), when reading, NotEncodable when writing.
cdef int term_raise(TermFault *fault, bint reading, object peer) except -1
cdef void term_forget(TermFault *fault) noexcept
