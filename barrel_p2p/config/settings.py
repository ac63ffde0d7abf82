"""The keys, their types and defaults, and the rules between them.

``docs/reference/config.md`` says what each key means. Names are the documentation's, so
a key that stands for milliseconds may lack the ``_ms`` that newer ones have.

Source: Barrel P2P documentation, "Configuration reference".
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from types import MappingProxyType
from typing import Annotated, Literal, Self, get_type_hints

import msgspec

from barrel_p2p.config import values
from barrel_p2p.config.sources import (
    check_keys,
    read_cookie_file,
    read_environment,
    read_toml,
)
from barrel_p2p.config.values import (
    Cookie,
    Count,
    DnsServers,
    Milliseconds,
    MillisecondsOrZero,
    NodeTable,
    Port,
    PortOrZero,
    Text,
    Texts,
)
from barrel_p2p.errors import ConfigError

__all__ = ["DEFAULT_COOKIE", "Config", "TrustMode", "keys"]

DEFAULT_COOKIE = "barrel_p2p"

type TrustMode = Literal["tofu", "strict"]
type _IdleTimeout = Annotated[int, msgspec.Meta(ge=100, le=2**31 - 1)]
type _KeepAlive = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
type _DataStreams = Annotated[int, msgspec.Meta(ge=1, le=64)]
type _SpinTime = Annotated[int, msgspec.Meta(ge=0, le=1_000)]
type _PollTime = Annotated[int, msgspec.Meta(ge=0, le=1_000)]

_EMPTY: Mapping[str, str] = MappingProxyType({})
_MASK = "********"
_SECRETS = frozenset({"dist_cookie"})
# What text from the environment is read as, where the key also takes live objects.
_TEXT_TYPES: Mapping[str, object] = {
    "discovery_backends": Texts,
    "replicated_maps": dict,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What one node is told. Checked when it is made, and never changes after that.

    Args:
        node_name: ``name@host``; None is ``node@`` and this host's name.
        data_dir: What the node keeps; None is ``data/<node name>``.
        dist_cookie_file: A file of mode 0600 that beats ``dist_cookie``.

    The other keys are in ``docs/reference/config.md``.

    Raises:
        ConfigError: A value has the wrong type, is out of range, or contradicts another
            one; the text names the key, its value, where it came from and the range.
    """

    node_name: Text | None = None
    data_dir: Text | None = None
    bind_host: Text = "127.0.0.1"
    advertise_host: Text | None = None
    advertise_port: Port | None = None
    listen_port: PortOrZero = 0
    quic_cert_dir: Text = "quic"

    idle_timeout_ms: _IdleTimeout = 5_000
    keep_alive_ms: _KeepAlive | None = None
    data_streams: _DataStreams = 8
    spin_us: _SpinTime = 20
    poll_us: _PollTime = 100

    active_size: Count = 5
    passive_size: Count = 30
    arwl: Count = 6
    prwl: Count = 3
    shuffle_length: Count = 8
    shuffle_period: Milliseconds = 10_000
    max_fail_count: Count = 5
    base_backoff_ms: Milliseconds = 1_000
    passive_max_age_ms: Milliseconds = 300_000
    passive_cleanup_period: Milliseconds = 60_000
    pending_timeout_ms: Milliseconds = 30_000
    churn_window_ms: Milliseconds = 30_000
    contact_nodes: Texts = ()
    contact_retry_ms: Milliseconds = 5_000
    suspect_ms: Milliseconds = 1_000

    dist_cookie: Cookie = field(default=DEFAULT_COOKIE, repr=False)
    dist_cookie_file: Text | None = None
    allow_default_cookie: bool = False
    dist_gc_sweep_period_ms: Milliseconds = 60_000
    dist_gc_min_age_ms: Milliseconds = 300_000

    discovery_backends: tuple[object, ...] = ("static", "file", "dns")
    discovery_dir: Text = "data/discovery"
    nodes: NodeTable = field(default_factory=dict)
    dns_servers: DnsServers = ()

    auth_enabled: bool = True
    auth_trust_mode: TrustMode = "tofu"
    auth_key_dir: Text = "keys"
    auth_handshake_timeout: Milliseconds = 10_000
    auth_timestamp_window: Milliseconds = 30_000
    auth_follow_rotation: bool = False
    cookie_only_nodes: Texts = ()

    router_max_in_flight: Count = 256
    proxy_cast_max_in_flight: Count = 32
    route_cache_sweep_period_ms: Milliseconds = 60_000
    strict_messages: bool = False

    hlc_max_drift_ms: MillisecondsOrZero = 60_000
    ring_size: Count = 64
    member_heartbeat_ms: Milliseconds = 2_000
    member_ttl_ms: Milliseconds = 6_000
    member_skew_ms: MillisecondsOrZero = 5_000

    reminder_scan_ms: Milliseconds = 1_000
    reminder_tombstone_ttl_ms: MillisecondsOrZero = 3_600_000
    reminder_data_dir: Text = "reminders"

    replicated_maps: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    barrel_p2p_map_scan_ms: Milliseconds = 1_000
    barrel_p2p_map_tombstone_ttl_ms: MillisecondsOrZero = 3_600_000
    barrel_p2p_map_data_dir: Text = "maps"
    replica_anti_entropy_ms: MillisecondsOrZero = 30_000

    # Key to where its value came from, for keys that nobody left at their default.
    _origin: Mapping[str, str] = field(
        default=_EMPTY, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        given = {key: getattr(self, key) for key in keys()}
        changed = {key: "code" for key in given if given[key] != _defaults()[key]}
        self._settle(given, changed)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        **overrides: object,
    ) -> Self:
        """Gather every key from code, the environment, a file and the defaults.

        Args:
            path: A TOML file with keys at its top level, or None.
            env: Where ``BARREL_P2P_<KEY>`` is looked for; None is the process's own.
            overrides: Keys that beat all others.

        Raises:
            ConfigError: As for the constructor; or a key does not exist, and the text
                says which one was probably meant; or the file cannot be read.
        """
        environment = os.environ if env is None else env
        found: dict[str, object] = {}
        origin: dict[str, str] = {}
        if path is not None:
            in_file = read_toml(path)
            check_keys(in_file, keys(), str(path))
            found |= in_file
            origin |= dict.fromkeys(in_file, f"file {os.fspath(path)}")
        for key, (variable, text) in read_environment(environment, keys()).items():
            origin[key] = f"environment {variable}"
            found[key] = _read_text(key, text, origin[key])
        check_keys(overrides, keys(), "code")
        found |= overrides
        origin |= dict.fromkeys(overrides, "code")
        return cls._of(found, origin)

    def replace(self, **overrides: object) -> Self:
        """This configuration with some keys changed, checked anew.

        Raises:
            ConfigError: As for ``load``.
        """
        check_keys(overrides, keys(), "code")
        kept = {key: getattr(self, key) for key in self._origin}
        origin = dict(self._origin) | dict.fromkeys(overrides, "code")
        return type(self)._of(kept | overrides, origin)

    def explain(self) -> Mapping[str, tuple[object, str]]:
        """Every key with its value, secrets masked, and where the value came from."""
        return {
            key: (
                _MASK if key in _SECRETS else getattr(self, key),
                self._origin.get(key, "default"),
            )
            for key in keys()
        }

    def keep_alive(self) -> int:
        """Milliseconds between PINGs on a silent channel; 0 for none."""
        if self.keep_alive_ms is None:
            return self.idle_timeout_ms // 3
        return self.keep_alive_ms

    def warnings(self) -> tuple[str, ...]:
        """What is allowed and yet unwise, one sentence each."""
        found = []
        if self.dist_cookie == DEFAULT_COOKIE:
            whom = "this host" if _is_loopback(self.bind_host) else "others"
            found.append(
                "dist_cookie is the default, which everybody knows; "
                f"{self.bind_host} is open to {whom}"
            )
        if not self.auth_enabled:
            found.append(
                "auth_enabled=false: no peer proves a key, only that it knows the "
                "cookie, and whoever is in between can read and change everything"
            )
        elif self.cookie_only_nodes:
            found.append(
                "cookie_only_nodes is not empty: who knows the cookie can be one of "
                "them"
            )
        if self.reminder_tombstone_ttl_ms <= self.member_ttl_ms:
            found.append(
                f"reminder_tombstone_ttl_ms={self.reminder_tombstone_ttl_ms} should be "
                f"more than member_ttl_ms={self.member_ttl_ms}, or a reminder that "
                "fired can come back"
            )
        return tuple(found)

    @classmethod
    def _of(cls, found: Mapping[str, object], origin: Mapping[str, str]) -> Self:
        made = object.__new__(cls)
        made._settle({**_defaults(), **found}, dict(origin))
        return made

    def _settle(self, given: Mapping[str, object], origin: dict[str, str]) -> None:
        """Check and set every field, the one place where a frozen object is written."""
        checked = {
            key: _checked(key, value, origin.get(key, "default"))
            for key, value in given.items()
        }
        if checked["dist_cookie_file"] is not None:
            path = str(checked["dist_cookie_file"])
            origin["dist_cookie"] = f"file {path}"
            cookie = read_cookie_file(path)
            checked["dist_cookie"] = _checked("dist_cookie", cookie, f"file {path}")
        for key, value in checked.items():
            object.__setattr__(self, key, value)
        object.__setattr__(self, "_origin", MappingProxyType(origin))
        _check_together(self)


