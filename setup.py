"""Build the compiled parts: every ``_x.pyx`` of the package and the cffi engine.

A ``.pyx`` that needs C sources names them in its own ``# distutils:`` lines, so this
file has no list to keep in step. Two variables change a build:

``BARREL_P2P_ONLY``       path of one ``.pyx``, or of ``_build.py``, to build alone
``BARREL_P2P_SANITIZE``   ``1`` builds with AddressSanitizer and UBSan; such a build
                          runs under ``LD_PRELOAD=$(gcc -print-file-name=libasan.so)``
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent
ONLY = os.environ.get("BARREL_P2P_ONLY", "")
ENGINE = "barrel_p2p/quic/_build.py"
SANITIZE = "-fsanitize=address,undefined -fno-omit-frame-pointer -g"
FLAGS = ["-O3", "-std=c11", "-fvisibility=hidden", "-fno-semantic-interposition"]
DIRECTIVES = {
    "language_level": 3,
    "auto_pickle": False,
    "embedsignature": False,
    "warn.undeclared": False,
}

if os.environ.get("BARREL_P2P_SANITIZE") == "1":
    # The compiler and the linker read it, for Cython's modules and for cffi's.
    os.environ["CFLAGS"] = f"{os.environ.get('CFLAGS', '')} {SANITIZE}"


def extensions() -> list[Extension]:
    """One extension per ``_*.pyx`` below ``barrel_p2p``."""
    found = sorted(p.relative_to(ROOT) for p in ROOT.glob("barrel_p2p/**/_*.pyx"))
    return [
        Extension(
            ".".join(path.with_suffix("").parts),
            [str(path)],
            include_dirs=["csrc"],
            depends=sorted(str(p) for p in ROOT.glob("csrc/**/*.h")),
            extra_compile_args=FLAGS,
        )
        for path in found
        if ONLY in ("", str(path))
    ]


setup(
    ext_modules=cythonize(extensions(), compiler_directives=DIRECTIVES),
    cffi_modules=[f"{ENGINE}:ffibuilder"] if ONLY in ("", ENGINE) else [],
)
