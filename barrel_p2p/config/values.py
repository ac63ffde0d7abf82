"""The types of configuration values, and how a raw value becomes one of them.

What stands in code or TOML has its type already. Text from the environment becomes a
number, a truth value, a list or a table here.

Bounded by ``MILLIS_MAX``, ``ITEMS_MAX`` and ``TEXT_CHARS_MAX``.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Annotated

import msgspec

from barrel_p2p.config.suggestions import did_you_mean
from barrel_p2p.errors import ConfigError

__all__ = [
    "ITEMS_MAX",
    "MILLIS_MAX",
    "TEXT_CHARS_MAX",
    "Cookie",
    "Count",
    "DnsServers",
    "Milliseconds",
    "MillisecondsOrZero",
    "NodeTable",
    "Port",
    "PortOrZero",
    "Text",
    "Texts",
    "active_size",
    "cookie_only_nodes",
    "discovery_backends",
    "dns_servers",
    "encodable",
    "from_text",
    "replicated_maps",
    "to_type",
]

# Ten years; beyond that a value is a unit mistaken.
MILLIS_MAX = 10 * 365 * 24 * 3_600_000
ITEMS_MAX = 10_000
TEXT_CHARS_MAX = 4_096
_COUNT_MAX = 1_000_000
_ACTIVE_SIZE_MIN = 2

type Text = Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_CHARS_MAX)]
type Texts = Annotated[tuple[Text, ...], msgspec.Meta(max_length=ITEMS_MAX)]
type DnsServers = Annotated[tuple[Text, ...], msgspec.Meta(max_length=16)]
type Cookie = Annotated[str, msgspec.Meta(min_length=1, max_length=1_024)]
type Count = Annotated[int, msgspec.Meta(ge=1, le=_COUNT_MAX)]
type Milliseconds = Annotated[int, msgspec.Meta(ge=1, le=MILLIS_MAX)]
type MillisecondsOrZero = Annotated[int, msgspec.Meta(ge=0, le=MILLIS_MAX)]
type Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
type PortOrZero = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
type NodeTable = Mapping[Text, tuple[Text, Port]]

_BACKENDS = ("static", "file", "dns")
_BACKEND_PREFIX = "barrel_p2p_discovery_"  # The documentation's own names have it.
_DNS_PORT = 53
_PATTERN = re.compile(r"(\*|[a-z0-9_.-]+)@(\*|[a-z0-9_.-]+)", re.ASCII)
_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_MAP_OPTIONS: dict[str, object] = {
    "persist": bool,
    "prune_on_peer_down": bool,
    "scan_ms": Milliseconds,
    "tombstone_ttl_ms": MillisecondsOrZero,
}


def to_type(value: object, wanted: object) -> object:
    """``value`` as the type ``wanted``, without guessing.

    Raises:
        ConfigError: It is of another type or out of range; the text says which.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    try:
        return msgspec.convert(_plain(value), wanted)
    except msgspec.ValidationError as error:
        raise ConfigError(_said(error)) from error


def from_text(text: str, wanted: object) -> object:
    """What an environment variable says, as the type ``wanted``.

    A list is JSON, or words between commas; a table is JSON.

    Raises:
        ConfigError: ``text`` cannot be read as that.
    """
    try:
        return msgspec.convert(text, wanted, strict=False)
    except msgspec.ValidationError as error:
        if text.lstrip()[:1] in ("[", "{"):
            return to_type(_from_json(text), wanted)
        words = [word for part in text.split(",") if (word := part.strip())]
        with suppress(msgspec.ValidationError):
            return msgspec.convert(words, wanted)
        raise ConfigError(_said(error)) from error


def active_size(size: int) -> int:
    """How many peers a node may have.

    Raises:
        ConfigError: It is 1. Nodes with one peer each are pairs: of three, one is
            alone, and drives one of the others out for ever.
    """
    if size < _ACTIVE_SIZE_MIN:
        raise ConfigError(
            f"with {size} peer each, nodes form pairs and never a cluster",
            hint=f"at least {_ACTIVE_SIZE_MIN}; 5 suits all but the largest clusters",
        )
    return size


