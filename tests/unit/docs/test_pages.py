"""The pages name what exists: files, settings, errors, with their real values."""

from __future__ import annotations

import re
from dataclasses import Field, fields
from functools import cache
from typing import Any

import pytest

from barrel_p2p import errors
from barrel_p2p.carrier.connection import ClosedBy
from barrel_p2p.errors import BarrelError, ConfigError
from barrel_p2p.quic.settings import CONGESTION_CONTROLS, EngineSettings
from bench.ratios import BARS, Bar
from tests.tree import ROOT, files

PAGES = ["README.md", *(str(p.relative_to(ROOT)) for p in files(".md", under="docs"))]
FILE = re.compile(
    r"(?<![\w./-])[\w.-]*(?:[\w-]+/)*[\w-]+\.(?:pyx|pyi|pxd|py|toml|c|h)\b"
)
FOLDER = re.compile(r"`((?:barrel_p2p|bench|csrc|docs|tests)/[\w/-]*)`")
DECISION = (ROOT / "docs" / "design" / "0001-quic-through-cffi.md").read_text()
MADE_UP = {"x.py", "_x.pyx", "_x.pyi", "_x.pxd"}
ELSEWHERE = {"Python.h", "docs/_build/html"}
# Bytes of the protocol that look like folders.
LABELS = {"barrel_p2p/auth/v1", "barrel_p2p/ckey1"}
OF_THE_READER = {"first.py", "listen.py", "dial.py", "barrel_p2p.toml"}


@cache
def page(name: str) -> str:
    return (ROOT / "docs" / "reference" / name).read_text()


def rows(text: str, cells: int) -> dict[str, list[str]]:
    """Table rows of so many cells, by what their first cell quotes."""
    found = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| `")
    )
    return {row[0].strip("`"): row[1:] for row in found if len(row) == cells}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_no_file_that_is_not_there(name: str) -> None:
    text = (ROOT / name).read_text()
    named = {match.group().lstrip("-") for match in FILE.finditer(text)}
    named |= set(FOLDER.findall(text))
    known = {path.name for path in files()}
    missing = {
        path
        for path in named - MADE_UP - OF_THE_READER - ELSEWHERE - LABELS
        if not (ROOT / path).exists() and ("/" in path or path not in known)
    }
    assert missing == set()


def test_the_architecture_or_the_decision_names_every_source_of_the_engine() -> None:
    text = page("architecture.md") + DECISION
    sources = {str(p.relative_to(ROOT)) for p in files(".c", under="csrc/quic")}
    assert {source for source in sources if source not in text} == set()


def test_the_architecture_has_a_paragraph_for_every_room() -> None:
    paths = [
        p.relative_to(ROOT / "barrel_p2p") for p in files(".py", under="barrel_p2p")
    ]
    folders = {path.parts[0] for path in paths if len(path.parts) > 1}
    described = set(re.findall(r"^\*\*(\w+)\*\*", page("architecture.md"), re.M))
    assert described == folders | {"errors"}


def test_the_settings_page_lists_every_setting_once_and_no_other() -> None:
    names = re.findall(r"^\| `([a-z_]+)` \|", page("settings.md"), re.M)
    assert sorted(names) == sorted(field.name for field in fields(EngineSettings))


@pytest.mark.parametrize("field", fields(EngineSettings), ids=lambda field: field.name)
def test_a_setting_has_the_default_the_range_and_the_unit_it_says(
    field: Field[Any],
) -> None:
    unit, default, span, meaning = rows(page("settings.md"), 5)[field.name]
    number = type(field.default) is int
    assert default == (f"{field.default:,}" if number else str(field.default))
    assert span == range_of(field)
    for suffix, name in (("_ms", "ms"), ("_us", "us")):
        assert field.name.endswith(suffix) == (unit == name)
    assert meaning


def range_of(field: Field[Any]) -> str:
    """What the setting accepts, in its own words: from the error of a wrong value."""
    if field.name == "congestion":
        return ", ".join(CONGESTION_CONTROLS)
    if isinstance(field.default, bool):
        return "False, True"
    too_low: dict[str, Any] = {field.name: -1}
    with pytest.raises(ConfigError) as caught:
        EngineSettings(**too_low)
    found = re.search(r"outside (\d+) to (\d+)", str(caught.value))
    assert found is not None
    return f"{int(found.group(1)):,} to {int(found.group(2)):,}"


def test_the_errors_page_lists_every_error_once_and_no_other() -> None:
    assert list(rows(page("errors.md"), 5)) == tree_of(BarrelError)


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_has_the_bases_and_the_code_it_says(name: str) -> None:
    error: type[BarrelError] = getattr(errors, name)
    bases, code, means, remedy = rows(page("errors.md"), 5)[name]
    assert bases == ", ".join(f"`{base.__name__}`" for base in error.__bases__)
    assert code == f"`{error.code}`"
    assert means
    assert remedy or error is BarrelError


def tree_of(error: type[BarrelError]) -> list[str]:
    """The error and all below it, parents first, in the order of ``errors``."""
    below = [leaf for child in children(error) for leaf in tree_of(child)]
    return [error.__name__, *below]


def children(error: type[BarrelError]) -> list[type[BarrelError]]:
    listed: list[type[BarrelError]] = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, BarrelError)
    ]
    return [child for child in listed if child.__bases__[0] is error]


def test_the_errors_page_lists_every_way_a_connection_can_end() -> None:
    assert list(rows(page("errors.md"), 3))[-len(ClosedBy) :] == list(ClosedBy)


def test_the_decision_about_quic_shows_every_figure_with_its_bars() -> None:
    shown = {key: cells[0] for key, cells in rows(DECISION, 4).items()}
    assert shown == {bar.key: bars_of(bar) for bar in BARS}


def bars_of(bar: Bar) -> str:
    sign = ">=" if bar.at_least else "<="
    if bar.five_runs is None:
        return f"({sign} {grouped(bar.single_run)})"
    return f"{sign} {grouped(bar.five_runs)} ({grouped(bar.single_run)})"


def grouped(value: float | None) -> str:
    assert value is not None
    return f"{value:,.0f}" if value >= 1_000 else f"{value:g}"
