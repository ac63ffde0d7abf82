"""Build a wheel into ``dist/``; give it the portable tag where auditwheel can.

Without auditwheel and patchelf the wheel fits this machine's kind only, and the
last line says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"


def main() -> int:
    """Build, repair if possible, print the path of what to install."""
    DIST.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps"]
        build += ["--no-build-isolation", "-w", folder, "."]
        subprocess.run(build, cwd=ROOT, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        auditwheel, patchelf = (_tool(name) for name in ("auditwheel", "patchelf"))
        if auditwheel is not None and patchelf is not None:
            repair = [auditwheel, "repair", "-w", str(DIST), str(wheel)]
            subprocess.run(repair, cwd=ROOT, check=True)
            print("wheel: in dist/, with a portable tag")
        else:
            shutil.copy(wheel, DIST)
            print(
                f"wheel: dist/{wheel.name}, for machines like this one"
                " (pip install auditwheel patchelf for a portable tag)"
            )
    return 0


def _tool(name: str) -> str | None:
    # This interpreter's own tools come first, whatever PATH says.
    own = str(Path(sys.executable).parent)
    return shutil.which(name, path=own + os.pathsep + os.environ.get("PATH", ""))


if __name__ == "__main__":
    sys.exit(main())
