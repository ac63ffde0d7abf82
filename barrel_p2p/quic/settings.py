"""What an engine can be told: windows, timeouts, caps. Checked once, then frozen.

Times are milliseconds unless the name says otherwise, sizes bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from barrel_p2p.errors import ConfigError

__all__ = ["ALPN", "EngineSettings"]

ALPN = "barrel-p2p/1"

_KIB = 1024
_MIB = 1024 * _KIB
_LOWEST: dict[str, int] = {
    "idle_timeout_ms": 100,
    "keep_alive_ms": 0,
    "handshake_timeout_ms": 100,
    "stream_window": 16 * _KIB,
    "stream_window_first": 4 * _KIB,
    "connection_window": 64 * _KIB,
    "congestion_window_max": 0,
    "connections_max": 1,
    "streams_max": 64,
    "streams_bidi_max": 0,
    "streams_uni_max": 0,
    "half_open_max": 0,
    "events_max": 16,
    "arena_bytes": 2 * _MIB,
    "send_high": 4 * _KIB,
    "send_low": 0,
    "send_max": 4 * _KIB,
    "connection_send_high": 4 * _KIB,
    "spin_us": 0,
    "poll_us": 0,
    "mtu_max": 0,
}
_HIGHEST: dict[str, int] = {
    "connections_max": 100_000,
    "streams_max": 10_000_000,
    "half_open_max": 10_000,
    "send_max": 1 << 30,
    "send_high": 1 << 30,
    "spin_us": 1_000,
    "poll_us": 1_000,
    "mtu_max": 65_507,
    "arena_bytes": 1 << 30,
    "events_max": 1 << 19,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Limits and timings of one engine.

    Args:
        idle_timeout_ms: Silence after which a connection is over. A peer that is
            killed is noticed after this long, unless the network says so earlier.
        keep_alive_ms: Interval of PINGs on a silent connection; 0 for none, None for
            a third of the idle timeout.
        handshake_timeout_ms: Longest handshake.
        stream_window: Bytes a peer may send ahead of the reader.
        stream_window_first: The same before the first read.
        connection_window: Bytes that the streams of one connection may together hold
            unread or still be sent; beyond it, each gets its first window at a time.
        congestion: Congestion control: cubic, bbr1, newreno, ...
        congestion_window_max: Cap of the congestion window; 0 for none.
        connections_max: Connections, half-open ones included.
        streams_max: Streams of all connections together.
        streams_bidi_max: Concurrent two-way streams that one peer may open.
        streams_uni_max: Concurrent one-way streams that one peer may open.
        half_open_max: Half-open connections above which every newcomer must first
            prove its address (Retry).
        retry_always: Demand that proof from everyone, always.
        events_max: Events waiting at which receiving pauses.
        arena_bytes: Room for the received bytes of one wake-up.
        send_high: Queued bytes of a stream at which writers wait.
        send_low: Queued bytes at which they go on.
        send_max: Queued bytes beyond which a write is refused.
        connection_send_high: Queued bytes of a connection beyond which the writers of
            each stream wait at ``send_low`` already.
        spin_us: Pacing waits up to this long are spun away; 0 on a one-core machine.
        poll_us: An exchange whose answers come within this time keeps the loop from
            sleeping until the next one, for this long at most; 0 always sleeps.
        mtu_max: Largest IP packet to try; 0 for the library's 1,440.
        multipath: Offer the multipath extension, which lifts the limit of 7 migrations.
            Only among peers that are trusted, on networks that are: this picoquic reads
            freed memory once a path that was reached from two addresses is retired.
        migration_disabled: Tell peers not to migrate towards us.
        key_log: Write TLS secrets to the file named by SSLKEYLOGFILE, for debugging.

    Raises:
        ConfigError: A value is out of range; the text names it and the range.
    """

    idle_timeout_ms: int = 5_000
    keep_alive_ms: int | None = None
    handshake_timeout_ms: int = 10_000
    stream_window: int = 8 * _MIB
    stream_window_first: int = 256 * _KIB
    connection_window: int = 32 * _MIB
    congestion: str = "cubic"
    congestion_window_max: int = 0
    connections_max: int = 4_096
    streams_max: int = 262_144
    streams_bidi_max: int = 128
    streams_uni_max: int = 16
    half_open_max: int = 64
    retry_always: bool = False
    events_max: int = 4_096
    arena_bytes: int = 4 * _MIB
    send_high: int = 1 * _MIB
    send_low: int = 64 * _KIB
    send_max: int = 64 * _MIB
    connection_send_high: int = 16 * _MIB
    spin_us: int = 20
    poll_us: int = 100
    mtu_max: int = 0
    multipath: bool = False
    migration_disabled: bool = False
    key_log: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_value(field.name, getattr(self, field.name), field.default)
        if self.congestion not in CONGESTION_CONTROLS:
            known = ", ".join(CONGESTION_CONTROLS)
            raise ConfigError(f"congestion={self.congestion!r} is none of {known}")
        if self.keep_alive() * 2 > self.idle_timeout_ms:
            raise ConfigError(
                f"keep_alive_ms={self.keep_alive()} must be at most half of "
                f"idle_timeout_ms={self.idle_timeout_ms}, or one lost packet ends a "
                "healthy connection"
            )
        if self.send_low >= self.send_high:
            raise ConfigError(
                f"send_low={self.send_low} must be below send_high={self.send_high}"
            )
        for name in ("send_max", "connection_send_high"):
            if self.send_high > getattr(self, name):
                raise ConfigError(
                    f"send_high={self.send_high} must not exceed "
                    f"{name}={getattr(self, name)}"
                )

    def keep_alive(self) -> int:
        """Milliseconds between PINGs on a silent connection; 0 for none."""
        if self.keep_alive_ms is None:
            return self.idle_timeout_ms // 3
        return self.keep_alive_ms


CONGESTION_CONTROLS = ("cubic", "bbr", "bbr1", "newreno", "fast", "prague", "c4")


def _check_value(name: str, value: object, default: object) -> None:
    if name == "congestion" or (name == "keep_alive_ms" and value is None):
        return
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ConfigError(f"{name}={value!r} is not True or False")
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{name}={value!r} is no whole number")
    lowest = _LOWEST[name]
    highest = _HIGHEST.get(name, 2**40 if "window" in name else 2**31 - 1)
    if not lowest <= value <= highest:
        raise ConfigError(f"{name}={value} is outside {lowest} to {highest}")
