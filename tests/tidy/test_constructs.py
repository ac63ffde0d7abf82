"""What no file of ours may contain, whoever reviews it.

Code that turns bytes into calls is not a decoder, a sleep is not synchronisation,
and a promise without an id is not kept.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tree import ROOT, code_lines, files, imported_modules, parsed

PRODUCT = "barrel_p2p"
CODE_LOADERS = {"cloudpickle", "dill", "marshal", "pickle", "shelve"}
CODE_RUNNERS = {"__import__", "eval", "exec", "import_module"}
IMPURE = {
    "asyncio",
    "datetime",
    "logging",
    "os",
    "pathlib",
    "random",
    "secrets",
    "socket",
    "time",
    "uvloop",
}
VAGUE_NAMES = {"common", "helper", "helpers", "manager", "misc", "util", "utils"}
PROMISE = re.compile(r"\b(?:FIXME|HACK|XXX)\b|\bTODO\b(?!\(#\d+\))")
SKIPS = {"importorskip", "skip"}
COMMENTED = (
    *(".py", ".pyi", ".pyx", ".pxd", ".pxi"),
    *(".c", ".h", ".cmake", ".md", ".toml", ".txt"),
)
NOT_SYNCHRONISATION = "# not synchronisation: "


def test_the_product_loads_no_code_from_bytes() -> None:
    assert _found(lambda p: _top_level(imported_modules(p)) & CODE_LOADERS) == {}


def test_the_product_runs_no_code_from_text() -> None:
    assert _found(lambda p: _calls(p) & CODE_RUNNERS) == {}


def test_the_product_has_no_unfinished_paths() -> None:
    assert _found(lambda p: _words(p) & {"NotImplementedError"}) == {}


def test_machines_know_no_clock_no_chance_and_no_outside() -> None:
    machines = {"machine.py", "_machine.pyx", "messages.py"}
    dirty = {
        _name(path): names
        for path in files(".py", ".pyx", under=PRODUCT)
        if path.name in machines
        and (names := _top_level(imported_modules(path)) & IMPURE)
    }
    assert dirty == {}


def test_tests_do_not_sleep_to_synchronise() -> None:
    sleeps = [
        f"{_name(path)}:{node.lineno}"
        for path in files(".py", under="tests")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and _is_sleep(path, node)
    ]
    assert sleeps == [], f"wait for the event itself, or say '{NOT_SYNCHRONISATION}why'"


def test_tests_use_no_mocks() -> None:
    mocked = {
        _name(path): names
        for path in files(".py", under="tests")
        if (names := imported_modules(path) & {"unittest.mock", "mock", "pytest_mock"})
    }
    assert mocked == {}


def test_a_missing_tool_is_told_in_one_place_only() -> None:
    skipping = {
        _name(path): names
        for path in files(".py", under="tests")
        if path.name != "tools.py" and (names := _calls(path) & SKIPS)
    }
    assert skipping == {}, "use tests.tools.require_tool, which fails in CI"


def test_every_promise_has_an_id() -> None:
    promises = [
        f"{_name(path)}:{number}"
        for path in files(*COMMENTED)
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PROMISE.search(line)
    ]
    assert promises == []


def test_modules_are_named_for_what_they_hold() -> None:
    suffixes = (".py", ".pyx", ".pxd", ".pxi", ".c", ".h")
    vague = [_name(p) for p in files(*suffixes) if p.stem.strip("_") in VAGUE_NAMES]
    assert vague == []


def test_c_sources_know_no_python() -> None:
    mixed = [
        _name(p) for p in files(".c", ".h", under="csrc") if "Python.h" in p.read_text()
    ]
    assert mixed == []


@pytest.mark.parametrize("folder", [PRODUCT, "tests", "bench"])
def test_every_module_postpones_annotations(folder: str) -> None:
    eager = [
        _name(path)
        for path in files(".py", under=folder)
        if path.name != "__init__.py"
        and "__future__.annotations" not in imported_modules(path)
    ]
    assert eager == []


def test_every_module_of_the_product_lists_its_public_names() -> None:
    silent = [
        _name(path)
        for path in files(".py", under=PRODUCT)
        if path.name not in ("__init__.py", "_build.py")
        and "__all__" not in _assigned(path)
    ]
    assert silent == []


def _found(test: Callable[[Path], set[str]]) -> dict[str, set[str]]:
    return {
        _name(p): names
        for p in files(".py", ".pyx", ".pxd", ".pxi", under=PRODUCT)
        if (names := test(p))
    }


def _calls(path: Path) -> set[str]:
    if path.suffix != ".py":
        return set(re.findall(r"\b(\w+)\(", "\n".join(code_lines(path))))
    calls = (n.func for n in ast.walk(parsed(path)) if isinstance(n, ast.Call))
    return {
        f.id if isinstance(f, ast.Name) else f.attr
        for f in calls
        if isinstance(f, ast.Name | ast.Attribute)
    }


def _words(path: Path) -> set[str]:
    return set(re.findall(r"\w+", "\n".join(code_lines(path))))


def _assigned(path: Path) -> set[str]:
    return {
        target.id
        for node in parsed(path).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _is_sleep(path: Path, call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if name not in ("sleep", "time.sleep", "asyncio.sleep"):
        return False
    if (
        ast.unparse(call) == "asyncio.sleep(0)"
    ):  # Yields to the loop; waits for nothing.
        return False
    line = path.read_text().splitlines()[call.lineno - 1]
    return NOT_SYNCHRONISATION not in line


def _top_level(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))
