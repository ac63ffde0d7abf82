"""Charts as files: SVG with nothing, PNG with matplotlib, which brings its fonts."""

from __future__ import annotations

import io
from pathlib import Path

from barrel_p2p.errors import InvalidValue
from barrel_p2p.testing.drawing.chart import COLOURS, Chart, points_of
from barrel_p2p.testing.drawing.svg import svg_of

__all__ = ["png_of", "write"]


def write(chart: Chart, path: Path) -> None:
    """Write the chart as what the name of ``path`` says: ``.svg`` or ``.png``.

    Raises:
        InvalidValue: It says something else, or PNG, and matplotlib is not installed.
        OSError: The file cannot be written.
    """
    if path.suffix == ".svg":
        path.write_text(svg_of(chart), encoding="utf-8")
    elif path.suffix == ".png":
        path.write_bytes(png_of(chart))
    else:
        raise InvalidValue(f"{path} is neither .svg nor .png")


def png_of(chart: Chart) -> bytes:
    """The chart as a PNG file.

    Raises:
        InvalidValue: It has no points, or matplotlib is not installed.
    """
    points_of(chart)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidValue(
            "a PNG needs the package matplotlib",
            hint="pip install 'barrel-p2p[draw]', or ask for .svg",
        ) from error
    figure = Figure(figsize=(7.2, 4.2), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    for at, series in enumerate(chart.series):
        xs, ys = zip(*series.points, strict=True)
        axes.plot(xs, ys, label=series.name, color=COLOURS[at % len(COLOURS)])
    if chart.mark_x is not None:
        axes.axvline(chart.mark_x[0], color="#888888", linestyle=":")
        axes.annotate(
            chart.mark_x[1], (chart.mark_x[0], 1), xycoords=("data", "axes fraction")
        )
    if chart.mark_y is not None:
        axes.axhline(chart.mark_y[0], color="#888888", linestyle=":")
        axes.annotate(
            chart.mark_y[1], (1, chart.mark_y[0]), xycoords=("axes fraction", "data")
        )
    axes.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label)
    axes.grid(axis="y", color="#dddddd")
    axes.legend(loc="best")
    found = io.BytesIO()
    figure.savefig(found, format="png")
    return found.getvalue()
