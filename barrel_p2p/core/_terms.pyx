# cython: language_level=3, boundscheck=False, wraparound=False
"""Atoms, pids and references: what Erlang has and Python lacks. Types: ``_terms.pyi``.

All three are immutable values. Their hashes mix in the secret with which Python hashes
strings, so that a peer cannot choose pids or references that collide.

Source: Erlang/OTP, ERTS User's Guide, "External Term Format".
"""

from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp
cimport cython

from barrel_p2p.errors import InvalidValue, NotStarted

ATOM_CHARS_MAX = ATOM_CHARS
NODE_NAME_BYTES_MAX = NODE_NAME_BYTES
REF_WORDS_MAX = REF_WORDS

_NODE_NAME_HINT = (
    "a node name is name@host; both parts are made of a-z 0-9 _ . - and "
    "neither starts with '.' or '-' or ends with '.'"
)

# What a pid can do, once something runs that can do it. See set_verbs().
cdef object _verbs = None

# Set while new_atom(), new_pid() or new_ref() call a constructor without arguments.
cdef bint _caller_fills = False


@cython.final
@cython.freelist(64)
cdef class Atom:
    """A name that is no text: equal to an ``Atom`` of the same name and to nothing else.

    Python keeps no table of atoms, so those a peer makes up are freed like any value.

    Args:
        name: 0 to ``ATOM_CHARS_MAX`` characters that UTF-8 can carry. The names
            ``undefined``, ``true`` and ``false`` belong to None, True and False.

    Raises:
        InvalidValue: ``name`` is none of these.
    """

    __match_args__ = ("name",)

    def __cinit__(self, name=None):
        self.name = "" if _caller_fills else _atom_name(name)

    def __eq__(self, other):
        if type(other) is not Atom:
            return NotImplemented
        return self.name == (<Atom>other).name

    def __hash__(self):
        return <Py_hash_t>_mix(<uint64_t>hash(self.name), 0x41)

    def __str__(self):
        return self.name

    def __repr__(self):
        return f"Atom({self.name!r})"

    def __reduce__(self):
        # copy.copy and copy.deepcopy come this way.
        return Atom, (self.name,)


@cython.final
@cython.freelist(64)
cdef class Pid:
    """The address of one process. Equal when node, id and creation are.

    Args:
        node: Node name: at most ``NODE_NAME_BYTES_MAX`` bytes, ``name@host``.
        id: 0 to 2**64 - 1, never used twice by one creation of a node.
        creation: 0 to 2**32 - 1, tells one life of a node from the next.

    Raises:
        InvalidValue: An argument is not of its type or out of range.
    """

    __match_args__ = ("node", "id", "creation")

    def __cinit__(self, node=None, id=None, creation=None):
        if _caller_fills:
            self.node = ""
            return
        self.node = _node_name(node)
        self.id = _unsigned("id", id, 64)
        self.creation = <uint32_t>_unsigned("creation", creation, 32)

    def is_local(self):
        """Whether it is a process of the running code's node, in this life of it."""
        return _started().is_local(self)

    def send(self, message):
        """Send ``message``; await the result, which waits only for room.

        What is sent to a process that is gone is dropped. Messages between two processes
        keep their order while the channel lives.

        Raises:
            NotEncodable: ``message`` has no form on the wire.
            PeerUnreachable: There is no channel to the node, and none can be opened.
            NotStarted: No node runs here, or several do and this code belongs to none.
        """
        return _started().send(self, message)

    def send_nowait(self, message):
        """Send ``message`` without waiting or dialling.

        Raises:
            Busy: There is no room; ``message`` was not sent.
            NotConnected: There is no channel to the node.
            NotEncodable: ``message`` has no form on the wire.
        """
        _started().send_nowait(self, message)

    def call(self, request, *, timeout=5.0):
        """Ask for an answer, and await it for ``timeout`` seconds (None: for ever).

        Cancelling it, or its timeout, cancels the work on the other side.

        Raises:
            CallTimeout: No answer came in time.
            NoProc: The process is gone.
            PeerUnreachable: The channel is down, or cannot be opened.
            RemoteError: The process answered with an error.
            NotEncodable: ``request`` has no form on the wire.
        """
        return _started().call(self, request, timeout)

    def cast(self, request):
        """Send a request that wants no answer; as ``send``."""
        return _started().cast(self, request)

    def exit(self, reason="normal"):
        """Send an exit signal, as Erlang's ``exit/2``; await the result."""
        return _started().exit(self, reason)

    def __eq__(self, other):
        if type(other) is not Pid:
            return NotImplemented
        cdef Pid that = <Pid>other
        return (
            self.id == that.id
            and self.creation == that.creation
            and self.node == that.node
        )

    def __hash__(self):
        return <Py_hash_t>_mix(_mix(<uint64_t>hash(self.node), self.id), self.creation)

    def __repr__(self):
        return f"Pid(node={self.node!r}, id={self.id}, creation={self.creation})"

    def __reduce__(self):
        return Pid, (self.node, self.id, self.creation)


