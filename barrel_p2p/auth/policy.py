"""Which peers prove a key, and which ones the cookie alone lets in.

With which settings a node refuses to start is the configuration's to say.

Source: Barrel P2P documentation, "Authentication", "Configuration reference".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from barrel_p2p.auth.messages import Mode
from barrel_p2p.core.names import node_name
from barrel_p2p.errors import ConfigError, InvalidValue, StorageError

__all__ = [
    "PATTERNS_MAX",
    "CookieOnly",
    "mode_chooser",
]

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
