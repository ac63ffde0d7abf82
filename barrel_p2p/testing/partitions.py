"""Cut the network between running nodes: their datagrams are lost in the kernel.

A socket filter on each node's UDP sockets drops what comes from the others' ports. So
both what is up and what is dialled is cut, silently, as by a cable that is pulled; no
rights are needed, and no code of a node knows of it. Nodes must be of this process.

Source: Linux, Documentation/networking/filter.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from barrel_p2p.errors import InvalidValue, NotStarted
from barrel_p2p.node.node import Node

__all__ = ["PORTS_MAX", "partition"]

PORTS_MAX: Final = 2_000
"""Ports that one node can be cut from: a filter has at most 4,096 instructions."""

# asm-generic/socket.h, linux/bpf_common.h
_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_LOAD_HALF = 0x28
_JUMP_IF_EQUAL = 0x15
_RETURN = 0x06
_WHOLE = 0xFFFF_FFFF

# By node, the ports of each cut that is in force.
_cuts: WeakKeyDictionary[Node, dict[object, frozenset[int]]] = WeakKeyDictionary()


@contextlib.contextmanager
def partition(
    nodes_a: Node | Iterable[Node],
    nodes_b: Node | Iterable[Node],
    *,
    one_way: bool = False,
    noticed: bool = False,
) -> Iterator[None]:
    """Lose every datagram between two groups of nodes, until the block ends.

    Nodes find out as they would of a real cut: what they send is not answered, and
    their channels end after ``idle_timeout_ms``. Within a group nothing changes, and
    nodes of neither group reach both. Cuts may overlap; each heals on its own.

    Args:
        nodes_a: Running nodes of this process.
        nodes_b: Others.
        one_way: Lose only what ``nodes_a`` send to ``nodes_b``.
        noticed: End the channels across the cut at once, instead of in a while.

    Raises:
        InvalidValue: A node is in both groups, or one is cut from more than
            ``PORTS_MAX`` ports. Nothing was cut.
        NotStarted: A node does not run. Nothing was cut.
        OSError: The kernel takes no filter, or there is no ``/proc``.

    Guarantee:
        Of what is sent after it begins, nothing arrives until it ends. Not cut: what
        lies in a receiver's buffer already; sockets that a node opens later, when it is
        started again or dials with ``ConnectOptions(local=...)``; and what travels
        through a relay.
    """
    first, second = _group(nodes_a), _group(nodes_b)
    both = sorted(node.name for node in first if node in second)
    if both:
        raise InvalidValue(f"on both sides of a partition: {', '.join(both)}")
    cut = object()
    wanted = _wanted(first, second, one_way)
    for node, ports in wanted.items():
        _check_ports(node, ports)
    try:
        for node, ports in wanted.items():
            _cuts.setdefault(node, {})[cut] = ports
            _apply(node)
        if noticed:
            for one in first:
                for other in second:
                    one.disconnect(other)
                    other.disconnect(one)
        yield
    finally:
        for node in wanted:
            _cuts[node].pop(cut, None)
            with contextlib.suppress(NotStarted):  # It was stopped meanwhile.
                _apply(node)


def _group(nodes: Node | Iterable[Node]) -> list[Node]:
    return [nodes] if isinstance(nodes, Node) else list(nodes)


def _wanted(
    first: list[Node], second: list[Node], one_way: bool
) -> dict[Node, frozenset[int]]:
    """Which ports each node is not to hear any more."""
    ports = {node: _ports(node) for node in (*first, *second)}
    wanted = {node: frozenset().union(*(ports[n] for n in first)) for node in second}
    if not one_way:
        for node in first:
            wanted[node] = frozenset().union(*(ports[n] for n in second))
    return wanted


def _check_ports(node: Node, ports: frozenset[int]) -> None:
    count = len(ports.union(*_cuts.get(node, {}).values()))
    if count > PORTS_MAX:
        raise InvalidValue(
            f"{node.name} would be cut from {count} ports: PORTS_MAX={PORTS_MAX}",
            hint="partition fewer nodes",
        )


def _ports(node: Node) -> frozenset[int]:
    with _sockets(node) as sockets:
        return frozenset(one.getsockname()[1] for one in sockets)


def _apply(node: Node) -> None:
    ports = sorted(frozenset().union(*_cuts[node].values()))
    with _sockets(node) as sockets:
        for one in sockets:
            _filter(one, ports)


@contextlib.contextmanager
def _sockets(node: Node) -> Iterator[list[socket.socket]]:
    """The UDP sockets that ``node`` has open, on descriptors of our own."""
    watched = node._running().endpoint.fileno()
    lines = Path(f"/proc/self/fdinfo/{watched}").read_text().splitlines()
    numbers = [int(line.split()[1]) for line in lines if line.startswith("tfd:")]
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.socket(fileno=os.dup(number)))
            for number in numbers
            if Path(f"/proc/self/fd/{number}").readlink().name.startswith("socket:")
        ]


def _filter(one: socket.socket, ports: list[int]) -> None:
    if not ports:
        try:
            one.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        except OSError as error:
            if error.errno != errno.ENOENT:  # It had none.
                raise
        return
    # A filter of a UDP socket sees the datagram from its header on: the source port.
    steps = [(_LOAD_HALF, 0, 0, 0)]
    for port in ports:
        steps += [(_JUMP_IF_EQUAL, 0, 1, port), (_RETURN, 0, 0, 0)]
    steps.append((_RETURN, 0, 0, _WHOLE))
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(steps), ctypes.addressof(held))
    one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
