"""A signal ends the work of a command in good order, and is told from its end."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.interruptible import interruptible, say_interrupted
from tests.endpoints import within


@pytest.fixture(autouse=True)
def _handlers() -> object:
    """Whatever handled the signals before does so again."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_the_work_clean_up(number: signal.Signals) -> None:
    told: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), number)
            await within(asyncio.get_running_loop().create_future())
        finally:
            told.append("cleaned up")

    assert asyncio.run(interruptible(work()))
    assert told == ["cleaned up"]


def test_work_that_ends_was_not_interrupted() -> None:
    assert not asyncio.run(interruptible(asyncio.sleep(0)))


def test_an_error_of_the_work_is_not_lost() -> None:
    async def work() -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        asyncio.run(interruptible(work()))


def test_what_was_interrupted_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert say_interrupted("demo") is ExitCode.INTERRUPTED
    assert capsys.readouterr().err == "\ndemo: interrupted\n"
