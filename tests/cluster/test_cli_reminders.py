"""The commands about reminders, against a real node in a process of its own."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.started_node import SECONDS_MAX, Shell, StartedNode

APPLICATION = """
import asyncio, json

async def setup(node):
    async def hear():
        async with node.reminders() as stream:
            async for event in stream:
                with open("told.jsonl", "a") as file:
                    print(json.dumps([event.key, event.payload]), file=file)
    node.hearing = asyncio.ensure_future(hear())
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("cli"))
    (shell.directory / "application.py").write_text(APPLICATION)
    return shell


@pytest.fixture(scope="module")
def running(shell: Shell) -> Iterator[StartedNode]:
    with shell.node("a", "--app", "application:setup") as node:
        yield node


def told(shell: Shell, *words: str) -> Any:
    done = shell.here(*words, "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return json.loads(done.stdout)


def heard(shell: Shell, wanted: list[object]) -> bool:
    """Whether a handler was told, before a deadline."""
    file = shell.directory / "told.jsonl"
    end = time.monotonic() + SECONDS_MAX
    while time.monotonic() < end:
        if file.exists():
            lines = file.read_text().splitlines()
            if wanted in [json.loads(line) for line in lines]:
                return True
        time.sleep(0.05)  # not synchronisation: the interval of looks
    return False


def test_a_reminder_is_set_listed_and_cancelled(
    shell: Shell, running: StartedNode
) -> None:
    at = "2030-01-01T12:00+01:00"
    answer = told(shell, "remind", "later", "--at", at, "--payload", '{"do": [1]}')
    assert answer == {"key": "later", "set": True, "owner": running.name}
    told(shell, "remind", '["room", 5]', "--term", "--after", "3600", "--every", "60")
    listed = told(shell, "reminders")
    assert (listed["node"], listed["total"]) == (running.name, 2)
    first, second = listed["reminders"]
    assert (first["key"], first["every_ms"], first["missed"]) == (
        ["room", 5],
        60_000,
        "coalesce",
    )
    assert second == {
        "key": "later",
        "at_ms": 1_893_495_600_000,
        "every_ms": None,
        "missed": None,
        "payload": {"do": [1]},
        "owner": running.name,
    }
    assert told(shell, "cancel-reminder", "later")["cancelled"]
    told(shell, "cancel-reminder", '["room", 5]', "--term")
    assert told(shell, "reminders")["reminders"] == []
    lines = shell.here("reminders").stdout.splitlines()
    assert lines[0].split() == ["at", "key", "owner", "every", "payload"]


def test_a_reminder_that_is_due_is_told_to_the_application(
    shell: Shell, running: StartedNode
) -> None:
    done = shell.here("remind", "soon", "--after", "0.2", "--payload", '"tea"')
    assert done.stdout == f"soon is set; it belongs to {running.name}\n"
    assert heard(shell, ["soon", "tea"])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("k",), "--at or --after"),
        (("k", "--at", "5", "--after", "5"), "--at or --after"),
        (("k", "--at", "2030-01-01T12:00"), "no time zone"),
        (("k", "--at", "tomorrow"), "tomorrow"),
        (("k", "--after", "-1"), "not negative"),
        (("k", "--after", "1", "--every", "0.01"), "every=10"),
        (("k", "--after", "1", "--payload", "{"), "JSON"),
    ],
)
def test_wrong_words_about_reminders_end_with_2(
    shell: Shell, running: StartedNode, words: tuple[str, ...], complaint: str
) -> None:
    done = shell.here("remind", *words)
    assert done.returncode == 2, done.stderr
    assert complaint in done.stderr


def test_a_reminder_survives_the_kill_of_its_node(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """P1: what the command said is set is set, and fires once it is due."""
    shell = Shell(tmp_path_factory.mktemp("killed"))
    (shell.directory / "application.py").write_text(APPLICATION)
    with shell.node("a") as node:
        told(shell, "remind", "kept", "--after", "0.1", "--payload", "[1]")
        told(shell, "remind", "gone", "--after", "0.1")
        told(shell, "cancel-reminder", "gone")
        node.end(signal.SIGKILL)
    with shell.node("a", "--app", "application:setup"):
        assert heard(shell, ["kept", [1]])
        assert told(shell, "reminders")["total"] == 0
        lines = (shell.directory / "told.jsonl").read_text().splitlines()
        assert [json.loads(line)[0] for line in lines] == ["kept"]
