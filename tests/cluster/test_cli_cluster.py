"""The commands about a cluster, against real nodes in processes of their own."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.started_node import SECONDS_MAX, Shell, StartedNode

APPLICATION = """
from barrel_p2p import GenServer, call

class Counter(GenServer):
    @call
    async def one(self) -> int:
        return 1

async def setup(node):
    await node.start_server(Counter, service="counter")
    await node.register_service(("room", 5), await node.start_server(Counter), {"k": 1})
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("cli"))
    (shell.directory / "application.py").write_text(APPLICATION)
    return shell


@pytest.fixture(scope="module")
def nodes(shell: Shell) -> Iterator[tuple[StartedNode, StartedNode]]:
    """Node a with services, and node b, which is alone until a test joins it."""
    with (
        shell.node("a", "--app", "application:setup") as a,
        shell.node("b") as b,
    ):
        yield a, b


@pytest.fixture(scope="module")
def joined(
    shell: Shell, nodes: tuple[StartedNode, StartedNode]
) -> tuple[StartedNode, StartedNode]:
    done = shell.here("join", reference(nodes[0]), "--node", "b")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "b@127.0.0.1 has joined; its peers: a@127.0.0.1\n"
    return nodes


def reference(node: StartedNode) -> str:
    return f"{node.address}#{node.banner['fingerprint']}"


