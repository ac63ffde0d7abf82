"""Build ``barrel_p2p.quic._engine``: the C engine behind cffi, in API mode.

cffi reads the part of csrc/quic/engine.h between its two marks, so the declarations
exist once. picoquic is not linked: see ``barrel_p2p.quic.library``.
"""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI

SOURCES = Path("csrc/quic")
BEGIN, END = "/* cffi reads from here. */", "/* cffi reads to here. */"


def declarations() -> str:
    """The part of engine.h that cffi understands, with C comments removed."""
    text = (SOURCES / "engine.h").read_text(encoding="utf-8")
    part = text.split(BEGIN)[1].split(END)[0]
    part = re.sub(r"/\*.*?\*/", "", part, flags=re.DOTALL)
    return re.sub(r"(#define \w+) .*", r"\1 ...", part)


def sources() -> list[str]:
    """Every engine source but the binding for a linked-in picoquic."""
    found = SOURCES.glob("*.c")
    return sorted(str(path) for path in found if path.name != "picoquic_static.c")


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "barrel_p2p.quic._engine",
    '#include "quic/engine.h"',
    sources=sources(),
    depends=sorted(str(path) for path in SOURCES.glob("*.h")),
    include_dirs=["csrc"],
    define_macros=[("_GNU_SOURCE", None)],
    extra_compile_args=["-O3", "-std=c11", "-fvisibility=hidden"],
    libraries=["dl", "pthread"],
)
