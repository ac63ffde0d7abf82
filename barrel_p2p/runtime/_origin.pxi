@cython.final
cdef class Origin:
    """Who sends: a process of a node, or the node itself."""

    def __init__(self, Switch switch, uint64_t id, process):
        self.switch = switch
        self.id = id
        self.process = process


cdef Origin origin_for(Pid pid):
    # The origin of the running code: its process's, else the one node there is.
    cdef PyObject *found = NULL
    cdef Origin origin
    cdef Switch switch
    PyContextVar_Get(_ORIGIN, NULL, &found)
    if found != NULL:
        origin = <Origin>found
        Py_DECREF(origin)
        if origin.switch.loop is not None:
            return origin
    if len(_switches) == 1:
        return (<Switch>_switches[0]).origin
    if pid is not None:
        for switch in _switches:
            if switch.name == pid.node:
                return switch.origin
    if not _switches:
        raise NotStarted("no node runs in this process")
    names = ", ".join(sorted([(<Switch>switch).name for switch in _switches]))
    raise NotStarted(
        f"several nodes run in this process ({names}) and this code belongs to none",
        hint="use the methods of the node that shall send: node.send(pid, message)",
    )


def origin(pid=None):
    """Who the running code is: its process, or the one node that runs here.

    Args:
        pid: Helps to choose among several nodes: the one it belongs to.

    Raises:
        NotStarted: No node runs here, or several do and this code belongs to none.
    """
    return origin_for(pid)


@cython.final
cdef class Verbs:
    """What a pid can do. See ``core.terms.Pid``.

    Args:
        call: Makes the coroutine of a call.
        exit: Makes the coroutine of an exit signal.
    """

    cdef object _call
    cdef object _exit

    def __init__(self, call, exit):
        self._call = call
        self._exit = exit

    def is_local(self, Pid pid):
        """Whether ``pid`` belongs to this life of the running code's node."""
        cdef Switch switch = origin_for(pid).switch
        return pid.node == switch.name and pid.creation == switch.creation

    def send(self, pid, message):
        """An awaitable that is done at once unless there is no room."""
        cdef Origin me = origin_for(pid)
        if me.switch.tell(me.id, pid, message):
            return _DONE
        return tell_later(me, pid, message, False)

    def cast(self, pid, request):
        """The same for a request."""
        cdef Origin me = origin_for(pid)
        if me.switch.tell(me.id, pid, request, True):
            return _DONE
        return tell_later(me, pid, request, True)

    def send_nowait(self, Pid pid, message):
        """Send or raise."""
        cdef Origin me = origin_for(pid)
        if me.switch.tell(me.id, pid, message):
            return
        if pid.node != me.switch.name and pid.node not in me.switch.lines:
            raise NotConnected(
                f"there is no channel to {pid.node}", peer=pid.node,
                hint="`await pid.send(...)` opens one",
            )
        raise Busy(
            f"there is no room for a message to {pid!r}", peer=pid.node,
            hint="`await pid.send(...)` waits for room",
        )

    def call(self, pid, request, timeout):
        """The coroutine of a call."""
        return self._call(origin_for(pid), pid, request, timeout)

    def exit(self, pid, reason):
        """The coroutine of an exit signal."""
        return self._exit(origin_for(pid), pid, reason)


async def tell_later(Origin me, pid, message, bint cast):
    """Send as soon as there is a way and room."""
    while not me.switch.tell(me.id, pid, message, cast):
        await me.switch.way(me.id, pid)