def keys() -> tuple[str, ...]:
    """Every key of a configuration, in the order of the reference page."""
    return tuple(_defaults())


@cache
def _defaults() -> dict[str, object]:
    found: dict[str, object] = {}
    for each in fields(Config):
        if each.init:
            found[each.name] = {} if callable(each.default_factory) else each.default
    return found


@cache
def _types() -> dict[str, object]:
    return {**get_type_hints(Config, include_extras=True), **_TEXT_TYPES}


def _read_text(key: str, text: str, origin: str) -> object:
    try:
        return values.from_text(text, _types()[key])
    except ConfigError as error:
        raise _blamed(key, text, origin, error) from error


def _checked(key: str, value: object, origin: str) -> object:
    try:
        if key == "discovery_backends":
            return values.discovery_backends(value)
        if key == "replicated_maps":
            return values.replicated_maps(value)
        typed = values.to_type(value, _types()[key])
        if key == "cookie_only_nodes" and isinstance(typed, tuple):
            return values.cookie_only_nodes(typed)
        if key == "active_size" and isinstance(typed, int):
            return values.active_size(typed)
        if key == "dns_servers" and isinstance(typed, tuple):
            return values.dns_servers(typed)
        if key == "dist_cookie" and isinstance(typed, str):
            return values.encodable(typed)
        return MappingProxyType(typed) if isinstance(typed, dict) else typed
    except ConfigError as error:
        raise _blamed(key, value, origin, error) from error


