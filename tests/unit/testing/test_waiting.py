"""``eventually`` returns what came true, and says what did not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from barrel_p2p.testing import eventually


async def test_it_returns_the_first_true_answer() -> None:
    answers: Iterator[object] = iter([0, [], None, "yes", "too late"])
    assert await eventually(lambda: next(answers)) == "yes"


async def test_a_coroutine_function_is_awaited() -> None:
    answers = iter([False, True])

    async def condition() -> bool:
        return next(answers)

    assert await eventually(condition) is True


async def test_an_assertion_that_fails_is_asked_again() -> None:
    answers = iter([1, 2])

    def condition() -> bool:
        assert next(answers) == 2
        return True

    assert await eventually(condition)


async def test_another_exception_ends_the_wait() -> None:
    def condition() -> bool:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        await eventually(condition, timeout=60)


async def test_a_failure_names_the_condition_and_its_last_answer() -> None:
    with pytest.raises(AssertionError) as caught:
        await eventually(lambda: [i for i in range(3) if i > 2], timeout=0.05)
    text = str(caught.value)
    assert text.startswith("not within 0.05 s, asked ")
    assert "lambda: [i for i in range(3) if i > 2]" in text
    assert "test_waiting.py:" in text
    assert text.endswith("it returned []")


async def test_a_failure_names_the_last_assertion() -> None:
    def condition() -> bool:
        raise AssertionError("two of three")

    with pytest.raises(AssertionError, match="AssertionError: two of three"):
        await eventually(condition, timeout=0)


async def test_a_condition_that_hangs_does_not_hang_the_test() -> None:
    with pytest.raises(AssertionError, match="it never answered"):
        await eventually(asyncio.Event().wait, timeout=0.05)


async def test_a_timeout_of_the_condition_is_its_own() -> None:
    async def condition() -> bool:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await eventually(condition, timeout=60)
