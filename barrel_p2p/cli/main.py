"""``barrel-p2p``: the commands, and what becomes of their errors.

A command's module is imported when the command is used, so that a checkout which is not
built yet can say so, and so that help is quick.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

from cyclopts import App, CycloptsError

from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.output import say_error
from barrel_p2p.cli.refusals import Refused, code_of, lines_of
from barrel_p2p.errors import BarrelError

__all__ = ["COMMANDS", "Command", "command_line", "main"]


class Command(NamedTuple):
    """Where a command is, ``module:name``, and what it does."""

    place: str
    help: str


COMMANDS: Final = {
    "demo": Command("barrel_p2p.cli.showcase:demo", "Show a cluster of five."),
    "start": Command("barrel_p2p.cli.start:start", "Run a node."),
    "stop": Command("barrel_p2p.cli.talk:stop", "Stop a running node."),
    "join": Command("barrel_p2p.cli.cluster:join", "Join a cluster."),
    "leave": Command("barrel_p2p.cli.cluster:leave", "Leave the cluster."),
    "members": Command("barrel_p2p.cli.cluster:members", "List the cluster's nodes."),
    "views": Command("barrel_p2p.cli.cluster:views", "List a node's neighbours."),
    "services": Command("barrel_p2p.cli.cluster:services", "List services."),
    "whereis": Command("barrel_p2p.cli.cluster:whereis", "Find a service."),
    "leader": Command("barrel_p2p.cli.leaders:leader", "List who leads what."),
    "place": Command("barrel_p2p.cli.shards:place", "Say whose a key is."),
    "remind": Command("barrel_p2p.cli.reminders:remind", "Set a reminder."),
    "reminders": Command("barrel_p2p.cli.reminders:reminders", "List reminders."),
    "cancel-reminder": Command(
        "barrel_p2p.cli.reminders:cancel_reminder", "Cancel a reminder."
    ),
    "owners": Command("barrel_p2p.cli.shards:owners", "List a key's nodes."),
    "map": Command("barrel_p2p.cli.maps:app", "Read and write replicated maps."),
    "events": Command("barrel_p2p.cli.cluster:events", "Print what happens."),
    "nodes": Command("barrel_p2p.cli.talk:nodes", "List a node's channels."),
    "call": Command("barrel_p2p.cli.talk:call", "Call a method of a server."),
    "send": Command("barrel_p2p.cli.talk:send", "Send a message to a process."),
    "keys": Command("barrel_p2p.cli.keys:app", "Look after keys and pins."),
    "gen-cert": Command("barrel_p2p.cli.certificates:gen_cert", "Make a certificate."),
    "config": Command("barrel_p2p.cli.settings:app", "Look at the configuration."),
    "store": Command("barrel_p2p.cli.stores:app", "Look at what is on the disk."),
    "sim": Command("barrel_p2p.cli.sim:app", "Simulate thousands of nodes."),
    "doctor": Command("barrel_p2p.cli.doctor:doctor", "Say what is wrong."),
    "version": Command("barrel_p2p.cli.versions:show_version", "Print versions."),
}
"""The commands; ``keys``, ``map`` and ``config`` have commands of their own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Its words, without the program's; None takes the process's.

    Returns:
        The exit code: see ``docs/reference/cli.md``.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    # A command's own output says what matters; `start` logs more.
    logging.getLogger("barrel_p2p").setLevel(logging.ERROR)
    try:
        return int(command_line()(words, result_action="return_value") or 0)
    except CycloptsError as error:
        return _usage(error, as_json=as_json)
    except (BarrelError, Refused) as error:
        return _failed(error, as_json=as_json)
    except (KeyboardInterrupt, BrokenPipeError):
        return ExitCode.INTERRUPTED
    except ImportError as error:
        return _not_built(error, as_json=as_json)
    except OSError as error:
        described = {"type": type(error).__name__, "code": "os", "message": str(error)}
        say_error(described, [f"error: {error}"], as_json=as_json)
        return ExitCode.FAILED


def command_line() -> App:
    """All commands, not yet imported."""
    app = App(
        name="barrel-p2p",
        help="Peer-to-peer clusters of Python nodes over QUIC.",
        help_format="plaintext",
        version=_version,
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for name, command in COMMANDS.items():
        app.command(command.place, name=name, help=command.help)
    return app


def _version() -> str:
    from barrel_p2p.cli.versions import package_version

    return package_version()


def _usage(error: CycloptsError, *, as_json: bool) -> int:
    described = {"type": type(error).__name__, "code": "usage", "message": str(error)}
    lines = [f"error: {error}", "  barrel-p2p --help lists the commands"]
    say_error(described, lines, as_json=as_json)
    return ExitCode.USAGE


def _failed(error: BarrelError | Refused, *, as_json: bool) -> int:
    if isinstance(error, Refused):
        described, verb = error.described, error.verb
    else:
        # Behind the errors themselves, because it needs what is compiled.
        from barrel_p2p.node.failures import describe

        described, verb = describe(error), "connect to"
    say_error(described, lines_of(described, verb=verb), as_json=as_json)
    return code_of(described)


def _not_built(error: ImportError, *, as_json: bool) -> int:
    name = error.name or ""
    text = f"{error}: run `make setup`"
    if name.startswith("barrel_p2p.") and name.rpartition(".")[2].startswith("_"):
        text = f"the extension {name} is not built: run `make setup`"
    described = {"type": "ImportError", "code": "import", "message": text}
    say_error(described, [f"error: {text}"], as_json=as_json)
    return ExitCode.FAILED


if __name__ == "__main__":
    sys.exit(main())
