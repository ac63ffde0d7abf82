"""C tests and fuzzers run the picoquic that the installed wheel carries."""

from __future__ import annotations

import re
import tomllib

from tests.tree import ROOT


def test_cmake_builds_the_release_that_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    recipe = (ROOT / "csrc/cmake/picoquic.cmake").read_text()
    built = re.findall(r"set\(BARREL_AIOPQUIC_VERSION (\S+)\)", recipe)
    assert [f"aiopquic=={version}" for version in built] == [
        name for name in project["dependencies"] if name.startswith("aiopquic")
    ]