def told(shell: Shell, *words: str) -> Any:
    done = shell.here(*words, "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return json.loads(done.stdout)


def test_a_join_that_fails_shows_its_steps_and_changes_nothing(
    shell: Shell, nodes: tuple[StartedNode, StartedNode]
) -> None:
    done = shell.here("join", "x@127.0.0.1:9", "--node", "b")
    assert done.returncode == 4
    assert done.stderr.startswith("error: could not join x@127.0.0.1:9 (gave up after")
    assert "  udp        FAILED  " in done.stderr
    itself = shell.here("join", nodes[1].address, "--node", "b")
    assert itself.returncode == 2, itself.stderr
    assert "code: " in itself.stderr


def test_members_and_views_say_who_is_there_and_how_near(
    shell: Shell, joined: tuple[StartedNode, StartedNode]
) -> None:
    a, b = joined
    assert told(shell, "members", "--node", "a") == {
        "node": a.name,
        "members": [
            {"node": a.name, "state": "alive", "link": "self"},
            {"node": b.name, "state": "alive", "link": "peer"},
        ],
    }
    assert told(shell, "views", "--node", "b") == {
        "node": b.name,
        "active": [a.name],
        "passive": [],
        "active_size": 5,
        "passive_size": 30,
    }
    lines = shell.here("members", "--node", "b").stdout.splitlines()
    assert lines[0].split() == ["node", "state", "link"]
    assert lines[2].split() == [b.name, "alive", "self"]
    shown = shell.here("views", "--node", "b").stdout
    assert shown.startswith(f"active, 1 of 5 at most\n  {a.name}\npassive, 0 of 30")


@pytest.mark.parametrize("far", [False, True])
def test_services_are_listed_and_found_from_here_and_by_a_probe(
    shell: Shell, joined: tuple[StartedNode, StartedNode], *, far: bool
) -> None:
    a, b = joined
    where = ("--peer", reference(b)) if far else ("--node", "b")
    listed = told(shell, "services", *where)
    assert listed["node"] == b.name
    assert [(each["name"], each["node"], each["meta"]) for each in listed["services"]]
    assert {(str(each["name"]), each["node"]) for each in listed["services"]} == {
        ("counter", a.name),
        ("['room', 5]", a.name),
    }
    (room,) = told(shell, "services", '["room", 5]', "--term", *where)["services"]
    assert (room["name"], room["meta"]) == (["room", 5], {"k": 1})
    found = told(shell, "whereis", '["room", 5]', "--term", *where)
    assert (found["node"], found["pid"]) == (a.name, room["pid"])
    unknown = shell.here("whereis", "nobody", *where)
    assert (unknown.returncode, unknown.stdout) == (5, "")
    assert unknown.stderr.startswith("error: no service 'nobody' is known to b@")
    assert unknown.stderr.endswith("code: not_found\n")


@pytest.mark.parametrize("command", ["members", "views", "services"])
def test_a_probe_is_told_what_the_node_itself_tells(
    shell: Shell, joined: tuple[StartedNode, StartedNode], command: str
) -> None:
    near = told(shell, command, "--node", "b")
    far = told(shell, command, "--peer", reference(joined[1]))
    assert far == near


def test_a_key_has_an_owner_from_here_and_by_a_probe(
    shell: Shell, joined: tuple[StartedNode, StartedNode]
) -> None:
    a, b = joined
    here = told(shell, "place", "user:42", "--node", "a")
    assert here == {"key": "user:42", "partition": 21, "node": here["node"]}
    assert here["node"] in (a.name, b.name)
    away = told(shell, "place", "user:42", "--peer", reference(b), "--ephemeral")
    assert away == here
    both = told(shell, "owners", "user:42", "2", "--node", "b")
    assert both["nodes"][0] == here["node"]
    assert sorted(both["nodes"]) == [a.name, b.name]
    done = shell.here("place", '["room", 7]', "--term", "--node", "b")
    assert done.stdout.strip() in (a.name, b.name)
    wrong = shell.here("owners", "user:42", "0", "--node", "b")
    assert (wrong.returncode, "within 1 to" in wrong.stderr) == (2, True)


def test_a_name_without_a_leader_says_so(
    shell: Shell, joined: tuple[StartedNode, StartedNode]
) -> None:
    """LDR-02, as the command has it."""
    a, b = joined
    assert told(shell, "leader", "--node", "a") == {"node": a.name, "leaders": []}
    done = shell.here("leader", "roller", "--node", "b", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "node": b.name,
        "leaders": [
            {
                "name": "roller",
                "leader": None,
                "pid": None,
                "fence": None,
                "candidates": [],
            }
        ],
    }
    far = shell.here("leader", "--peer", reference(b), "--ephemeral")
    assert far.stdout.split() == ["name", "leader", "pid", "fence", "candidates"]


@pytest.mark.parametrize(
    "words",
    [
        ("whereis", "x", "--wait", "-1"),
        ("whereis", "[", "--term"),
        ("whereis", "1.5", "--term"),
        ("events", "--kind", "weather"),
        ("join",),
        ("join", "no name"),
    ],
)
def test_wrong_words_about_a_cluster_end_with_2(
    shell: Shell, nodes: tuple[StartedNode, StartedNode], words: tuple[str, ...]
) -> None:
    done = shell.here(*words, "--node", "b")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr


def test_a_watcher_sees_a_service_go_and_a_node_leave_and_return(
    shell: Shell, joined: tuple[StartedNode, StartedNode]
) -> None:
    a, b = joined
    at = ("--node", "b", "--json")
    with (
        shell.begin("members", "--watch", *at) as lists,
        shell.begin("events", "--kind", "member", "--kind", "service", *at) as events,
    ):
        try:
            assert lists.stdout is not None
            assert events.stdout is not None
            assert len(json.loads(lists.stdout.readline())["members"]) == 2
            begun = json.loads(events.stdout.readline())
            assert (begun["event"], begun["node"]) == ("watching", b.name)
            left = shell.here("leave", "--node", "a")
            assert left.stdout == f"{a.name} has left its cluster\n"
            alone = json.loads(lists.stdout.readline())["members"]
            assert [each["node"] for each in alone] == [b.name]
            seen = [json.loads(events.stdout.readline()) for _ in range(3)]
            assert {(each["event"], each["node"]) for each in seen} == {
                ("service_down", a.name),
                ("member_dead", a.name),
            }
            assert {each["reason"] for each in seen} == {"left"}
            assert told(shell, "services", "--node", "b")["services"] == []
            assert shell.here("join", reference(b), "--node", "a").returncode == 0
            assert len(json.loads(lists.stdout.readline())["members"]) == 2
            told(shell, "whereis", "counter", "--node", "b", "--wait", "10")
            back = [json.loads(events.stdout.readline()) for _ in range(3)]
            assert {(each["event"], each["kind"]) for each in back} == {
                ("member_up", "member"),
                ("service_registered", "service"),
            }
        finally:
            for each in (lists, events):
                each.send_signal(signal.SIGINT)
    assert (lists.returncode, events.returncode) == (130, 130)


def test_who_watches_a_node_that_stops_is_told(shell: Shell) -> None:
    with shell.node("c") as c, shell.begin("events", "--node", "c") as events:
        assert events.stdout is not None
        assert f"  watching              node={c.name} " in events.stdout.readline()
        assert c.end()[0] == 0
        said = events.communicate(timeout=SECONDS_MAX)
    assert (events.returncode, said[1].splitlines()[0]) == (
        4,
        "error: the node went away",
    )
