from __future__ import annotations

import json
from pathlib import Path

import pytest

from barrel_p2p.cli.main import main


def test_an_experiment_is_drawn_into_a_file_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "join.svg"
    words = ["sim", "draw", "join", "--nodes", "20", "--seeds", "1"]
    assert main([*words, "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["experiment"], told["nodes"], told["out"]) == ("join", 20, str(out))
    last = [points[-1] for points in told["series"].values()]
    assert last == [[20.0, 100.0]] * 3
    assert "All started at once, 20 nodes" in out.read_text()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("draw", "join", "--nodes", "9"), "--nodes 9 is not from 10 to 16384"),
        (("draw", "join", "--seeds", "1001"), "--seeds 1001 is not from 1 to 1000"),
        (("draw", "join", "--out", "join.pdf"), "has to end in .svg or .png"),
        (("draw", "nothing"), "nothing"),
        (("goals", "S6"), "no goal S6"),
    ],
)
def test_wrong_words_are_refused_before_anything_runs(
    words: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sim", *words]) == 2
    assert text in capsys.readouterr().err
