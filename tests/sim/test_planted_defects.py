"""The planted defects still fit the package, and one of them is really found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.mutants.hunt import PATCHES, applies, hunt
from tests.tree import ROOT


def test_there_are_twenty_planted_defects() -> None:
    assert len(PATCHES) == 20


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("package")
    shutil.copytree(
        ROOT / "barrel_p2p",
        tree / "barrel_p2p",
        ignore=lambda directory, names: [
            name
            for name in names
            if Path(name).suffix != ".py" and not (Path(directory) / name).is_dir()
        ],
    )
    return tree


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_planted_defect_fits_the_package(patch: Path, sources: Path) -> None:
    """Where the code has changed, plant it anew: ``tests/mutants``."""
    assert applies(patch, sources, dry=True)


def test_a_planted_defect_is_found_and_named_by_its_seed() -> None:
    (patch,) = [p for p in PATCHES if p.stem == "registry-shows-the-dead"]
    line = hunt(patch, seeds=40, seconds=60.0)
    assert line["seed"] is not None
    assert "finds" in line["wrong"] or "told" in line["wrong"], line
