"""The reference page names the commands that exist, with all their options."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cyclopts import App

from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.main import command_line
from tests.tree import ROOT

PAGE = (ROOT / "docs" / "reference" / "cli.md").read_text()
HEADING = re.compile(r"^### `([a-z -]+?)((?: \[?[A-Z_]+\]?)*)`$", re.M)
OPTION = re.compile(r"^(.*?) \| ", re.M)


def commands(app: App, words: tuple[str, ...] = ()) -> Iterator[tuple[str, App]]:
    """Every command that does something, by its words."""
    for name in app:
        if name.startswith("-"):
            continue
        below = app[name]
        if any(not inner.startswith("-") for inner in below):
            yield from commands(below, (*words, name))
        else:
            yield " ".join((*words, name)), below


def options(command: App) -> set[str]:
    """The long options that help shows."""
    return {
        name
        for argument in command.assemble_argument_collection()
        for name in argument.names
        if name.startswith("--") and argument.show
    }


def described() -> dict[str, set[str]]:
    """Command to the options in the first column of its table."""
    parts = HEADING.split(PAGE)[1:]
    return {
        name: set(re.findall(r"--[a-z-]+", " ".join(_first_cells(text))))
        for name, text in zip(parts[::3], parts[2::3], strict=True)
    }


def _first_cells(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [line.split("|")[1] for line in lines]


def test_the_page_has_every_command_with_every_option() -> None:
    existing = {name: options(command) for name, command in commands(command_line())}
    assert described() == existing
    assert len(existing) > 10


def test_every_command_has_json() -> None:
    for name, command in commands(command_line()):
        assert "--json" in options(command), name


def test_no_command_takes_a_secret_where_other_users_can_read_it() -> None:
    for name, command in commands(command_line()):
        taken = " ".join(options(command))
        assert not re.search("cookie|secret|password", taken), name


def test_the_page_has_every_exit_code() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.M)}
    assert listed == set(ExitCode)
