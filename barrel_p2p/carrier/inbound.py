"""A peer's one-way streams: role byte, frames, credit. The compiled parts by name."""

from __future__ import annotations

from barrel_p2p.carrier._inbound import FrameSink, InboundStream

__all__ = ["FrameSink", "InboundStream"]
