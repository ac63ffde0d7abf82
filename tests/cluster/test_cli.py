"""The command line against real nodes in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.started_node import Shell, StartedNode

APP = ("--app", "application:setup")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("cli"))


@pytest.fixture(scope="module")
def a(shell: Shell) -> Iterator[StartedNode]:
    """A node with a server, for tests that leave it as it was."""
    with shell.node("a", *APP) as node:
        yield node


@pytest.fixture
def own(tmp_path: Path) -> Shell:
    """A directory that no other test uses."""
    return Shell(tmp_path)


def test_the_join_line_makes_a_second_node_that_both_pin(own: Shell) -> None:
    with own.node("a") as a:
        words = shlex.split(a.banner["join"])
        assert words[:2] == ["barrel-p2p", "start"]
        assert words[-1] == f"{a.address}#{a.banner['fingerprint']}"
        options = words[words.index("--join") :]
        with own.node("b", *options) as b:
            assert b.banner["nodes"] == ["a@127.0.0.1"]
            told = own.run("nodes", "--node", "a")
            assert (told.returncode, told.stdout) == (0, "b@127.0.0.1\n")
            for one, other in ((a, b), (b, a)):
                listed = own.here("keys", "list", "--node", one.name, "--json")
                (pin,) = json.loads(listed.stdout)["pins"]
                assert pin["node"] == other.name
                assert pin["fingerprint"] == other.banner["fingerprint"]
                assert pin["level"] == "tofu"
            unclear = own.run("nodes")
            assert unclear.returncode == 2
            assert "a@127.0.0.1, b@127.0.0.1" in unclear.stderr


REQUESTS = [
    (["call", "counter", "add", "0"], 0, "0\n", ""),
    (["call", "counter", "add", "-0", "--json"], 0, '{"value": 0}\n', ""),
    (["call", "counter", "fail"], 5, "", "ZeroDivisionError: on purpose \\x1b[31m"),
    (["call", "counter", "nothing"], 5, "", "code: undef"),
    (["call", "nobody", "add", "1"], 5, "", "code: noproc"),
    (["call", "counter", "add", "true"], 2, "", "Expected `int`, got `bool`"),
    (["call", "counter", "add", "x"], 2, "", "'x' is not JSON"),
    (["call", "counter", "add", "--timeout", "0"], 2, "", "--timeout 0 is not within"),
    (["call", "counter", "never", "--timeout", "0.2"], 5, "", "code: timeout"),
    (["send", "nobody", "1"], 5, "", "code: noproc"),
]


@pytest.mark.parametrize(("words", "code", "out", "err"), REQUESTS)
def test_a_request_over_the_socket_ends_with_its_exit_code(
    shell: Shell, a: StartedNode, words: list[str], code: int, out: str, err: str
) -> None:
    done = shell.here(*words, "--node", "a")
    assert (done.returncode, done.stdout) == (code, out), done.stderr
    assert err in done.stderr
    assert "\x1b" not in done.stderr
    assert bool(done.stderr) == bool(err)


@pytest.mark.parametrize(
    ("words", "code", "out", "err"), [REQUESTS[i] for i in (0, 2, 8)]
)
def test_the_same_request_through_a_probe_ends_the_same(
    shell: Shell, a: StartedNode, words: list[str], code: int, out: str, err: str
) -> None:
    done = shell.run(*words, "--peer", a.address)
    assert (done.returncode, done.stdout) == (code, out), done.stderr
    assert err in done.stderr


def test_a_message_arrives_by_socket_and_by_probe(shell: Shell, a: StartedNode) -> None:
    for where in (["--node", "a"], ["--peer", a.address]):
        message = {"where": where, "what": [1, 2.5, None, True, "ü"]}
        assert shell.run("send", "counter", json.dumps(message), *where).returncode == 0
        seen = shell.here("call", "counter", "seen", "--json")
        assert json.loads(seen.stdout) == {"value": message}


def test_the_probe_stays_the_same_and_leaves_nothing_but_its_pin(own: Shell) -> None:
    with own.node("a") as a:
        for _ in range(2):
            told = own.run("nodes", "--peer", a.address, "--json")
            assert json.loads(told.stdout)["nodes"] == ["a@127.0.0.1"]
        pins = json.loads(own.here("keys", "list", "--json").stdout)["pins"]
        assert len(pins) == 1
        assert own.run("nodes", "--peer", a.address, "--ephemeral").returncode == 0
        pins = json.loads(own.here("keys", "list", "--json").stdout)["pins"]
        assert len(pins) == 2
        assert own.here("nodes").stdout == ""
        assert not list(own.directory.glob("barrel-p2p-probe-*"))


def test_a_probe_publishes_nothing_and_takes_no_commands(own: Shell) -> None:
    with own.node("a", *APP) as a:
        waiting = own.begin("call", "counter", "never", "--peer", a.address)
        while own.here("call", "counter", "seen").stdout != "waits\n":
            pass
        published = {path.name for path in (own.directory / "data/discovery").iterdir()}
        assert published == {"a@127.0.0.1.endpoint"}
        kept = own.directory / "state/barrel_p2p/probe"
        assert not (kept / "ctl.sock").exists()
        assert (kept / "lock").exists()
        waiting.send_signal(signal.SIGTERM)
        waiting.communicate(timeout=20)


def test_a_wrong_cookie_is_shown_at_its_step(shell: Shell, a: StartedNode) -> None:
    words = ("nodes", "--peer", a.address)
    done = shell.run(*words, BARREL_P2P_DIST_COOKIE="another")
    assert done.returncode == 4
    lines = done.stderr.splitlines()
    assert lines[0].startswith(
        f"error: could not connect to {a.address} (gave up after"
    )
    states = {line.split()[0]: line.split()[1] for line in lines[1:7]}
    assert states["udp"] == states["tls"] == states["identity"] == "ok"
    assert states["cookie"] == "FAILED"
    assert lines[-1].endswith("docs: reference/errors   code: cookie")
    done = shell.run(*words, "--json", BARREL_P2P_DIST_COOKIE="another")
    told = json.loads(done.stdout)["error"]
    assert (told["type"], told["code"]) == ("CookieMismatch", "cookie")
    steps = {step["name"]: step["state"] for step in told["report"]["steps"]}
    assert steps["cookie"] == "failed"


def test_a_changed_key_is_shown_with_the_command_that_accepts_it(own: Shell) -> None:
    with own.node("a") as a:
        port = str(a.banner["port"])
        with own.node("b", "--join", a.address) as b:
            assert a.end()[0] == 0
            shutil.rmtree(own.directory / "data" / a.name / "keys")
            with own.node("a", "--port", port) as new:
                shown = new.banner["fingerprint"]
                where = ("--node", b.name)
                call = ("call", "x", "y", "--on", a.name, *where)
                done = own.here(*call)
                assert done.returncode == 4
                assert "  identity   FAILED  key_mismatch: " in done.stderr
                last, advice = (
                    done.stderr.splitlines()[-1],
                    done.stderr.splitlines()[-2],
                )
                assert last == (
                    "  If not, treat this as an attack.   "
                    "docs: reference/errors   code: key_mismatch"
                )
                command = advice.partition("rotated its key: barrel-p2p ")[2].split()
                assert command[-2:] == ["--replace", shown]
                refused = own.run(
                    "keys", "trust", a.address, a.banner["fingerprint"], *where
                )
                assert refused.returncode == 4, "the old key is not what it shows"
                assert own.here(*call).returncode == 4, "and the pin is as it was"
                third = own.here("keys", "fingerprint", *where).stdout.strip()
                words = ("keys", "trust", a.address, third, "--replace", *where)
                assert own.here(*words).returncode == 4, "nor does it show a third one"
                pins = json.loads(own.here("keys", "list", *where, "--json").stdout)
                held = [pin["fingerprint"] for pin in pins["pins"]]
                assert held == [a.banner["fingerprint"]]
                trusted = own.run(*command, *where)
                assert trusted.returncode == 0, trusted.stderr
                assert shown in trusted.stdout
                assert own.here(*call).returncode == 5, "it is reached; it has no x"


def test_a_probe_s_own_pin_is_replaced_as_it_is_told(own: Shell) -> None:
    with own.node("a") as a:
        assert own.run("nodes", "--peer", a.address).returncode == 0
        port = str(a.banner["port"])
        a.end()
    shutil.rmtree(own.directory / "data" / a.name / "keys")
    with own.node("a", "--port", port) as a:
        refused = own.run("nodes", "--peer", a.address)
        assert refused.returncode == 4
        advice = refused.stderr.splitlines()[-2]
        command = advice.partition("rotated its key: barrel-p2p ")[2]
        trusted = own.run(*shlex.split(command))
        assert trusted.returncode == 0, trusted.stderr
        assert own.run("nodes", "--peer", a.address).returncode == 0


def test_keys_are_looked_after_whether_the_node_runs_or_not(own: Shell) -> None:
    at = ("--data-dir", "data/a@127.0.0.1")
    made = own.here("keys", "fingerprint", "--create", *at)
    assert made.returncode == 0, made.stderr
    other = own.here("keys", "fingerprint", "--create", "--data-dir", "o")
    exported = own.here("keys", "export", "--data-dir", "o").stdout.strip()

    def look_after() -> None:
        trusted = own.here("keys", "trust", "b@h", exported, *at)
        assert trusted.stdout == f"b@h is pinned to {other.stdout}"
        assert other.stdout.strip() in own.here("keys", "list", *at).stdout
        conflict = own.here("keys", "trust", "b@h", made_key(), *at)
        assert (conflict.returncode, conflict.stdout) == (4, "")
        assert own.here("keys", "revoke", "b@h", *at).returncode == 0
        assert "b@h  revoked" in own.here("keys", "list", *at).stdout
        assert own.here("keys", "trust", "b@h", exported, *at).returncode == 4
        assert own.here("keys", "revoke", "b@h", "--undo", *at).returncode == 0
        assert own.here("keys", "untrust", "b@h", *at).returncode == 2
        assert own.here("keys", "trust", "b@h", exported, *at).returncode == 0
        assert own.here("keys", "untrust", "b@h", *at).returncode == 0

    def made_key() -> str:
        return own.here("keys", "export", *at).stdout.strip()

    look_after()
    with own.node("a") as a:
        assert a.banner["fingerprint"] == made.stdout.strip()
        look_after()
        assert own.here("keys", "mode", "strict").stdout == "strict\n"
        refused = own.here("nodes", "--peer", a.address)
        assert refused.returncode == 4
        assert "code: untrusted_key" in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_node_in_good_order(
    own: Shell, number: signal.Signals
) -> None:
    with own.node("a", *APP) as a:
        waiting = own.begin("call", "counter", "never", "--timeout", "30")
        while own.here("call", "counter", "seen").stdout != "waits\n":
            pass
        code, logged = a.end(number)
        _, why = waiting.communicate(timeout=20)
        assert (code, waiting.returncode) == (0, 4), why
    for line in logged.splitlines():
        assert {"time", "level", "logger", "message"} <= json.loads(line).keys()
    left = {path.name for path in (own.directory / "data/a@127.0.0.1").iterdir()}
    assert left == {
        "creation",
        "hlc_bound",
        "keys",
        "lock",
        "quic",
        "reminders",
        "reset_seed",
    }
    assert list((own.directory / "data/discovery").iterdir()) == []
    assert own.run("nodes").returncode == 4


def test_ctrl_c_takes_a_call_back(own: Shell) -> None:
    with own.node("a", *APP):
        waiting = own.begin("call", "counter", "never", "--timeout", "30")
        while own.here("call", "counter", "seen").stdout != "waits\n":
            pass
        waiting.send_signal(signal.SIGINT)
        waiting.communicate(timeout=20)
        assert waiting.returncode == 130
        assert own.run("call", "counter", "given_up").stdout == "1\n"


def test_a_killed_node_leaves_a_socket_that_stops_nobody(own: Shell) -> None:
    with own.node("a") as a:
        assert a.end(signal.SIGKILL)[0] == -signal.SIGKILL
    assert (own.directory / "data/a@127.0.0.1/ctl.sock").is_socket()
    for words in (("nodes",), ("nodes", "--node", "a"), ("stop",)):
        done = own.here(*words)
        assert done.returncode == 4
        assert "no node" in done.stderr
    with own.node("a"):
        second = own.run("start", "--name", "a")
        assert second.returncode == 2
        assert "in use by process" in second.stderr
        stopped = own.run("stop")
        assert (stopped.returncode, stopped.stdout) == (0, "a@127.0.0.1 stops\n")
        assert own.here("nodes").returncode == 4


def test_who_is_refused_does_not_start(own: Shell) -> None:
    with own.node("a") as a:
        done = own.run(
            *("start", "--name", "b", "--join", a.address),
            BARREL_P2P_DIST_COOKIE="a guess at the cookie",
        )
    assert done.returncode == 4
    assert f"error: could not join {a.address} (gave up after" in done.stderr
    assert "  cookie     FAILED  " in done.stderr
    assert not (own.directory / "data/b@127.0.0.1/ctl.sock").exists()


def test_who_is_started_first_joins_once_the_other_is_there(own: Shell) -> None:
    port = free_port()
    with own.node("b", "--join", f"a@127.0.0.1:{port}") as b:
        assert (b.banner["nodes"], b.banner["waiting"]) == (
            [],
            [f"a@127.0.0.1:{port}"],
        )
        with own.node("a", "--port", str(port)) as a:
            until(lambda: own.here("nodes", "--node", "a").stdout == f"{b.name}\n")
            assert a.banner["answers_ms"] is not None
        logged = b.end()[1]
    lines = [json.loads(line) for line in logged.splitlines()]
    told = [line for line in lines if line["logger"] == "barrel_p2p.cli"]
    assert {line["event"] for line in told} == {"join_failed", "joined"}
    assert told[0]["message"].endswith("; the next try is in 1 s")
    assert told[-1]["message"].startswith(f"joined a@127.0.0.1:{port} at try ")


def test_a_join_that_is_refused_later_is_given_up(own: Shell) -> None:
    port = free_port()
    with own.node("b", "--join", f"a@127.0.0.1:{port}") as b:
        with own.node("a", "--port", str(port), BARREL_P2P_DIST_COOKIE="another"):
            time.sleep(4)  # not synchronisation: the tries of some seconds
        logged = b.end()[1]
    assert "refused, and is not asked again" in logged


def test_an_advertised_address_that_nobody_reaches_is_warned_of(own: Shell) -> None:
    """The address is of TEST-NET-1, which leads nowhere."""
    with own.node("a", "--advertise", "192.0.2.1") as a:
        assert a.banner["answers_ms"] is None
        asked = own.here("doctor", "--name", "a@192.0.2.1", "--json")
        (check,) = [
            c for c in json.loads(asked.stdout)["checks"] if c["name"] == "advertised"
        ]
        assert check["state"] == "warn"


def test_a_detached_node_outlives_who_started_it_and_answers(own: Shell) -> None:
    done = own.run("start", "--name", "a", "--detach", "--json", *APP)
    assert (done.returncode, done.stderr) == (0, "")
    banner = json.loads(done.stdout)
    process = psutil.Process(banner["pid"])
    try:
        assert process.ppid() != os.getpid()
        assert os.getsid(process.pid) not in (os.getsid(0), process.pid)
        assert process.cwd() == str(own.directory)
        assert process.terminal() is None
        held = {str(Path(f"/proc/{process.pid}/fd/{n}").readlink()) for n in range(3)}
        assert held == {"/dev/null", banner["log"]}
        assert Path(banner["log"]).stat().st_mode & 0o777 == 0o600
        assert own.here("call", "counter", "add", "2").stdout == "2\n"
        again = own.run("start", "--name", "a", "--detach")
        assert again.returncode == 1
        assert f"in use by process {process.pid}" in again.stderr
        assert own.here("stop").returncode == 0
        process.wait(10)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert '"boot_warning"' in Path(banner["log"]).read_text()


def test_a_detached_node_that_is_refused_fails_where_it_was_started(
    own: Shell,
) -> None:
    with own.node("a") as a:
        done = own.run(
            *("start", "--name", "b", "--detach", "--join", a.address),
            *("--log", "b.log"),
            BARREL_P2P_DIST_COOKIE="a guess at the cookie",
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert "the node did not start; its log says:" in done.stderr
    assert "could not join" in done.stderr
    assert "the whole log is" in done.stderr
    assert (own.directory / "b.log").exists()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)  # not synchronisation: the interval of looks


def test_the_doctor_shows_each_step_of_a_connect(shell: Shell, a: StartedNode) -> None:
    done = shell.run("doctor", "--peer", a.address, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["connected"]) == (0, True)
    steps = [step["name"] for step in told["report"]["steps"]]
    assert steps == [
        "resolve",
        "udp",
        "tls",
        "identity",
        "cookie",
        "version",
        "session",
    ]
    done = shell.run("doctor", "--peer", "x@127.0.0.1:9")
    assert done.returncode == 4
    assert "not connected" in done.stdout


def test_the_configuration_of_a_running_node_is_its_own(
    shell: Shell, a: StartedNode
) -> None:
    words = ("config", "explain", "listen_port", "--json")
    told = json.loads(shell.run(*words, BARREL_P2P_LISTEN_PORT="7").stdout)
    assert told["listen_port"] == {
        "value": 7,
        "source": "environment BARREL_P2P_LISTEN_PORT",
    }
    asked = shell.run(*words, "--node", "a", BARREL_P2P_LISTEN_PORT="7")
    assert json.loads(asked.stdout)["listen_port"] == {"value": 0, "source": "default"}
    secret = shell.run("config", "show", BARREL_P2P_DIST_COOKIE="not to be seen")
    assert "not to be seen" not in secret.stdout + secret.stderr
