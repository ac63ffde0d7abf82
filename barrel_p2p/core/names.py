"""Node names, addresses, and every spelling in which a user may name a node.

A node name says who, an address says where. A reference is a name and, where the user
knows them, the address and the fingerprint of the key that must answer there::

    a@h    a@h:9100    a@h=[::1]:9100    a@h:9100#SHA256:<43 characters>

A user's spelling is folded to lower case, so that one node has one name and one pin. A
peer's is never folded: two spellings of a name on the wire are an attempt at something.

Bounded by ``NODE_NAME_BYTES_MAX``, ``HOST_CHARS_MAX`` and ``REFERENCE_CHARS_MAX``.

Source: RFC 1035, 2.3.4 (length of a host name); RFC 4291, 2.2 (IPv6 in text).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from barrel_p2p.core.records import quickly_made
from barrel_p2p.core.terms import NODE_NAME_BYTES_MAX, check_node_name
from barrel_p2p.errors import InvalidValue, WireError

__all__ = [
    "HOST_CHARS_MAX",
    "NODE_NAME_BYTES_MAX",
    "PORT_MAX",
    "REFERENCE_CHARS_MAX",
    "Address",
    "At",
    "HasAddress",
    "NodeReference",
    "default_node_name",
    "host_of",
    "node_name",
    "wire_name",
]

HOST_CHARS_MAX = 253
PORT_MAX = 65_535
# A name, "=[", a host, "]:", a port, and "#SHA256:" with 43 characters, and some room
# for what is wrong in a more interesting way than by its length.
REFERENCE_CHARS_MAX = 600

_FINGERPRINT_BYTES = 32
_FINGERPRINT_MARK = "#SHA256:"
_HINT = "write name@host, name@host:port or name@host=[::1]:9100"
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_-])?", re.ASCII)
_IPV6 = re.compile(r"[0-9a-f:.]+(?:%[a-z0-9_.-]{1,16})?", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_NOT_IN_A_HOST = re.compile(r"[^a-z0-9_.-]", re.ASCII)


def node_name(text: str) -> str:
    """The node name that a user spelt.

    Args:
        text: ``name@host``, in any case.

    Returns:
        It in lower case, at most ``NODE_NAME_BYTES_MAX`` bytes.

    Raises:
        InvalidValue: It is no node name.
    """
    return check_node_name(_folded(text, "node name"))


def wire_name(data: bytes) -> str:
    """The node name that a peer sent.

    Args:
        data: ``name@host`` in lower case.

    Raises:
        WireError: It is no node name, or has an upper-case letter in it.
    """
    if len(data) > NODE_NAME_BYTES_MAX:
        raise WireError(
            f"node name of {len(data)} bytes exceeds "
            f"NODE_NAME_BYTES_MAX={NODE_NAME_BYTES_MAX}"
        )
    try:
        return check_node_name(data.decode("ascii"))
    except (InvalidValue, UnicodeDecodeError) as error:
        raise WireError(f"a peer sent {data!r}, which is no node name") from error


def host_of(name: str) -> str:
    """What stands behind the ``@`` of a checked node name."""
    return name.partition("@")[2]


@quickly_made
class Address(NamedTuple):
    """Where a node listens. ``parse`` checks; the constructor takes what it is given.

    Args:
        name: The node's name.
        host: A host name, an IPv4 or an IPv6 address, without brackets.
        port: UDP port, 1 to ``PORT_MAX``.
    """

    name: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``name@host:port`` or ``name@host=host:port``.

        Raises:
            InvalidValue: ``text`` is neither; an IPv6 address needs its brackets.
        """
        name, host, port = _split_place(_folded(text, "address"))
        if host is None or port is None:
            raise InvalidValue(f"address {text!r} has no port", hint=_HINT)
        return cls(name, host, port)

    def __str__(self) -> str:
        if self.host == host_of(self.name):
            return f"{self.name}:{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name}={host}:{self.port}"


@dataclass(frozen=True, slots=True)
class At:
    """A process by the local name it has on a node, as in ``At("greeter", "a@h")``.

    Args:
        name: A key term; checked where it is used.
        node: The node's name, in any case.

    Raises:
        InvalidValue: ``node`` is no node name.
    """

    name: object
    node: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "node", node_name(self.node))


@runtime_checkable
class HasAddress(Protocol):
    """Anything that listens somewhere, such as a node of this process."""

    @property
    def address(self) -> Address:
        """Where it listens."""
        ...


