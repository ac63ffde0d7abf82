"""What a chart shows, whatever it is drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from barrel_p2p.errors import InvalidValue

__all__ = ["COLOURS", "Chart", "Series", "points_of"]

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart by those who see few colours too."""


@final
@dataclass(frozen=True, slots=True)
class Series:
    """One curve.

    Args:
        name: What the legend calls it.
        points: Pairs of x and y, by x.
    """

    name: str
    points: tuple[tuple[float, float], ...]


@final
@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with one x and one y axis.

    Args:
        title: What it shows.
        x_label: What x is, with its unit.
        y_label: What y is, with its unit.
        series: At least one with a point.
        mark_x: Where a vertical line stands, and what it says; None for no line.
        mark_y: The same for a horizontal one, such as a target.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    mark_x: tuple[float, str] | None = None
    mark_y: tuple[float, str] | None = None


def points_of(chart: Chart) -> list[tuple[float, float]]:
    """All points of all series.

    Raises:
        InvalidValue: There are none.
    """
    points = [point for series in chart.series for point in series.points]
    if not points:
        raise InvalidValue(f"the chart {chart.title!r} has no points")
    return points
