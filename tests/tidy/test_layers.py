"""Rooms import downwards only, seen from where ``lint-imports`` cannot look.

That tool reads ``.py`` files; the contract in ``pyproject.toml`` binds Cython files
just as much.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.tree import ROOT, files, imported_modules

PACKAGE = "barrel_p2p"


def test_compiled_modules_import_downwards_only() -> None:
    assert upward_imports(files(".pyx", ".pxd", ".pxi", under=PACKAGE), levels()) == []


def test_every_room_has_a_level() -> None:
    found = {_room(path) for path in files(".py", ".pyx", under=PACKAGE)}
    assert found - {"__init__"} <= levels().keys()


def test_no_room_imports_the_facade() -> None:
    facade = [
        str(path.relative_to(ROOT))
        for path in files(".py", ".pyx", ".pxd", under=PACKAGE)
        if PACKAGE in imported_modules(path) and _room(path) != "cli"
    ]
    assert facade == []


def test_an_upward_and_a_sideways_import_are_seen(tmp_path: Path) -> None:
    room = tmp_path / PACKAGE / "auth"
    room.mkdir(parents=True)
    file = room / "_x.pyx"
    file.write_text(
        "from barrel_p2p.wire._terms cimport encode\n"
        "from barrel_p2p.carrier import endpoint\n"
        "    cimport barrel_p2p.quic._engine\n"
        "from barrel_p2p.auth cimport _y\n"
        '"""\nfrom barrel_p2p.cli import not_an_import\n"""\n'
    )
    assert upward_imports([file], levels()) == ["auth/_x: carrier", "auth/_x: quic"]


def levels() -> dict[str, int]:
    """Room to its height, from the contract; rooms of one line are strangers."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    layers = config["importlinter"]["contracts"][0]["layers"]
    return {
        room.strip(" ()"): -depth
        for depth, line in enumerate(layers)
        for room in line.split("|")
    }


def upward_imports(paths: list[Path], levels: dict[str, int]) -> list[str]:
    """Every import of another room that is not below the importer's."""
    wrong: set[str] = set()
    for path in paths:
        room = _room(path)
        for module in imported_modules(path):
            parts = module.split(".")
            if parts[0] != PACKAGE or len(parts) < 2 or parts[1] == room:
                continue
            if levels[parts[1]] >= levels[room]:
                wrong.add(f"{room}/{path.stem}: {parts[1]}")
    return sorted(wrong)


def _room(path: Path) -> str:
    below = path.parts[len(path.parts) - path.parts[::-1].index(PACKAGE) :]
    return below[0].partition(".")[0]