def discovery_backends(value: object) -> tuple[object, ...]:
    """Names of built-in back-ends, and objects of the application's own.

    Raises:
        ConfigError: A name is unknown, or an object cannot look anything up.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"Expected a list, got {type(value).__name__}")
    return tuple(_backend(item) for item in value[:ITEMS_MAX])


def replicated_maps(value: object) -> Mapping[str, Mapping[str, object]]:
    """Map names to their options, each option checked.

    Raises:
        ConfigError: It is no table of tables, or has an option that maps do not have.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f"Expected a table, got {type(value).__name__}")
    maps: dict[str, Mapping[str, object]] = {}
    for name, options in value.items():
        if not isinstance(name, str) or not name or not isinstance(options, Mapping):
            raise ConfigError(f"map {name!r}: expected a name and a table of options")
        maps[name] = MappingProxyType(
            {str(key): _map_option(name, str(key), options[key]) for key in options}
        )
    return MappingProxyType(maps)


def encodable(text: str) -> str:
    """``text``, if it has a form in UTF-8.

    Raises:
        ConfigError: It has none; the error does not show the text.
    """
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ConfigError("has no form in UTF-8")
    return text


def cookie_only_nodes(patterns: Sequence[str]) -> tuple[str, ...]:
    """Patterns of node names, in lower case.

    Raises:
        ConfigError: A pattern has something but one ``@`` and what names are made of.
    """
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern.lower()):
            raise ConfigError(
                f"{pattern!r} is no pattern of node names",
                hint="write name@host, *@host or name@*; * stands for a whole part",
            )
    return tuple(pattern.lower() for pattern in patterns)


def dns_servers(servers: Sequence[str]) -> tuple[str, ...]:
    """Addresses of name servers, each with its port.

    Raises:
        ConfigError: One is no IP address, or its port is none.
    """
    return tuple(_dns_server(server) for server in servers)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return value


def _from_json(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ConfigError(f"not JSON: {error}") from error


def _said(error: msgspec.ValidationError) -> str:
    return str(error).replace("`", "")


def _backend(item: object) -> object:
    if isinstance(item, str):
        name = item.removeprefix(_BACKEND_PREFIX)
        if name not in _BACKENDS:
            raise ConfigError(
                f"no discovery back-end is called {item!r}"
                f"{did_you_mean(name, _BACKENDS)}",
                hint=f"one of {', '.join(_BACKENDS)}, or an object with lookup()",
            )
        return name
    if not callable(getattr(item, "lookup", None)):
        raise ConfigError(f"a {type(item).__name__} is no discovery back-end")
    return item


def _map_option(name: str, key: str, value: object) -> object:
    if key == "validator":
        if not (callable(value) or _is_function_name(value)):
            raise ConfigError(
                f"map {name!r}: validator={value!r:.80} is neither a function nor"
                " module:function"
            )
        return value
    wanted = _MAP_OPTIONS.get(key)
    if wanted is None:
        known = (*_MAP_OPTIONS, "validator")
        raise ConfigError(
            f"map {name!r} has no option {key!r}{did_you_mean(key, known)}",
            hint=f"the options are {', '.join(known)}",
        )
    try:
        return to_type(value, wanted)
    except ConfigError as error:
        raise ConfigError(f"map {name!r}: {key}={value!r}: {error}") from error


def _is_function_name(value: object) -> bool:
    return isinstance(value, str) and _FUNCTION.fullmatch(value) is not None


def _dns_server(server: str) -> str:
    host, port = server, str(_DNS_PORT)
    if server.startswith("[") or server.count(":") == 1:
        host, _, port = server.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise ConfigError(
            f"{server!r} is no address of a name server",
            hint="write 10.0.0.53, 10.0.0.53:5353 or [::1]:5353",
        ) from error
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        raise ConfigError(f"{server!r}: port {port!r} is not within 1 to 65535")
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
