"""Which peers prove a key, and with which settings a node refuses to start.

A cookie that everybody knows protects nothing by itself. With keys it still keeps
strangers out of nothing but a laptop's loopback; without them it is no protection at
all, so that is refused outright.

Source: Barrel P2P documentation, "Authentication", "Configuration reference".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Final

from barrel_p2p.auth.messages import Mode
from barrel_p2p.core.names import node_name
from barrel_p2p.errors import ConfigError, InvalidValue, StorageError

__all__ = [
    "DEFAULT_COOKIE",
    "PATTERNS_MAX",
    "CookieOnly",
    "boot_warnings",
    "mode_chooser",
]

DEFAULT_COOKIE: Final = "barrel_p2p"
"""The cookie of a node that was given none. Everybody knows it."""

PATTERNS_MAX: Final = 1_024

_ANY: Final = "*"
_HINT: Final = "Write name@host, *@host or name@*; * stands for a whole part."


class CookieOnly:
    """The nodes that the cookie alone lets in, by name.

    Args:
        patterns: ``name@host``, ``*@host``, ``name@*`` or ``*@*``, in any case; at most
            ``PATTERNS_MAX``.

    Raises:
        ConfigError: One is none of these, or there are too many.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if isinstance(patterns, str) or len(patterns) > PATTERNS_MAX:
            raise ConfigError(
                f"cookie_only_nodes is a list of at most {PATTERNS_MAX} patterns",
                hint=_HINT,
            )
        self._patterns = frozenset(_parts(pattern) for pattern in patterns)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def matches(self, name: str) -> bool:
        """Whether ``name``, a checked node name, is one of them."""
        user, _, host = name.partition("@")
        tried = ((user, host), (_ANY, host), (user, _ANY), (_ANY, _ANY))
        return any(parts in self._patterns for parts in tried)


def mode_chooser(
    cookie_only: CookieOnly,
    *,
    auth_enabled: bool,
    lookup_pin: Callable[[str], bytes | None],
) -> Callable[[str], Mode]:
    """What a handshake asks to learn what a peer has to prove.

    Args:
        cookie_only: Peers that need no key.
        auth_enabled: Whether any peer needs one.
        lookup_pin: ``TrustStore.lookup_pin``. A name with a pin has shown that it has
            a key, so no pattern lets anybody in under it without one.
    """

    def mode_of(name: str) -> Mode:
        if not auth_enabled:
            return Mode.COOKIE
        if not cookie_only.matches(name) or _has_pin(name):
            return Mode.IDENTITY
        return Mode.COOKIE

    def _has_pin(name: str) -> bool:
        try:
            return lookup_pin(name) is not None
        except StorageError:
            return True  # There is one, or it could be read.

    return mode_of


def boot_warnings(
    *,
    cookie: str,
    bind_host: str,
    allow_default_cookie: bool,
    auth_enabled: bool,
    cookie_only: CookieOnly,
) -> list[str]:
    """Refuse settings that leave a node open; say what else an operator should know.

    Args:
        cookie: The cookie in use.
        bind_host: Where the node listens, a host name or an address.
        allow_default_cookie: Whether the operator takes the default cookie on
            addresses that others can reach.
        auth_enabled: Whether peers prove a key.
        cookie_only: Peers that do not.

    Returns:
        One line for each thing to warn of, to be logged once.

    Raises:
        ConfigError: The default cookie, and nothing else protects the node.
    """
    default = cookie == DEFAULT_COOKIE
    if default:
        _refuse_default(bind_host, allow_default_cookie, auth_enabled, cookie_only)
    warnings = []
    if default:
        warnings.append(
            f"dist_cookie is the default, which everybody knows; {bind_host} is"
            + (" open to this host" if _is_loopback(bind_host) else " open to others")
        )
    if not auth_enabled:
        warnings.append(
            "auth_enabled is off: no peer proves a key, only that it knows the cookie,"
            " and whoever is in between can read and change everything"
        )
    elif cookie_only:
        warnings.append(
            "cookie_only_nodes is not empty: who knows the cookie can be one of them"
        )
    return warnings


def _refuse_default(
    bind_host: str,
    allow_default_cookie: bool,
    auth_enabled: bool,
    cookie_only: CookieOnly,
) -> None:
    hint = "Set dist_cookie_file or dist_cookie to a long random text."
    if not auth_enabled:
        raise ConfigError(
            "dist_cookie is the default and auth_enabled is off: anybody could join",
            hint=hint,
        )
    if cookie_only:
        raise ConfigError(
            "dist_cookie is the default and cookie_only_nodes is not empty:"
            " anybody could join as one of them",
            hint=hint,
        )
    if not _is_loopback(bind_host) and not allow_default_cookie:
        raise ConfigError(
            f"dist_cookie is the default and bind_host={bind_host} is not loopback",
            hint=f"{hint} Or set allow_default_cookie, for a network you trust.",
        )


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # A name can lead anywhere.


def _parts(pattern: str) -> tuple[str, str]:
    if not isinstance(pattern, str):
        raise ConfigError(f"cookie_only_nodes holds {pattern!r}, no text", hint=_HINT)
    user, _, host = pattern.lower().partition("@")
    # What is left is a node name once each star is a letter.
    plain = f"{'a' if user == _ANY else user}@{'a' if host == _ANY else host}"
    try:
        node_name(plain)
    except InvalidValue as error:
        raise ConfigError(
            f"cookie_only_nodes holds {pattern!r}: {error}", hint=_HINT
        ) from error
    return user, host
