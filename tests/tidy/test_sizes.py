"""No function and no file is too long to be read in one go."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.tree import ROOT, files, parsed

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = {
    ".py": 600,
    ".pyi": 600,
    ".pyx": 600,
    ".pxd": 400,
    ".pxi": 600,
    ".c": 800,
    ".h": 400,
}
CYTHON_DEF = re.compile(
    r"^( *)(?:(?:async )?def|cpdef|cdef(?! (?:class|extern|enum|struct|union)\b))"
    r"[^=\"]*?(\w+)\s*\("
)


@pytest.mark.parametrize("suffix", FILE_LINES_MAX)
def test_no_file_is_over_its_limit(suffix: str) -> None:
    limit = FILE_LINES_MAX[suffix]
    long = {_name(p): n for p in files(suffix) if (n := _lines(p)) > limit}
    assert long == {}, f"{suffix} files over {limit} lines"


@pytest.mark.parametrize("suffix", [".py", ".pyx", ".pxi", ".c"])
def test_no_function_is_over_its_limit(suffix: str) -> None:
    measure = {".py": python_functions, ".c": c_functions}
    long = {
        f"{_name(path)}:{name}": lines
        for path in files(suffix)
        for name, lines in measure.get(suffix, cython_functions)(path)
        if lines > FUNCTION_LINES_MAX
    }
    assert long == {}, f"functions over {FUNCTION_LINES_MAX} lines"


def test_the_measures_see_functions(tmp_path: Path) -> None:
    python, cython, c = (tmp_path / f"sample{s}" for s in (".py", ".pyx", ".c"))
    python.write_text("class A:\n    def f(self):\n        x = 1\n        return x\n")
    cython.write_text(
        "cdef class A:\n"
        "    cdef inline int f(\n        self, int x\n    ) except -1:\n"
        "        # one\n\n        return x\n"
        "    def g(self):\n        return 1\n\n\nX = 1\n"
    )
    c.write_text("static int\nf(int x)\n{\n    if (x) {\n    }\n    return x;\n}\n")
    assert python_functions(python) == [("f", 3)]
    assert cython_functions(cython) == [("f", 6), ("g", 2)]
    assert c_functions(c) == [("f", 5)]


def python_functions(path: Path) -> list[tuple[str, int]]:
    """Name and length of every function, from ``def`` to its last line."""
    return [
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def cython_functions(path: Path) -> list[tuple[str, int]]:
    """As ``python_functions``, by indentation, for what Python cannot parse."""
    found: list[tuple[str, int]] = []
    lines = path.read_text().splitlines()
    for start, line in enumerate(lines):
        match = CYTHON_DEF.match(line)
        if match is not None:
            indent = len(match.group(1))
            found.append((match.group(2), _block_length(lines, start, indent)))
    return found


def c_functions(path: Path) -> list[tuple[str, int]]:
    """Name and length of every definition, from ``{`` to ``}`` in column 0."""
    found: list[tuple[str, int]] = []
    name, opened = "?", None
    for number, line in enumerate(path.read_text().splitlines()):
        if match := re.match(r"(\w+)\(", line):
            name = match.group(1)
        elif line == "{":
            opened = number
        elif line == "}" and opened is not None:
            found.append((name, number - opened + 1))
            opened = None
    return found


def _block_length(lines: list[str], start: int, indent: int) -> int:
    last = start
    for number, line in enumerate(lines[start + 1 :], start + 1):
        text = line.lstrip()
        if text and len(line) - len(text) <= indent and not text.startswith(")"):
            break
        last = number if text else last
    return last - start + 1


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))
