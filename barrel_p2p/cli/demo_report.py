"""The demo's figures, as a table and as one JSON object. QUIC beside TCP, same run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from barrel_p2p.cli.demo_stock import BATCH, BODY_BYTES
from barrel_p2p.cli.demo_work import PING_BYTES, Exchange

__all__ = ["Figures", "Report"]


@dataclass(frozen=True, slots=True)
class Figures:
    """What one transport did.

    Attributes:
        laps_ns: The time of every round trip, at least one.
        messages: All messages, one way.
        stream: The long stream, one way.
    """

    laps_ns: Sequence[int]
    messages: Exchange
    stream: Exchange

    @property
    def verified(self) -> bool:
        """Whether both ends agreed on every hash."""
        return self.messages.verified and self.stream.verified

    def lap_us(self, percent: int) -> float:
        """The round trip, in microseconds, that ``percent`` of all do not exceed."""
        ordered = sorted(self.laps_ns)
        return ordered[-(-len(ordered) * percent // 100) - 1] / 1e3


@dataclass(frozen=True, slots=True)
class Report:
    """One run.

    Attributes:
        message_count: Messages sent over each transport.
        stream_bytes: Bytes streamed over each transport.
        handshake_s: QUIC connect, certificates checked.
        seconds: The whole run.
    """

    message_count: int
    stream_bytes: int
    handshake_s: float
    seconds: float
    quic: Figures
    tcp: Figures

    @property
    def verified(self) -> bool:
        """Whether both ends agreed on every hash, over both transports."""
        return self.quic.verified and self.tcp.verified

    def as_json(self) -> dict[str, object]:
        """Plain numbers; every ``_vs_tcp`` is QUIC's figure over TCP's."""
        quic, tcp = self._figures(self.quic), self._figures(self.tcp)
        return {
            "demo": "transport",
            "verified": self.verified,
            "seconds": round(self.seconds, 3),
            "handshake_ms": _rounded(self.handshake_s * 1e3),
            "round_trips": len(self.quic.laps_ns),
            "messages": self.message_count,
            "stream_bytes": self.stream_bytes,
            "quic": {**_named(quic), "verified": self.quic.verified},
            "tcp": {**_named(tcp), "verified": self.tcp.verified},
            **{
                f"{row.name}_vs_tcp": _rounded(ours / theirs)
                for row, ours, theirs in zip(_ROWS, quic, tcp, strict=True)
            },
        }

    def lines(self) -> Iterator[str]:
        """The table, a line at a time."""
        yield f"{'':36}{'QUIC':>11}{'raw TCP':>11}{'QUIC / TCP':>12}"
        quic, tcp = self._figures(self.quic), self._figures(self.tcp)
        for row, ours, theirs in zip(_ROWS, quic, tcp, strict=True):
            ratio = f"{ours / theirs:.2f}"
            yield f"{row.title:36}{ours:>11,.0f}{theirs:>11,.0f}{ratio:>12}  {row.aim}"
        yield "Raw TCP neither encrypts nor knows who answers."

    def _figures(self, of: Figures) -> tuple[float, ...]:
        """One figure for each of ``_ROWS``."""
        return (
            of.lap_us(50),
            of.lap_us(99),
            self.message_count / of.messages.seconds,
            self.stream_bytes / 1e6 / of.stream.seconds,
        )


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the table; ``name`` and ``unit`` make the key in JSON."""

    name: str
    unit: str
    title: str
    aim: str


_ROWS = (
    _Row("rtt_p50", "us", f"{PING_BYTES} B round trip, p50, us", "less is better"),
    _Row("rtt_p99", "us", f"{PING_BYTES} B round trip, p99, us", "less is better"),
    _Row(
        "messages",
        "per_s",
        f"{BODY_BYTES} B messages, {BATCH} a write, /s",
        "more is better",
    ),
    _Row("stream", "mb_per_s", "stream, MB/s", "more is better"),
)


def _named(figures: Sequence[float]) -> dict[str, float]:
    keys = (f"{row.name}_{row.unit}" for row in _ROWS)
    return dict(zip(keys, map(_rounded, figures), strict=True))


def _rounded(value: float) -> float:
    """Four significant digits: more would pretend."""
    return float(f"{value:.4g}")
