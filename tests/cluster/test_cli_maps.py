"""``barrel-p2p map``, against two real nodes in processes of their own."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.started_node import SECONDS_MAX, Shell, StartedNode

CONFIG = """
[replicated_maps.flags]
[replicated_maps.kept]
persist = true
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("cli"))
    (shell.directory / "maps.toml").write_text(CONFIG)
    return shell


@pytest.fixture(scope="module")
def nodes(shell: Shell) -> Iterator[tuple[StartedNode, StartedNode]]:
    """Two nodes that have joined, with the same maps."""
    config = ("--config", "maps.toml")
    with shell.node("a", *config) as a, shell.node("b", *config) as b:
        reference = f"{a.address}#{a.banner['fingerprint']}"
        assert shell.here("join", reference, "--node", "b").returncode == 0
        yield a, b


def told(shell: Shell, *words: str) -> Any:
    done = shell.here("map", *words, "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return json.loads(done.stdout)


@pytest.mark.usefixtures("nodes")
@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["true"], True),
        (["-5"], -5),
        (["1.5"], 1.5),
        (["null"], None),
        (['{"a": [1, "x"]}'], {"a": [1, "x"]}),
        (["hello"], "hello"),
        (["__import__('os').getcwd()"], "__import__('os').getcwd()"),
        (["NaN"], "NaN"),
        (["true", "--text"], "true"),
    ],
)
def test_a_value_is_json_or_text_and_never_run(
    shell: Shell, words: list[str], value: object
) -> None:
    at = ("--node", "a")
    assert told(shell, "put", "flags", "k", *words, *at)["put"] is True
    got = told(shell, "get", "flags", "k", *at)
    assert got == {"map": "flags", "key": "k", "found": True, "value": value}


@pytest.mark.usefixtures("nodes")
def test_keys_are_text_or_terms(shell: Shell) -> None:
    at = ("--node", "a")
    told(shell, "put", "kept", '["room", 5]', "1", "--term", *at)
    told(shell, "put", "kept", '["room", 5]', "text", *at)
    shown = shell.here("map", "ls", "kept", *at)
    assert sorted(shown.stdout.splitlines()) == [
        '["room", 5]  1',
        '["room", 5]  text',
    ]
    told(shell, "rm", "kept", '["room", 5]', *at)
    entries = told(shell, "ls", "kept", *at)["entries"]
    assert entries == [{"key": ["room", 5], "value": 1}]
    for words in (("rm", "kept", "1.5"), ("get", "kept", '{"a": 1}')):
        done = shell.here("map", *words, "--term", *at)
        assert done.returncode == 2, done.stderr
        assert "not_encodable" in done.stderr


@pytest.mark.usefixtures("nodes")
def test_what_is_not_there_is_told_by_the_exit_code(shell: Shell) -> None:
    at = ("--node", "a")
    missing = shell.here("map", "get", "flags", "no such key", *at)
    assert (missing.returncode, missing.stdout, missing.stderr) == (1, "", "")
    for words in (("get", "no", "k"), ("put", "no", "k", "1"), ("ls", "no")):
        done = shell.here("map", *words, *at)
        assert done.returncode == 5
        assert "no_such_map" in done.stderr
    maps = told(shell, "ls", *at)["maps"]
    assert [(each["map"], each["persist"]) for each in maps] == [
        ("flags", False),
        ("kept", True),
    ]


@pytest.mark.usefixtures("nodes")
def test_a_watcher_on_one_node_sees_what_the_other_was_told(shell: Shell) -> None:
    told(shell, "put", "flags", "before", "1", "--node", "b")
    with shell.begin(
        "map", "watch", "flags", "--snapshot", "--json", "--node", "b"
    ) as w:
        try:
            assert w.stdout is not None
            seen = [json.loads(w.stdout.readline())]
            assert seen[0]["event"] == "watching"
            told(shell, "put", "flags", "watched", "[2]", "--node", "a")
            told(shell, "rm", "flags", "watched", "--node", "a")
            while seen[-1]["event"] != "remove":
                seen.append(json.loads(w.stdout.readline()))
            assert {"event": "put", "map": "flags", "key": "before", "value": 1} in seen
            assert seen[-2:] == [
                {"event": "put", "map": "flags", "key": "watched", "value": [2]},
                {"event": "remove", "map": "flags", "key": "watched"},
            ]
        finally:
            w.send_signal(signal.SIGINT)
            assert w.wait(SECONDS_MAX) == 130
    unknown = shell.here("map", "watch", "no", "--node", "b")
    assert unknown.returncode == 5, unknown.stderr


def test_what_was_acknowledged_is_there_after_all_nodes_were_killed(
    shell: Shell,
) -> None:
    """MAP-23: SIGKILL to both a moment after each has written."""
    names = ("c", "d")
    config = ("--config", "maps.toml")
    with shell.node("c", *config) as c, shell.node("d", *config) as d:
        reference = f"{c.address}#{c.banner['fingerprint']}"
        assert shell.here("join", reference, "--node", "d").returncode == 0
        for name in names:
            for number in range(5):
                key = f"{name}{number}"
                told(shell, "put", "kept", key, str(number), "--node", name)
        told(shell, "rm", "kept", "c0", "--node", "c")
        for node in (c, d):
            assert node.end(signal.SIGKILL)[0] == -signal.SIGKILL
    with shell.node("c", *config) as c, shell.node("d", *config):
        # Before they have met: each has what it has acknowledged itself.
        for name in names:
            entries = told(shell, "ls", "kept", "--node", name)["entries"]
            own = {e["key"]: e["value"] for e in entries if e["key"][0] == name}
            assert own == {
                f"{name}{number}": number
                for number in range(5)
                if name + str(number) != "c0"
            }
        reference = f"{c.address}#{c.banner['fingerprint']}"
        assert shell.here("join", reference, "--node", "d").returncode == 0
        wanted = {f"{name}{number}" for name in names for number in range(5)} - {"c0"}
        until_s = time.monotonic() + SECONDS_MAX
        for name in names:
            # What was removed on c, a moment before it died, d perhaps never heard of.
            while _keys(shell, name) != wanted:
                assert time.monotonic() < until_s, _keys(shell, name)


def _keys(shell: Shell, node: str) -> set[str]:
    entries = told(shell, "ls", "kept", "--node", node)["entries"]
    return {entry["key"] for entry in entries}
