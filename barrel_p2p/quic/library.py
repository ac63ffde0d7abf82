"""Find picoquic and bind it, once a process.

picoquic comes inside the ``aiopquic`` wheel, as part of that package's own extension;
the package itself is never imported. ``BARREL_P2P_PICOQUIC=/path/to/lib.so`` names
another build, which must export the symbols of csrc/quic/picoquic_symbols.h.
"""

from __future__ import annotations

import os
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from barrel_p2p.quic._engine import ffi, lib

if TYPE_CHECKING:
    from barrel_p2p.quic._engine import _CData

__all__ = ["PICOQUIC_VARIABLE", "WHEEL_VERSION", "picoquic_path", "picoquic_table"]

PICOQUIC_VARIABLE = "BARREL_P2P_PICOQUIC"
WHEEL_VERSION = "0.6.1"
"""The ``aiopquic`` release whose picoquic the engine is built and tested for."""

_MESSAGE_BYTES = 512
_REMEDY = (
    f"install it with: pip install aiopquic=={WHEEL_VERSION}, or set "
    f"{PICOQUIC_VARIABLE} to a picoquic built by: cmake --build build/release "
    "--target picoquic_barrel"
)


def picoquic_path() -> Path:
    """The shared object to bind.

    Raises:
        ImportError: It is not there; the text names the place and the remedy.
    """
    named = os.environ.get(PICOQUIC_VARIABLE)
    if named:
        path = Path(named)
        if not path.is_file():
            raise ImportError(f"{PICOQUIC_VARIABLE} names {path}, which is no file")
        return path
    spec = find_spec("aiopquic")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"picoquic is missing: no package aiopquic; {_REMEDY}")
    _check_version()
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for place in spec.submodule_search_locations:
        path = Path(place) / "_binding" / f"_transport{suffix}"
        if path.is_file():
            return path
    places = ", ".join(spec.submodule_search_locations)
    raise ImportError(
        f"picoquic is missing: no _binding/_transport{suffix} in {places}; {_REMEDY}"
    )


def _check_version() -> None:
    # A struct that changed between releases is invisible to dlsym.
    try:
        found = version("aiopquic")
    except PackageNotFoundError:
        found = "unknown"
    if found != WHEEL_VERSION:
        raise ImportError(
            f"aiopquic {found} is installed, the engine is built for {WHEEL_VERSION}; "
            f"{_REMEDY}"
        )


def picoquic_table() -> _CData:
    """The resolved functions, for ``bp_engine_create``.

    Raises:
        ImportError: The object cannot be loaded or lacks a symbol; the text names both.
    """
    table = lib.bp_picoquic_table()
    if table != ffi.NULL:
        return table
    path = picoquic_path()
    message = ffi.new("char[]", _MESSAGE_BYTES)
    status = lib.bp_picoquic_load(os.fsencode(path), message, _MESSAGE_BYTES)
    if status != lib.BP_OK:
        what = ffi.string(message).decode(errors="replace")
        raise ImportError(f"picoquic cannot be used: {what}; {_REMEDY}", path=str(path))
    return lib.bp_picoquic_table()
