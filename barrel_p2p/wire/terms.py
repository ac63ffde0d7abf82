"""Terms: Python values on the wire, in Erlang's External Term Format.

Compiled in ``_terms.pyx``; what it must do is stated by ``tests/models/terms.py``. The
set of types is closed, so bytes turn into values and never into calls. Bounded by the
``TERM_``, ``KEY_`` and ``INT_`` limits of ``barrel_p2p.wire.limits``, which both ends
check: a sender learns of them as ``NotEncodable``.

Source: docs/reference/wire.md, "Terms".
"""

from __future__ import annotations

from barrel_p2p.core.ormap import set_key_bytes
from barrel_p2p.wire._terms import decode, encode, key_bytes

__all__ = ["decode", "encode", "key_bytes"]

set_key_bytes(key_bytes)  # Maps lie below this room, and know their keys by it.
