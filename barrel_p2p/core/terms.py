"""Atoms, pids and references: immutable values that every room may hold.

Compiled in ``_terms.pyx``. Bounded by ``ATOM_CHARS_MAX``, ``NODE_NAME_BYTES_MAX`` and
``REF_WORDS_MAX``; what they look like on the wire is ``barrel_p2p.wire.terms``.

Source: Erlang/OTP, ERTS User's Guide, "External Term Format".
"""

from __future__ import annotations

from barrel_p2p.core._terms import (
    ATOM_CHARS_MAX,
    NODE_NAME_BYTES_MAX,
    REF_WORDS_MAX,
    Atom,
    Pid,
    Ref,
    check_node_name,
    set_verbs,
)

__all__ = [
    "ATOM_CHARS_MAX",
    "NODE_NAME_BYTES_MAX",
    "REF_WORDS_MAX",
    "Atom",
    "Pid",
    "Ref",
    "check_node_name",
    "set_verbs",
]