def _blamed(key: str, value: object, origin: str, error: ConfigError) -> ConfigError:
    shown = _MASK if key in _SECRETS else repr(value)[:80]
    text = f"{key}={shown} from {origin}: {error}"
    return ConfigError(text, hint=error.hint)


def _check_together(config: Config) -> None:
    if config.keep_alive() * 2 > config.idle_timeout_ms:
        raise ConfigError(
            f"keep_alive_ms={config.keep_alive()} must be at most half of "
            f"idle_timeout_ms={config.idle_timeout_ms}, or one lost packet ends a "
            "healthy channel"
        )
    if config.member_heartbeat_ms * 2 > config.member_ttl_ms:
        raise ConfigError(
            f"member_heartbeat_ms={config.member_heartbeat_ms} must be at most half of "
            f"member_ttl_ms={config.member_ttl_ms}, or one late heartbeat ends a lease"
        )
    if config.prwl > config.arwl:
        raise ConfigError(
            f"prwl={config.prwl} must not exceed arwl={config.arwl}: a walk would end "
            "before anybody remembers the newcomer"
        )
    if config.dist_cookie == DEFAULT_COOKIE:
        _check_default_cookie(config)


def _check_default_cookie(config: Config) -> None:
    hint = "set dist_cookie_file, or dist_cookie, to a secret that all nodes share"
    if not config.auth_enabled or config.cookie_only_nodes:
        key = "cookie_only_nodes" if config.auth_enabled else "auth_enabled=false"
        raise ConfigError(
            f"{key} leaves only dist_cookie between strangers and this node, and "
            "dist_cookie is the default, which everybody knows",
            hint=hint,
        )
    if not _is_loopback(config.bind_host) and not config.allow_default_cookie:
        raise ConfigError(
            f"bind_host={config.bind_host!r} can be reached from other hosts, and "
            "dist_cookie is the default, which everybody knows",
            hint=f"{hint}; or set allow_default_cookie",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"  # Any other name can lead anywhere.
