"""What ``doctor`` looks at on the way of a packet out of this host, and back into it.

Source: Linux, socket(7), ip(7) IP_MTU, udp(7) UDP_SEGMENT and UDP_GRO.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from barrel_p2p.cli.check import Check
from barrel_p2p.cli.local_node import ControlClient
from barrel_p2p.cli.reach import answers
from barrel_p2p.config import Config
from barrel_p2p.core.names import NodeReference, host_of
from barrel_p2p.errors import BarrelError
from barrel_p2p.node.requests import Info

__all__ = ["UDP_BUFFER_BYTES", "network_checks"]

UDP_BUFFER_BYTES: Final = 4 << 20
"""What the engine asks the kernel for, in each direction."""

_KERNEL = Path("/proc/sys/net/core")
_BUFFERS = (
    ("rmem_max", socket.SO_RCVBUF, "receive"),
    ("wmem_max", socket.SO_SNDBUF, "send"),
)
_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104
_IP_MTU: Final = 14
_IPV6_MTU: Final = 24
_MTU_MIN: Final = 1_280
_SECONDS: Final = 1.0


def network_checks(config: Config, name: str, directory: Path) -> Iterator[Check]:
    """Look at buffers, offloads, path MTU, and the address that others are told.

    Args:
        config: The node's settings.
        name: Its name.
        directory: Its data directory; if it runs, it is asked there.
    """
    for setting, option, which in _BUFFERS:
        yield _buffer(setting, option, which)
    yield _offload("gso", _UDP_SEGMENT, 1_200, "sends")
    yield _offload("gro", _UDP_GRO, 1, "receives")
    yield _mtu("loopback", "127.0.0.1")
    yield _advertised(config, name, directory)


def _buffer(setting: str, option: int, which: str) -> Check:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.setsockopt(socket.SOL_SOCKET, option, UDP_BUFFER_BYTES)
        # The kernel counts its own share too, which is as much again.
        found = made.getsockopt(socket.SOL_SOCKET, option) // 2
    if found >= UDP_BUFFER_BYTES:
        return Check(f"udp {which} buffer", "ok", f"a socket gets {found:,} bytes")
    return Check(
        f"udp {which} buffer",
        "warn",
        f"a socket gets {found:,} bytes, the engine asks for {UDP_BUFFER_BYTES:,}: "
        f"bursts are dropped and sent again; {setting} is {_setting(setting)}",
        f"sysctl -w net.core.{setting}={UDP_BUFFER_BYTES}",
    )


def _setting(setting: str) -> str:
    try:
        return f"{int((_KERNEL / setting).read_text()):,}"
    except (OSError, ValueError):
        return "not known"


def _offload(name: str, option: int, value: int, does: str) -> Check:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        try:
            made.setsockopt(socket.IPPROTO_UDP, option, value)
        except OSError as error:
            text = f"the kernel {does} one packet a call: {error.strerror}"
            return Check(name, "warn", text, "a kernel of 5.0 or later has it")
    return Check(name, "ok", f"the kernel {does} many packets a call")


def _mtu(where: str, host: str) -> Check:
    """The MTU that the kernel knows of the way to ``host``; nothing is sent."""
    title = f"mtu {where}"
    try:
        place = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with closing(socket.socket(place[0], socket.SOCK_DGRAM)) as made:
            made.connect(place[4])
            if place[0] == socket.AF_INET6:
                found = made.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
            else:
                found = made.getsockopt(socket.IPPROTO_IP, _IP_MTU)
    except OSError as error:
        return Check(title, "warn", f"not known: {error.strerror or error}")
    if found < _MTU_MIN:
        text = f"{found:,} bytes, and QUIC needs {_MTU_MIN:,}"
        return Check(title, "fail", text, "raise the MTU of the interface")
    return Check(title, "ok", f"{found:,} bytes")


def _advertised(config: Config, name: str, directory: Path) -> Check:
    """Whether a packet to the address that others are told comes in here."""
    running = _running(directory)
    if running is not None:
        host, port = running
        took_ms = answers(host, port)
        if took_ms is not None:
            text = f"{host} UDP port {port} answers, {took_ms:.1f} ms"
            return Check("advertised", "ok", text)
        text = f"the node runs, and nothing answers at {host} UDP port {port}"
        return _unreached(text)
    host = config.advertise_host or host_of(name)
    port = config.advertise_port or config.listen_port
    try:
        return _loops_back(config, host, port)
    except OSError as error:
        text = f"{host} UDP port {port or 'any'}: {error.strerror or error}"
        return _unreached(text)


def _loops_back(config: Config, host: str, port: int) -> Check:
    place = socket.getaddrinfo(
        config.bind_host, config.listen_port, type=socket.SOCK_DGRAM
    )[0]
    with (
        socket.socket(place[0], socket.SOCK_DGRAM) as bound,
        socket.socket(place[0], socket.SOCK_DGRAM) as asking,
    ):
        bound.bind(place[4])
        bound.settimeout(_SECONDS)
        port = port or int(bound.getsockname()[1])
        asking.connect(socket.getaddrinfo(host, port, place[0])[0][4])
        asking.send(b"doctor")
        try:
            arrived = bound.recv(16) == b"doctor"
        except TimeoutError:
            arrived = False
    if arrived:
        return Check("advertised", "ok", f"{host} UDP port {port} leads here")
    return _unreached(f"a packet to {host} UDP port {port} does not come in here")


def _unreached(text: str) -> Check:
    return Check(
        "advertised",
        "warn",
        text,
        "set --bind and --advertise to what others can dial; behind NAT only they know",
    )


def _running(directory: Path) -> tuple[str, int] | None:
    try:
        with ControlClient(directory) as node:
            address = NodeReference.parse(str(node.ask(Info())["address"]))
    except (BarrelError, KeyError):
        return None
    if address.host is None or address.port is None:
        return None
    return address.host, address.port