@dataclass(frozen=True, slots=True)
class NodeReference:
    """Whom a user means. ``parse`` checks; the constructor takes what it is given.

    Args:
        name: The node's name.
        host: Where it listens, or None if that is to be looked up.
        port: UDP port; None exactly when ``host`` is.
        fingerprint: SHA-256 of the key that must answer, 32 bytes, or None.
    """

    name: str
    host: str | None
    port: int | None
    fingerprint: bytes | None

    @classmethod
    def parse(cls, ref: str | Address | NodeReference | HasAddress) -> NodeReference:
        """Read any spelling of a node.

        Args:
            ref: ``a@h``, ``a@h:9100`` or ``a@h=[::1]:9100``, each with an optional
                ``#SHA256:<base64 without padding>``; or an object that knows.

        Raises:
            InvalidValue: ``ref`` is none of these.
        """
        if isinstance(ref, NodeReference):
            return ref
        if isinstance(ref, Address):
            return _from_address(ref)
        if isinstance(ref, str):
            return _from_text(ref)
        if isinstance(ref, HasAddress):
            return _from_address(ref.address)
        raise InvalidValue(f"a {type(ref).__name__} names no node", hint=_HINT)

    def __str__(self) -> str:
        place = self.name
        if self.host is not None and self.port is not None:
            place = str(Address(self.name, self.host, self.port))
        if self.fingerprint is None:
            return place
        digest = base64.b64encode(self.fingerprint).decode("ascii").rstrip("=")
        return f"{place}{_FINGERPRINT_MARK}{digest}"


def default_node_name() -> str:
    """``node@`` and the name of this host, with what no node name may hold replaced."""
    host = _NOT_IN_A_HOST.sub("-", socket.gethostname().lower())
    room = NODE_NAME_BYTES_MAX - len("node@")
    host = host.lstrip(".-")[:room].rstrip(".")
    return check_node_name(f"node@{host or 'localhost'}")


def _from_address(address: Address) -> NodeReference:
    # Nobody has checked what a caller put into the tuple.
    if tuple(map(type, address)) != (str, str, int):
        raise InvalidValue(f"{tuple(address)!r} is no address", hint=_HINT)
    return NodeReference(*_split_place(_folded(str(address), "address")), None)


def _from_text(text: str) -> NodeReference:
    _check_length(text, "node reference")
    place, mark, digest = text.partition(_FINGERPRINT_MARK)
    name, host, port = _split_place(_folded(place, "node reference"))
    fingerprint = _fingerprint(digest) if mark else None
    return NodeReference(name, host, port, fingerprint)


def _folded(text: str, what: str) -> str:
    if type(text) is not str:
        raise InvalidValue(f"a {what} is a str, not a {type(text).__name__}")
    _check_length(text, what)
    # Unicode has letters outside ASCII whose lower case is in it.
    if not text.isascii():
        raise InvalidValue(f"{what} {text!r} is not ASCII", hint=_HINT)
    return text.lower()


def _check_length(text: str, what: str) -> None:
    if len(text) > REFERENCE_CHARS_MAX:
        raise InvalidValue(
            f"{what} {text[:32]!r}... has {len(text)} characters, more than "
            f"REFERENCE_CHARS_MAX={REFERENCE_CHARS_MAX}"
        )


def _split_place(text: str) -> tuple[str, str | None, int | None]:
    """Split a folded ``name[=host][:port]``."""
    name, equals, where = text.partition("=")
    if not equals:
        name, colon, port = text.partition(":")
        if not colon:
            return check_node_name(name), None, None
        return check_node_name(name), _host(host_of(name)), _port(port, text)
    host, colon, port = where.rpartition(":")
    if not colon or not host:
        raise InvalidValue(f"{text!r} has no port behind '='", hint=_HINT)
    return check_node_name(name), _host(host), _port(port, text)


def _host(text: str) -> str:
    if len(text) > HOST_CHARS_MAX:
        raise InvalidValue(
            f"host {text[:32]!r}... has {len(text)} characters, more than "
            f"HOST_CHARS_MAX={HOST_CHARS_MAX}"
        )
    if text.startswith("[") and text.endswith("]") and _IPV6.fullmatch(text[1:-1]):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError as error:
            raise InvalidValue(f"{text!r} is no IPv6 address: {error}") from error
    if _HOST.fullmatch(text):
        return text
    raise InvalidValue(f"{text!r} is no host", hint=_HINT)


def _port(text: str, whole: str) -> int:
    if _PORT.fullmatch(text) and int(text) <= PORT_MAX:
        return int(text)
    raise InvalidValue(f"port {text!r} of {whole!r} is not within 1 to {PORT_MAX}")


def _fingerprint(digest: str) -> bytes:
    try:
        key = base64.b64decode(f"{digest}=", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    # The last character carries four bits that no byte uses: one spelling only.
    canonical = base64.b64encode(key).decode("ascii").rstrip("=")
    if len(key) != _FINGERPRINT_BYTES or canonical != digest:
        raise InvalidValue(
            f"{_FINGERPRINT_MARK[1:]}{digest!r} is no fingerprint",
            hint="a fingerprint is SHA256: and 43 characters of base64, no padding",
        )
    return key
