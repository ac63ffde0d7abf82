"""A child answers in JSON lines, and whatever else it does has a name."""

from __future__ import annotations

import os

import pytest

from bench.child import Child, ChildFailed

ECHO = "import sys, json; print(json.dumps({'n': 1}), flush=True); sys.stdin.read()"


def child(script: str) -> Child:
    return Child(["-c", script])


def test_a_child_answers_and_ends_when_its_stdin_closes() -> None:
    with child(ECHO) as echo:
        assert echo.line() == {"n": 1}
    with pytest.raises(ProcessLookupError):
        os.kill(echo.pid, 0)
    echo.close()


def test_two_lines_in_one_piece_are_two_answers() -> None:
    with child(r"print('{\"a\": 1}\n{\"a\": 2}', flush=True)") as twice:
        assert [twice.line(), twice.line()] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("print('ready')", "wrote b'ready'"),
        ("print('[1]')", "no JSON object"),
        ("raise SystemExit(3)", "status 3"),
        ("print('{}', end='')", "status 0"),
        ("print('x' * 2_000_000)", "LINE_BYTES_MAX"),
        ("import sys; sys.stdin.read()", "in time"),
    ],
)
def test_a_child_that_says_something_else_is_named(script: str, complaint: str) -> None:
    with child(script) as odd, pytest.raises(ChildFailed, match=complaint):
        odd.line(timeout_s=0.0 if "stdin" in script else 30.0)
