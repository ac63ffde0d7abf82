"""Two results are compared by their ratios alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.compare import Change, compare, main


def files(folder: Path, old: object, new: object) -> list[str]:
    for name, content in (("old", old), ("new", new)):
        (folder / name).write_text(json.dumps(content))
    return [str(folder / "old"), str(folder / "new")]


def test_absolute_figures_and_unknown_ones_are_left_out() -> None:
    old = {"calib": 5, "bulk_vs_tls": 2.0, "bulk_vs_tcp": None, "handshakes_per_s": 9}
    assert compare(old, {"bulk_vs_tls": 3.0}) == [Change("bulk_vs_tls", 2.0, 3.0, 0.5)]


@pytest.mark.parametrize(
    ("key", "old", "new", "status"),
    [
        ("bulk_vs_tls", 2.0, 1.71, 0),
        ("bulk_vs_tls", 2.0, 1.69, 1),
        ("bulk_vs_tls", 2.0, 9.0, 0),
        ("rtt_p99_vs_p50", 2.0, 2.34, 0),
        ("rtt_p99_vs_p50", 2.0, 2.36, 1),
        ("rtt_p99_vs_p50", 2.0, 0.1, 0),
        ("terms_small_vs_pickle", 2.0, None, 1),
    ],
)
def test_worse_by_more_than_the_tolerance_or_gone_is_status_1(
    tmp_path: Path, key: str, old: float, new: float | None, status: int
) -> None:
    assert main(files(tmp_path, {key: old}, {key: new})) == status


def test_the_tolerance_can_be_chosen(tmp_path: Path) -> None:
    paths = files(tmp_path, {"bulk_vs_tls": 2.0}, {"bulk_vs_tls": 1.9})
    assert main(paths) == 0
    assert main([*paths, "--tolerance", "0.01"]) == 1


def test_files_without_ratios_are_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(files(tmp_path, [1], {})) == 2
    assert main(files(tmp_path, {"calib": 1}, {})) == 2
    assert main([str(tmp_path / "absent"), str(tmp_path / "new")]) == 2
    assert "holds no ratio" in capsys.readouterr().err
