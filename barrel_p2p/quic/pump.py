"""The event loop's door to an engine; compiled. See ``_pump.pyx``."""

from __future__ import annotations

from barrel_p2p.quic._pump import CODE_MAX, Pump, RawConnection, RawStream

__all__ = ["CODE_MAX", "Pump", "RawConnection", "RawStream"]
