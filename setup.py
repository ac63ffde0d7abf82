"""Build the compiled parts: every ``_x.pyx`` of the package and the cffi engine.

A ``.pyx`` that needs C sources names them in its own ``# distutils:`` lines, so this
file has no list to keep in step.
"""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent
FLAGS = ["-O3", "-std=c11", "-fvisibility=hidden", "-fno-semantic-interposition"]
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
            extra_compile_args=FLAGS,
        )
        for path in found
    ]


setup(
    ext_modules=cythonize(extensions(), compiler_directives=DIRECTIVES),
    cffi_modules=["barrel_p2p/quic/_build.py:ffibuilder"],
)
