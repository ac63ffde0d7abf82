"""Build the term codec, an interpreter and libFuzzer into one program and run it.

    python tests/fuzz/fuzz_terms.py --seconds 60     # fuzz; 0 only replays the corpus
    python tests/fuzz/fuzz_terms.py --keep           # then keep what reached new code

Our C and Cython code is compiled with ASan, UBSan and coverage; the interpreter is the
one that runs this file and allocates with malloc, so that ASan sees every object. What
is found lies in ``build/fuzz-terms``, what is kept in ``tests/vectors/corpus``.

Needs clang with its compiler-rt, and a Python built with a shared library or with
``libpython`` in its ``LIBDIR``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "fuzz-terms"
# Terms without their version byte: the corpus of csrc/fuzz/fuzz_term_weigh.c too.
KEPT = ROOT / "tests" / "vectors" / "corpus" / "term_weigh"
HARNESS = Path(__file__).with_suffix(".c")
SANITIZE = "-fsanitize=fuzzer-no-link,address,undefined"
FLAGS = [SANITIZE, "-fno-sanitize-recover=all", "-g", "-O1", "-std=c11"]
MODULES = {"core_terms": "barrel_p2p/core/_terms.pyx"}
MODULES["wire_terms"] = "barrel_p2p/wire/_terms.pyx"
SOURCES = ["csrc/codec/key_probe.c", "csrc/codec/term_weigh.c"]


def main() -> int:
    """Build, run and return the fuzzer's exit status."""
    parser = argparse.ArgumentParser(description="Fuzz the term codec.")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", action="store_true", help="add to the kept corpus")
    options = parser.parse_args()
    program = build(required("clang"))
    found = BUILD / "corpus"
    found.mkdir(exist_ok=True)
    run = [str(program), "-rss_limit_mb=1024", "-timeout=10", "-print_final_stats=1"]
    run += ["-max_len=4096", f"-artifact_prefix={BUILD}/"]
    if options.seconds > 0:
        limit = f"-max_total_time={options.seconds}"
        run += [limit, str(found), str(KEPT)]
    else:
        run += ["-runs=0", str(KEPT)]
    status = subprocess.run(run, env=environment(), check=False).returncode
    if options.keep and status == 0:
        merge = [str(program), "-merge=1", str(KEPT), str(found)]
        status = subprocess.run(merge, env=environment(), check=False).returncode
    return status


def build(clang: str) -> Path:
    """Compile everything into one program; a few dozen seconds."""
    BUILD.mkdir(parents=True, exist_ok=True)
    headers = [f"-I{sysconfig.get_path('include')}", f"-I{ROOT / 'csrc'}"]
    objects = []
    for name, path in MODULES.items():
        source = BUILD / f"{name}.c"
        cython = [sys.executable, "-m", "cython", "-3", "-X", "auto_pickle=False"]
        checked([*cython, "-o", str(source), path])
        # Both modules are called _terms, so their entry points get names of their own.
        define = f"-DPyInit__terms=PyInit_{name}"
        objects.append(compiled(clang, source, [*headers, define, "-w"]))
    for own in [*map(ROOT.joinpath, SOURCES), HARNESS]:
        objects.append(compiled(clang, own, [*headers, "-Wall", "-Wextra"]))
    program = BUILD / "fuzz_terms"
    libdir = sysconfig.get_config_var("LIBDIR")
    version = sysconfig.get_config_var("LDVERSION")
    link = [clang, "-fsanitize=fuzzer,address,undefined", *objects, "-o", str(program)]
    link += [f"-L{libdir}", f"-Wl,-rpath,{libdir}", f"-lpython{version}", "-lm"]
    checked([*link, "-ldl", "-lutil", "-lpthread"])
    return program


def compiled(clang: str, source: Path, flags: list[str]) -> str:
    target = BUILD / f"{source.stem}.o"
    checked([clang, *FLAGS, *flags, "-c", str(source), "-o", str(target)])
    return str(target)


def checked(command: list[str]) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


def environment() -> dict[str, str]:
    """One hash seed, so that a finding can be repeated; no leaks of the interpreter."""
    paths = [str(ROOT), sysconfig.get_path("purelib")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONMALLOC": "malloc",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def required(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise SystemExit(f"needs {program}: apt-get install clang libclang-rt-14-dev")
    return path


if __name__ == "__main__":
    sys.exit(main())
