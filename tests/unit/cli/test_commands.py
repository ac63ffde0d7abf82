"""Commands that need no running node, run in this process."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import sys
from pathlib import Path

import pytest

from barrel_p2p.cli.checks import checks_of
from barrel_p2p.cli.logs import JsonLines, TerminalLines
from barrel_p2p.cli.main import main
from barrel_p2p.cli.network import UDP_BUFFER_BYTES, network_checks
from barrel_p2p.cli.reach import answers
from barrel_p2p.cli.start import named
from barrel_p2p.cli.versions import versions
from barrel_p2p.config import Config
from barrel_p2p.core.names import default_node_name, host_of
from tests.endpoints import closed_ports, endpoint
from tests.started_node import Shell
from tests.tree import ROOT


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ("bogus",),
        ("call",),
        ("call", "x"),
        ("send", "x"),
        ("start", "--port", "x"),
        ("start", "--port", "65536"),
        ("start", "--name", "no name"),
        ("start", "--cookie", "x"),
        ("start", "--app", "nothing"),
        ("start", "--app", "no.such:thing"),
        ("start", "--app", "sys:version"),
        ("keys", "trust", "a@h", "AAAA", "--data-dir", "d"),
        ("keys", "trust", "no name", "AAAA", "--data-dir", "d"),
        ("keys", "mode", "loose"),
        ("stop", "--drain", "-1"),
        ("config", "explain", "lisen_port"),
        ("doctor", "--peer", "no name"),
        ("gen-cert", "--days", "1"),
        ("gen-cert", "--key-bits", "4096"),
    ],
)
def test_wrong_words_end_with_2_and_say_which(
    shell: Shell, words: tuple[str, ...]
) -> None:
    done = shell.here(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    told = json.loads(shell.here(*words, "--json").stdout)
    assert {"type", "code", "message"} <= told["error"].keys()


def test_help_ends_with_0(shell: Shell) -> None:
    for words in (("--help",), ("keys", "--help"), ("call", "--help"), ("--version",)):
        assert shell.here(*words).returncode == 0


def test_a_wrong_key_size_says_what_keys_there_are(shell: Shell) -> None:
    refused = shell.here("gen-cert", "--key-bits", "4096")
    assert "keys are on the curve P-256" in refused.stderr


def test_a_certificate_is_made_once_and_again_only_by_force(shell: Shell) -> None:
    words = ("gen-cert", "--out-dir", "q", "--cn", "host", "--json")
    first, second = (json.loads(shell.here(*words).stdout) for _ in range(2))
    assert (first["made"], second["made"]) == (True, False)
    assert first["sha256"] == second["sha256"]
    assert shell.here(*words, "--force", "--days", "7").returncode == 2
    assert json.loads(shell.here(*words).stdout)["sha256"] == first["sha256"]
    third = json.loads(shell.here(*words, "--force", "--days", "9").stdout)
    assert third["made"] is True
    assert third["sha256"] != first["sha256"]
    made = {path.name for path in (shell.directory / "q").iterdir()}
    assert made == {"node.crt", "node.key"}


def test_a_configuration_is_checked_with_file_and_environment(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = shell.directory / "c.toml"
    file.write_text('active_size = 7\ndist_cookie = "hidden"\n')
    assert shell.here("config", "check", "--config", "c.toml").stdout == "valid\n"
    shown = shell.here("config", "show", "--config", "c.toml")
    assert "hidden" not in shown.stdout
    explained = shell.here("config", "explain", "active_size", "--config", "c.toml")
    assert explained.stdout == "active_size  7  file c.toml\n"
    monkeypatch.setenv("BARREL_P2P_ACTIVE_SIZE", "zero")
    refused = shell.here("config", "check", "--config", "c.toml")
    assert refused.returncode == 2
    assert "BARREL_P2P_ACTIVE_SIZE" in refused.stderr


@pytest.mark.parametrize(
    ("given", "settings", "name"),
    [
        ("a", {}, "a@127.0.0.1"),
        ("a@h", {}, "a@h"),
        (None, {"node_name": "n@h"}, "n@h"),
        (None, {}, default_node_name()),
        ("a", {"advertise_host": "10.0.0.7"}, "a@10.0.0.7"),
        (
            "a",
            {"bind_host": "0.0.0.0", "allow_default_cookie": True},
            f"a@{host_of(default_node_name())}",
        ),
        ("a", {"bind_host": "::1"}, f"a@{host_of(default_node_name())}"),
    ],
)
def test_a_bare_name_gets_the_host_that_others_dial(
    given: str | None, settings: dict[str, object], name: str
) -> None:
    assert named(given, Config.load(env={}, **settings)) == name  # type: ignore[arg-type]


def test_the_doctor_finds_what_is_wrong(shell: Shell) -> None:
    fine = shell.here("doctor", "--json")
    states = {check["name"]: check for check in json.loads(fine.stdout)["checks"]}
    assert fine.returncode == 0
    assert {"picoquic", "port", "data", "clock", "dns", "open files"} <= states.keys()
    assert states["cookie"]["state"] == "warn"
    data = shell.directory / "d"
    made = shell.here("keys", "fingerprint", "--create", "--data-dir", "d")
    assert made.returncode == 0
    (data / "keys" / "node.key").chmod(0o644)
    data.chmod(0o755)
    with closed_ports(1) as [(host, port)]:
        sick = shell.here(
            "doctor", "--data-dir", "d", "--port", str(port), "--bind", host, "--json"
        )
    assert sick.returncode == 1
    checks = {each["name"]: each for each in json.loads(sick.stdout)["checks"]}
    for name, fix in (
        ("port", "ss -lunp"),
        ("data", "chmod 700"),
        ("keys", "chmod 600"),
    ):
        assert checks[name]["state"] == "fail"
        assert fix in checks[name]["fix"]


def test_the_doctor_knows_what_the_engine_asks_for() -> None:
    source = (ROOT / "csrc" / "quic" / "udp.c").read_text()
    megabytes = UDP_BUFFER_BYTES >> 20
    assert f"SO_RCVBUF, {megabytes} << 20" in source
    assert f"SO_SNDBUF, {megabytes} << 20" in source


def test_the_doctor_follows_a_packet_out_and_in_again(tmp_path: Path) -> None:
    found = {
        each.name: each
        for each in network_checks(Config.load(env={}), "a@127.0.0.1", tmp_path)
    }
    assert list(found) == [
        *("udp receive buffer", "udp send buffer", "gso", "gro"),
        *("mtu loopback", "advertised"),
    ]
    assert found["mtu loopback"].state == "ok"
    assert found["advertised"].state == "ok"
    elsewhere = network_checks(Config.load(env={}), "a@192.0.2.1", tmp_path)
    assert [each.state for each in elsewhere][-1] == "warn"


def test_nothing_answers_where_no_quic_is_spoken() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        assert answers(*deaf.getsockname(), timeout=0.3) is None
    with closed_ports(1) as [(host, port)]:
        assert answers(host, port, timeout=0.3) is None


async def test_an_endpoint_answers_and_begins_no_connection() -> None:
    async with endpoint() as opened:
        host, port = opened.address
        took_ms = await asyncio.to_thread(answers, host, port)
        assert took_ms is not None
        assert 0 < took_ms < 1_000
        assert not opened.connections


def test_the_doctor_sees_who_holds_a_directory(tmp_path: Path) -> None:
    from barrel_p2p.core.clock import SystemClock
    from barrel_p2p.node.data_dir import DataDir

    def lock() -> str:
        found = checks_of(Config.load(env={}), "a@127.0.0.1", tmp_path / "d")
        return next((each.text for each in found if each.name == "lock"), "")

    with DataDir.open(tmp_path / "d", clock=SystemClock()):
        assert "uses the directory" in lock()
        assert lock().startswith("process ")
    assert lock() == "no node uses the directory"


def test_versions_know_the_transport_they_were_built_with() -> None:
    found = versions()
    assert found["python"] is not None
    for part in ("picoquic", "picotls", "openssl of cryptography", "cython"):
        assert found[part], part
    assert main(["version", "--full", "--json"]) == 0


@pytest.mark.parametrize("kind", [JsonLines, TerminalLines])
def test_a_log_line_is_one_line_and_steers_no_terminal(
    kind: type[logging.Formatter],
) -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(kind())
    record = logging.LogRecord(
        "barrel_p2p.node", logging.WARNING, "", 0, "from %s", ("\x1b[2J",), None
    )
    record.event = "peer_up"
    handler.handle(record)
    text = out.getvalue()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    if kind is JsonLines:
        line = json.loads(text)
        assert (line["level"], line["event"]) == ("warning", "peer_up")


def test_a_traceback_is_in_the_object_of_its_line() -> None:
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        record = logging.LogRecord("x", 40, "", 0, "bad", (), sys.exc_info())
    assert "ZeroDivisionError" in json.loads(JsonLines().format(record))["traceback"]
