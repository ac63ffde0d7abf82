"""Run every check of style, types and layers, all of them, and say which failed.

Only a failing check shows its output, so what is on the screen is what to mend.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
ALLOWED = "tests/tidy/stubtest.txt"
REMEDIES = {
    "ruff check": "ruff check --fix . mends part of it",
    "ruff format": "ruff format . mends it",
    "clang-format": "clang-format -i with the files named above mends it",
}


def checks() -> dict[str, list[str]]:
    """Name to command, the quick ones first."""
    c_files = sorted(str(p) for p in ROOT.glob("csrc/**/*.[ch]"))
    python = sys.executable
    return {
        "ruff check": [tool("ruff"), "check", "."],
        "ruff format": [tool("ruff"), "format", "--check", "."],
        "clang-format": [tool("clang-format"), "--dry-run", "--Werror", *c_files],
        "import-linter": [tool("lint-imports"), "--no-logo"],
        "mypy": [python, "-m", "mypy"],
        "stubtest": [
            *(python, "-m", "mypy.stubtest", "--mypy-config-file", "pyproject.toml"),
            *("--allowlist", ALLOWED, "--ignore-unused-allowlist"),
            "--ignore-disjoint-bases",
            *compiled_modules(),
        ],
        "tidy tests": [python, "-m", "pytest", "-q", "tests/tidy"],
    }


def compiled_modules() -> list[str]:
    """Every module that has a stub of its own, because it is compiled."""
    stubs = sorted(ROOT.glob("barrel_p2p/**/_*.pyi"))
    return [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in stubs]


def tool(name: str) -> str:
    """The program that was installed beside this Python."""
    return str(BIN / name)


def main() -> int:
    """Return 0 when every check passed."""
    failed = []
    for name, command in checks().items():
        started_s = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        took_s = time.monotonic() - started_s
        verdict = "ok" if done.returncode == 0 else "FAILED"
        print(f"lint: {name:<14} {verdict:<6} {took_s:5.1f} s", flush=True)
        if done.returncode != 0:
            failed.append(name)
            print(done.stdout + done.stderr + REMEDIES.get(name, ""), flush=True)
    print(f"lint: {'all clean' if not failed else 'failed: ' + ', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
