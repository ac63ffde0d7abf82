"""The files of this checkout, as the tidy tests see them."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.tools import require_tool

__all__ = ["ROOT", "code_lines", "files", "imported_modules", "parsed"]

ROOT = Path(__file__).parents[1]

_CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import\b|c?import\s+([\w.]+))")


def files(*suffixes: str, under: str = "") -> list[Path]:
    """Files that are or would be committed, by suffix and folder, sorted."""
    return [
        path
        for path in _committable()
        if (not suffixes or path.suffix in suffixes)
        and path.is_relative_to(ROOT / under)
    ]


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a ``.py`` or ``.pyi`` file."""
    return ast.parse(path.read_text(), str(path))


def imported_modules(path: Path) -> set[str]:
    """Dotted names that a Python or Cython file imports, at any depth.

    ``from a.b import c`` counts as ``a.b`` and ``a.b.c``: ``c`` may be a module.
    """
    if path.suffix in (".pyx", ".pxd", ".pxi"):
        found = (_CYTHON_IMPORT.match(line) for line in code_lines(path))
        return {m.group(1) or m.group(2) for m in found if m is not None}
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def code_lines(path: Path) -> Iterator[str]:
    """Lines of a file with ``#`` comments cut off and docstrings left out."""
    inside = False
    for line in path.read_text().splitlines():
        quotes = line.count('"""')
        if quotes == 0 and not inside:
            yield line.partition("#")[0]
        inside ^= quotes == 1


@functools.cache
def _committable() -> list[Path]:
    command = [require_tool("git"), "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    command += ["--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    paths = {ROOT / name for name in listed.decode().split("\0") if name}
    return sorted(path for path in paths if path.is_file())
