"""A line chart as SVG: equal charts give equal bytes, on every machine.

Series differ by colour and by dashes, so that the chart can be read in print and by
whoever sees few colours.
"""

from __future__ import annotations

from typing import Final
from xml.sax.saxutils import escape

from barrel_p2p.testing.drawing.chart import COLOURS, Chart, Series, points_of
from barrel_p2p.testing.drawing.scale import Scale, label_of, scale_of

__all__ = ["svg_of"]

_WIDTH: Final = 720
_HEIGHT: Final = 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 196, 56, 64
_DASHES: Final = ("", "7 4", "2 3", "10 3 2 3", "1 2", "12 4")
_FONT: Final = "font-family='sans-serif'"


def svg_of(chart: Chart) -> str:
    """The chart as an SVG document.

    Raises:
        InvalidValue: It has no points.
    """
    points = points_of(chart)
    xs = [x for x, _ in points] + ([chart.mark_x[0]] if chart.mark_x else [])
    ys = [y for _, y in points] + ([chart.mark_y[0]] if chart.mark_y else [])
    x_scale, y_scale = scale_of(min(xs), max(xs)), scale_of(min(ys), max(ys))
    box = f"viewBox='0 0 {_WIDTH} {_HEIGHT}' width='{_WIDTH}' height='{_HEIGHT}'"
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' {box} role='img'>",
        f"<title>{escape(chart.title)}</title>",
        f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='#ffffff'/>",
        _text(_LEFT, 30, chart.title, size=17, weight="bold"),
        *_grid(x_scale, y_scale),
        *_labels(chart),
        *_marks(chart, x_scale, y_scale),
    ]
    for at, series in enumerate(chart.series):
        lines += _curve(at, series, x_scale, y_scale)
    return "\n".join([*lines, "</svg>", ""])


def _x(scale: Scale, value: float) -> float:
    return scale.place(value, _LEFT, _WIDTH - _RIGHT)


def _y(scale: Scale, value: float) -> float:
    return scale.place(value, _HEIGHT - _BOTTOM, _TOP)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 13,
    anchor: str = "start",
    colour: str = "#222222",
    weight: str = "normal",
    turn: bool = False,
) -> str:
    turned = f" transform='rotate(-90 {x:.1f} {y:.1f})'" if turn else ""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' {_FONT} font-size='{size}' fill='{colour}'"
        f" font-weight='{weight}' text-anchor='{anchor}'{turned}>{escape(text)}</text>"
    )


def _line(x: tuple[float, float], y: tuple[float, float], style: str) -> str:
    return (
        f"<line x1='{x[0]:.1f}' y1='{y[0]:.1f}' x2='{x[1]:.1f}' y2='{y[1]:.1f}'"
        f" {style}/>"
    )


def _grid(x_scale: Scale, y_scale: Scale) -> list[str]:
    left, right, top, bottom = _LEFT, _WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM
    found = []
    for tick in y_scale.ticks:
        y = _y(y_scale, tick)
        found.append(_line((left, right), (y, y), "stroke='#dddddd'"))
        found.append(_text(left - 8, y + 4, label_of(tick), anchor="end"))
    for tick in x_scale.ticks:
        x = _x(x_scale, tick)
        found.append(_line((x, x), (bottom, bottom + 5), "stroke='#222222'"))
        found.append(_text(x, bottom + 20, label_of(tick), anchor="middle"))
    found.append(_line((left, right), (bottom, bottom), "stroke='#222222'"))
    found.append(_line((left, left), (top, bottom), "stroke='#222222'"))
    return found


def _labels(chart: Chart) -> list[str]:
    middle_x = (_LEFT + _WIDTH - _RIGHT) / 2
    middle_y = (_TOP + _HEIGHT - _BOTTOM) / 2
    return [
        _text(middle_x, _HEIGHT - 16, chart.x_label, anchor="middle"),
        _text(20, middle_y, chart.y_label, anchor="middle", turn=True),
    ]


def _marks(chart: Chart, x_scale: Scale, y_scale: Scale) -> list[str]:
    style = "stroke='#888888' stroke-dasharray='3 3'"
    found = []
    if chart.mark_x is not None:
        x = _x(x_scale, chart.mark_x[0])
        found.append(_line((x, x), (_TOP, _HEIGHT - _BOTTOM), style))
        found.append(_text(x + 5, _TOP + 12, chart.mark_x[1], colour="#666666"))
    if chart.mark_y is not None:
        y = _y(y_scale, chart.mark_y[0])
        found.append(_line((_LEFT, _WIDTH - _RIGHT), (y, y), style))
        found.append(
            _text(_WIDTH - _RIGHT + 8, y + 4, chart.mark_y[1], colour="#666666")
        )
    return found


def _curve(at: int, series: Series, x_scale: Scale, y_scale: Scale) -> list[str]:
    colour = COLOURS[at % len(COLOURS)]
    dashes = _DASHES[at % len(_DASHES)]
    style = f"stroke='{colour}' stroke-width='2.2' fill='none'"
    style += f" stroke-dasharray='{dashes}'" if dashes else ""
    places = [(_x(x_scale, x), _y(y_scale, y)) for x, y in series.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    # The legend has a column of its own, from the top; a name of a mark may share it.
    legend_x, legend_y = _WIDTH - _RIGHT + 16, _TOP + 28 + 22 * at
    return [
        f"<polyline points='{path}' {style}/>",
        _line((legend_x, legend_x + 30), (legend_y - 4, legend_y - 4), style),
        _text(legend_x + 38, legend_y, series.name, size=12),
    ]
