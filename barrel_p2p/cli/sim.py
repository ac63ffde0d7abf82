"""``sim``: run experiments on simulated clusters; draw them, or test the goals."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Final, Literal

from cyclopts import App

from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.options import Flag, Json
from barrel_p2p.cli.output import say
from barrel_p2p.errors import InvalidValue
from barrel_p2p.testing.drawing.files import write
from barrel_p2p.testing.drawing.svg import svg_of
from barrel_p2p.testing.experiments.curves import CURVES
from barrel_p2p.testing.experiments.deep_goals import chosen_goals
from barrel_p2p.testing.experiments.runner import judge_all, text_of, workers
from barrel_p2p.testing.nodes.trial import lines_of, trial
from barrel_p2p.testing.nodes.world import NODES_MAX as WORLD_MAX
from barrel_p2p.testing.overlay.trace import NODES_MAX

__all__ = ["draw", "goals", "nodes"]

_SEEDS_MAX: Final = 1_000

app = App(name="sim", help="Simulate clusters.")

type _Experiment = Literal["crash", "split", "cost", "join"]


@app.command
def draw(
    experiment: _Experiment,
    /,
    *,
    nodes: int | None = None,
    seeds: int | None = None,
    out: Path | None = None,
    json: Json = False,
) -> int:
    """Run an experiment and draw its curves.

    Args:
        experiment: What to run.
        nodes: How many are simulated.
        seeds: Runs for each point.
        out: A file to write, .svg or .png; default: SVG on stdout.
        json: Print the points as an object.
    """
    curve = CURVES[experiment]
    count = _checked("nodes", nodes or curve.nodes, NODES_MAX, least=10)
    runs = _checked("seeds", seeds or curve.seeds, _SEEDS_MAX)
    if out is not None and out.suffix not in (".svg", ".png"):
        raise InvalidValue(f"--out {out}: the name has to end in .svg or .png")
    chart = curve.draw(count, runs, workers())
    if out is not None:
        write(chart, out)
    value = {
        "experiment": experiment,
        "title": chart.title,
        "nodes": count,
        "seeds": runs,
        "out": None if out is None else str(out),
        "series": {series.name: series.points for series in chart.series},
    }
    if out is None and not json:
        print(svg_of(chart), end="")
    else:
        say(value, [f"{chart.title}: {out}"], as_json=json)
    return ExitCode.OK


@app.command
def goals(
    *names: str,
    deep: Flag = False,
    json: Json = False,
) -> int:
    """Test the goals of the overlay; one JSON object a line, and a goal.

    Args:
        names: Which, such as S2; default: all.
        deep: More of everything, up to 10,000 nodes: hours.
        json: What it does in any case.
    """
    passed = judge_all(
        chosen_goals(names, is_deep=deep), processes=workers(), say=_say_line
    )
    return ExitCode.OK if passed else ExitCode.FAILED


@app.command
def nodes(
    seed: int,
    /,
    *,
    nodes: int | None = None,
    json: Json = False,
) -> int:
    """Run whole nodes under the faults of one seed; replays what goal D1 has found.

    Args:
        seed: Decides everything.
        nodes: How many there are; default: as the seed says.
        json: Print an object.
    """
    count = None if nodes is None else _checked("nodes", nodes, WORLD_MAX, least=2)
    tried = trial(seed, count)
    say(asdict(tried), lines_of(tried), as_json=json)
    return ExitCode.FAILED if tried.wrong else ExitCode.OK


def _say_line(line: dict[str, object]) -> None:
    print(text_of(line), flush=True)


def _checked(name: str, value: int, greatest: int, *, least: int = 1) -> int:
    if not least <= value <= greatest:
        raise InvalidValue(f"--{name} {value} is not from {least} to {greatest}")
    return value