@cython.final
cdef class Ref:
    """A name for one call, monitor or timer that no node uses twice.

    Args:
        node: Node name, as for ``Pid``.
        creation: 0 to 2**32 - 1.
        words: 1 to ``REF_WORDS_MAX`` integers of 0 to 2**32 - 1, opaque to all others.

    Raises:
        InvalidValue: An argument is not of its type or out of range.
    """

    __match_args__ = ("node", "creation", "words")

    def __cinit__(self, node=None, creation=None, words=None):
        if _caller_fills:
            self.node = ""
            return
        self.node = _node_name(node)
        self.creation = <uint32_t>_unsigned("creation", creation, 32)
        if type(words) is not tuple or not 1 <= len(words) <= REF_WORDS:
            raise InvalidValue(
                f"words of a Ref are a tuple of 1 to REF_WORDS_MAX={REF_WORDS} integers"
            )
        for word in words:
            self.word[self.word_count] = <uint32_t>_unsigned("word", word, 32)
            self.word_count += 1

    @property
    def words(self):
        """The opaque part, 1 to ``REF_WORDS_MAX`` integers below 2**32."""
        return tuple([self.word[i] for i in range(self.word_count)])

    def __eq__(self, other):
        if type(other) is not Ref:
            return NotImplemented
        cdef Ref that = <Ref>other
        return (
            self.word_count == that.word_count
            and memcmp(self.word, that.word, self.word_count * sizeof(uint32_t)) == 0
            and self.creation == that.creation
            and self.node == that.node
        )

    def __hash__(self):
        cdef uint64_t mixed = _mix(<uint64_t>hash(self.node), self.creation)
        cdef int i
        for i in range(self.word_count):
            mixed = _mix(mixed, self.word[i])
        return <Py_hash_t>mixed

    def __repr__(self):
        return f"Ref(node={self.node!r}, creation={self.creation}, words={self.words})"

    def __reduce__(self):
        return Ref, (self.node, self.creation, self.words)


def set_verbs(verbs):
    """Let pids act through ``verbs``. For the runtime, which stands above this room."""
    global _verbs
    _verbs = verbs


cdef object _started():
    if _verbs is None:
        raise NotStarted("no node runs in this process")
    return _verbs


cdef Atom new_atom(str name):
    global _caller_fills
    cdef Atom made
    _caller_fills = True
    try:
        made = <Atom>Atom.__new__(Atom)
    finally:
        _caller_fills = False
    made.name = name
    return made


cdef Pid new_pid(str node, uint64_t id, uint32_t creation):
    global _caller_fills
    cdef Pid made
    _caller_fills = True
    try:
        made = <Pid>Pid.__new__(Pid)
    finally:
        _caller_fills = False
    made.node = node
    made.id = id
    made.creation = creation
    return made


