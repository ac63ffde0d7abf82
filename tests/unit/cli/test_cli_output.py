"""What a user reads when a command fails, and the exit code a script reads."""

from __future__ import annotations

import json

import pytest

from barrel_p2p import errors
from barrel_p2p.carrier.report import ConnectReport
from barrel_p2p.cli.exit_codes import ExitCode, exit_code_of
from barrel_p2p.cli.output import columns, printable, say, say_error
from barrel_p2p.cli.refusals import code_of, lines_of
from barrel_p2p.errors import BarrelError, KeyMismatch, PeerUnreachable, RemoteError
from barrel_p2p.node.failures import describe

SHOWN = "SHA256:" + "k3Xo" * 10 + "abc"
PINNED = "SHA256:" + "9fQz" * 10 + "abc"

FAMILIES = {
    "UsageError": ExitCode.USAGE,
    "ConfigError": ExitCode.USAGE,
    "PeerUnreachable": ExitCode.CONNECT,
    "NotConnected": ExitCode.CONNECT,
    "KeyMismatch": ExitCode.CONNECT,
    "CookieMismatch": ExitCode.CONNECT,
    "VersionMismatch": ExitCode.CONNECT,
    "RemoteError": ExitCode.REMOTE,
    "NoProc": ExitCode.REMOTE,
    "CallTimeout": ExitCode.REMOTE,
    "Overloaded": ExitCode.REMOTE,
    "StorageError": ExitCode.FAILED,
}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_class_of_an_error_decides_the_exit_code(name: str) -> None:
    assert exit_code_of(name) is FAMILIES[name]


@pytest.mark.parametrize("name", errors.__all__)
def test_no_error_is_a_success(name: str) -> None:
    assert exit_code_of(name) in set(ExitCode) - {ExitCode.OK, ExitCode.INTERRUPTED}


@pytest.mark.parametrize("name", ["", "annotations", "os", None, 7, "__all__"])
def test_a_type_that_is_no_error_of_ours_is_a_plain_failure(name: object) -> None:
    assert exit_code_of(name) is ExitCode.FAILED


def failed_connect(error: BarrelError, step: str, text: str) -> BarrelError:
    report = ConnectReport("a@10.0.0.5:9100")
    report.begin()
    report.ok("resolve", "static: no entry · dns: 10.0.0.5 (4 ms)")
    report.ok("udp", "first packet")
    report.failed(step, text)
    report.attach(error)
    return error


def test_a_changed_key_reads_as_the_design_says() -> None:
    text = f"a@10.0.0.5 presented {SHOWN}, pinned is {PINNED}"
    error = KeyMismatch(text, peer="a@10.0.0.5", hint="replace it")
    described = describe(failed_connect(error, "identity", f"key_mismatch: {text}"))
    lines = lines_of(described, verb="join")
    assert lines[0] == (
        "error: could not join a@10.0.0.5:9100 (gave up after 0.0 s, 1 attempt)"
    )
    assert lines[1] == "  resolve    ok      static: no entry · dns: 10.0.0.5 (4 ms)"
    assert lines[2] == "  udp        ok      first packet (0 ms)"
    assert lines[3].startswith(f"  identity   FAILED  key_mismatch: {text} (")
    assert lines[4:] == [
        (
            "  If the operator of a@10.0.0.5 rotated its key: "
            f"barrel-p2p keys trust a@10.0.0.5:9100 --replace {SHOWN}"
        ),
        (
            "  If not, treat this as an attack.   "
            "docs: reference/errors   code: key_mismatch"
        ),
    ]
    assert code_of(described) is ExitCode.CONNECT


def test_our_own_key_being_refused_is_not_called_an_attack() -> None:
    error = KeyMismatch("a@h refused us: another key is pinned for b@h", hint="ask")
    lines = lines_of(describe(error))
    assert lines[-1] == "  ask   docs: reference/errors   code: key_mismatch"


def test_an_unreachable_peer_shows_where_it_ended_and_the_hint() -> None:
    error = PeerUnreachable("no answer", peer="a@10.0.0.5", hint="look at the firewall")
    described = describe(failed_connect(error, "udp", "no answer"))
    assert lines_of(described)[-1].startswith("  look at the firewall   docs: ")
    report = described["report"]
    assert isinstance(report, dict)
    assert report["steps"][-1]["state"] == "failed"
    assert json.loads(json.dumps(described)) == described


def test_a_remote_traceback_stands_under_a_rule_and_is_not_ours() -> None:
    error = RemoteError("boom", peer="a@h", remote_type="E", remote_traceback="x\ny\n")
    lines = lines_of(describe(error))
    assert lines[0] == "error: boom"
    assert lines[2:] == ["--- traceback on a@h ---", "x", "y"]


def test_what_steers_a_terminal_is_shown_and_not_obeyed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hostile = "\x1b[2J\x07\x9b31m\u202edone\r[red]x[/red]"
    say({}, [hostile], as_json=False)
    say_error({}, [hostile], as_json=False)
    out, err = capsys.readouterr()
    for text in (out, err):
        assert not set(text) & set("\x1b\x07\x9b\u202e\r")
        assert "[red]x[/red]" in text
    assert printable("a\x00b") == "a\\x00b"


def test_json_is_one_object_on_stdout_for_results_and_errors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say({"a": "ü"}, ["not shown"], as_json=True)
    say_error({"code": "c"}, ["not shown"], as_json=True)
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        {"a": "ü"},
        {"error": {"code": "c"}},
    ]
    assert err == ""


def test_long_lines_are_not_broken_where_nobody_looks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say({}, ["x " * 500], as_json=False)
    assert capsys.readouterr().out.count("\n") == 1


def test_columns_line_up_and_end_with_their_text() -> None:
    rows = [("a", "bb", "c"), ("aaa", "b", ""), ("a",)]
    assert columns(rows) == ["a    bb  c", "aaa  b", "a"]
    assert columns([]) == []
