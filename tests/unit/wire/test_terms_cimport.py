"""Compiled callers encode in place, into buffers that move, and roll back for free."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

from barrel_p2p.errors import NotEncodable, WireError
from barrel_p2p.wire.terms import encode
from tests.tools import require_tool
from tests.tree import ROOT

SOURCE = Path(__file__).with_name("term_caller.cython")
VALUES = [None, "x" * 300, {"k": [1, {"deep": (b"y" * 5_000,)}]}, {1, (2, 3)}]


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    folder = tmp_path_factory.mktemp("caller")
    source, library = folder / "term_caller.pyx", folder / "term_caller.so"
    source.write_bytes(SOURCE.read_bytes())
    cython = [sys.executable, "-m", "cython", "-3", f"-I{ROOT}", str(source)]
    subprocess.run(cython, check=True)
    include = sysconfig.get_path("include")
    gcc = [require_tool("gcc"), "-shared", "-fPIC", "-O1", "-w", f"-I{include}"]
    subprocess.run(
        [*gcc, str(source.with_suffix(".c")), "-o", str(library)], check=True
    )
    spec = importlib.util.spec_from_file_location("term_caller", library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_terms_follow_what_stands_in_the_buffer(caller: ModuleType) -> None:
    lender = caller.Lender(b"header", 1 << 20)
    expected = b"header"
    for value in VALUES:
        lender.write(value)
        expected += encode(value)
        assert lender.content == expected


def test_a_failure_leaves_the_buffer_as_it_was(caller: ModuleType) -> None:
    lender = caller.Lender(b"header", 1 << 20)
    lender.write("before")
    content = lender.content
    for value in ([*VALUES, object()], [b"z" * 9_000, {1: {2: 3j}}], {("t", 1j)}):
        with pytest.raises(NotEncodable, match="which no term can hold"):
            lender.write(value)
        assert lender.content == content
    lender.write("after")
    assert lender.content == content + encode("after")


def test_a_buffer_that_may_not_grow_ends_the_term(caller: ModuleType) -> None:
    lender = caller.Lender(b"header", 4_096)
    for value in (b"x" * 5_000, list(range(5_000)), dict.fromkeys(range(99), "x" * 60)):
        with pytest.raises(MemoryError):
            lender.write(value)
        assert lender.content == b"header"
    lender.write(b"x" * 3_000)
    assert lender.content == b"header" + encode(b"x" * 3_000)


def test_a_fault_can_be_dropped_instead_of_raised(caller: ModuleType) -> None:
    lender = caller.Lender(b"header", 1 << 20)
    assert lender.try_write(1) == 0
    assert lender.try_write([object()]) < 0
    assert lender.try_write({float("nan")}) < 0


def test_a_value_outlives_the_bytes_it_came_from(caller: ModuleType) -> None:
    for value in VALUES:
        assert caller.read(encode(value), 0, "a@h") == value


def test_a_refusal_blames_the_peer(caller: ModuleType) -> None:
    with pytest.raises(WireError, match="nested deeper than 1") as caught:
        caller.read(encode([[1]]), 1, "a@h")
    assert caught.value.peer == "a@h"
    assert caller.read(encode([1]), 1, "a@h") == [1]