cdef Ref new_ref(str node, uint32_t creation):
    global _caller_fills
    cdef Ref made
    _caller_fills = True
    try:
        made = <Ref>Ref.__new__(Ref)
    finally:
        _caller_fills = False
    made.node = node
    made.creation = creation
    return made


def check_node_name(node):
    """``node`` itself, if it is a node name.

    Args:
        node: At most ``NODE_NAME_BYTES_MAX`` bytes, ``name@host`` in lower case.

    Raises:
        InvalidValue: It is no str, or no node name.
    """
    return _node_name(node)


cdef inline uint64_t _mix(uint64_t state, uint64_t value) noexcept nogil:
    # MurmurHash3's finaliser. It is a permutation that nobody can steer who does not
    # know the state, and the state starts as the hash of a string.
    cdef uint64_t x = state ^ value
    x = (x ^ (x >> 33)) * <uint64_t>0xFF51AFD7ED558CCD
    x = (x ^ (x >> 33)) * <uint64_t>0xC4CEB9FE1A85EC53
    return x ^ (x >> 33)


cdef bint is_reserved(const uint8_t *text, size_t size) noexcept nogil:
    if size == 4:
        return memcmp(text, b"true", 4) == 0
    if size == 5:
        return memcmp(text, b"false", 5) == 0
    return size == 9 and memcmp(text, b"undefined", 9) == 0


cdef bint is_node_name(const uint8_t *text, size_t size) noexcept nogil:
    cdef size_t i
    cdef size_t at = 0
    cdef uint8_t c
    cdef uint8_t before = c"@"     # A part may not start with what follows this.
    cdef bint seen = False
    if size == 0 or size > NODE_NAME_BYTES:
        return False
    for i in range(size):
        c = text[i]
        if c == c"@":
            if seen or before == c"@" or before == c".":
                return False
            seen = True
        elif before == c"@" and (c == c"." or c == c"-"):
            return False
        elif not (
            c"a" <= c <= c"z" or c"0" <= c <= c"9" or c in (c"_", c".", c"-")
        ):
            return False
        before = c
    return seen and before != c"@" and before != c"."


cdef str _atom_name(object name):
    cdef Py_ssize_t size = 0
    cdef const char *text
    if type(name) is not str:
        raise InvalidValue(f"the name of an Atom is a {type(name).__name__}, not a str")
    if len(name) > ATOM_CHARS:
        raise InvalidValue(
            f"atom {name[:32]!r}... has {len(name)} characters, more than "
            f"ATOM_CHARS_MAX={ATOM_CHARS}"
        )
    try:
        text = PyUnicode_AsUTF8AndSize(name, &size)
    except UnicodeEncodeError as error:
        raise InvalidValue(f"atom {name!r} has no form in UTF-8") from error
    if is_reserved(<const uint8_t *>text, <size_t>size):
        raise InvalidValue(
            f"atom {name!r} stands for a value of Python",
            hint="use None for undefined, True for true, False for false",
        )
    return name


cdef str _node_name(object node):
    cdef Py_ssize_t size = 0
    cdef const char *text
    if type(node) is not str:
        raise InvalidValue(f"a node name is a str, not a {type(node).__name__}")
    if len(node) > NODE_NAME_BYTES:
        raise InvalidValue(
            f"node name {node[:32]!r}... has {len(node)} characters, more than "
            f"NODE_NAME_BYTES_MAX={NODE_NAME_BYTES}"
        )
    if node.isascii():
        text = PyUnicode_AsUTF8AndSize(node, &size)
        if is_node_name(<const uint8_t *>text, <size_t>size):
            return node
    raise InvalidValue(f"{node!r} is no node name", hint=_NODE_NAME_HINT)


cdef uint64_t _unsigned(str name, object value, int bits) except? 0:
    if type(value) is not int:
        raise InvalidValue(f"{name} is a {type(value).__name__}, not an int")
    if value < 0 or value.bit_length() > bits:
        raise InvalidValue(f"{name}={hex(value)[:40]} is not within 0 to 2**{bits} - 1")
    return value
