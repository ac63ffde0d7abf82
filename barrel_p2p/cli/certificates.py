"""``gen-cert``: make the transport's certificate before the first start.

Source: Barrel P2P documentation, "Manage node keys" (barrel_p2p_gen_cert).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from barrel_p2p.auth.certs import PEM_BYTES_MAX, ensure_certificate
from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.options import Flag, Json
from barrel_p2p.cli.output import say
from barrel_p2p.errors import InvalidValue
from barrel_p2p.storage.files import read_file, remove_file

__all__ = ["gen_cert"]

_FILES = ("node.crt", "node.key")


def gen_cert(
    *,
    out_dir: Path = Path("data/quic"),
    cn: str | None = None,
    days: int = 365,
    key_bits: int | None = None,
    force: Flag = False,
    json: Json = False,
) -> int:
    """Make a node's TLS certificate and key, unless they are there and valid.

    Args:
        out_dir: Directory for node.crt and node.key, made with mode 0700.
        cn: Common name, for human readers; default: barrel_p2p-node.
        days: Validity, 8 to 36,500 days.
        key_bits: Refused unless it is 256: keys are on the curve P-256.
        force: Replace what is there.
        json: Print {"cert_file": ..., "key_file": ..., "made": ..., ...}.
    """
    if key_bits not in (None, 256):
        raise InvalidValue(
            f"--key-bits {key_bits}: keys are on the curve P-256 and have 256 bits, "
            "which is as strong as 3072 bits of RSA",
            hint="leave --key-bits out",
        )
    before = _content(out_dir)
    if force:
        # Nothing is removed before the new one is known to be possible.
        with tempfile.TemporaryDirectory() as trial:
            ensure_certificate(trial, cn, days=days)
        for name in _FILES:
            if os.path.lexists(out_dir / name):
                remove_file(out_dir / name)
    made = ensure_certificate(out_dir, cn, days=days)
    value = {
        "cert_file": str(made.cert_file),
        "key_file": str(made.key_file),
        "not_after": made.not_after.isoformat(),
        "sha256": made.der_sha256.hex(),
        "made": before != _content(out_dir),
    }
    what = "made" if value["made"] else "kept"
    line = f"{what} {made.cert_file}, valid until {made.not_after:%Y-%m-%d}"
    say(value, [line], as_json=json)
    return ExitCode.OK


def _content(directory: Path) -> bytes | None:
    path = directory / _FILES[0]
    if not os.path.lexists(path):
        return None
    return read_file(path, bytes_max=PEM_BYTES_MAX)
