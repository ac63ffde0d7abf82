"""Build the compiled parts: every ``_x.pyx`` of the package and the cffi engine.

A ``.pyx`` that needs C sources names them in its own ``# distutils:`` lines, so this
file has no list to keep in step. Two variables change a build:

``BARREL_P2P_ONLY``       path of one ``.pyx``, or of ``_build.py``, to build alone
``BARREL_P2P_SANITIZE``   ``1`` builds with AddressSanitizer and UBSan
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent
ONLY = os.environ.get("BARREL_P2P_ONLY", "")
ENGINE = "barrel_p2p/quic/_build.py"
SANITIZE = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g"]
FLAGS = ["-O3", "-std=c11", "-fvisibility=hidden", "-fno-semantic-interposition"]
LINK = []
if os.environ.get("BARREL_P2P_SANITIZE") == "1":
    FLAGS = [*FLAGS, "-O1", *SANITIZE]
    LINK = SANITIZE
DIRECTIVES = {
    "language_level": 3,
    "auto_pickle": False,
    "embedsignature": False,
    "warn.undeclared": False,
}


def extensions() -> list[Extension]:
    """One extension per ``_*.pyx`` below ``barrel_p2p``."""
    found = sorted(p.relative_to(ROOT) for p in ROOT.glob("barrel_p2p/**/_*.pyx"))
    return [
        Extension(
            ".".join(path.with_suffix("").parts),
            [str(path)],
            include_dirs=["csrc"],
            depends=sorted(str(p) for p in ROOT.glob("csrc/**/*.[ch]")),
            extra_compile_args=FLAGS,
            extra_link_args=LINK,
        )
        for path in found
        if ONLY in ("", str(path))
    ]


engine = [f"{ENGINE}:ffibuilder"] if (ROOT / ENGINE).exists() else []
setup(
    ext_modules=cythonize(extensions(), compiler_directives=DIRECTIVES),
    cffi_modules=engine if ONLY in ("", ENGINE) else [],
)
