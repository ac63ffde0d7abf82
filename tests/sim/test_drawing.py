from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.errors import InvalidValue
from barrel_p2p.testing.drawing.chart import Chart, Series
from barrel_p2p.testing.drawing.files import write
from barrel_p2p.testing.drawing.scale import label_of, scale_of
from barrel_p2p.testing.drawing.svg import svg_of

CHART = Chart(
    "a < b & c",
    "rounds",
    "share (%)",
    [Series("ours", ((0, 1), (10, 3))), Series("theirs", ((0, 2), (10, 2)))],
    mark_x=(5, "healed"),
    mark_y=(2.5, "target"),
)
SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str | None]:
    return [element.text for element in ET.fromstring(svg).iter(f"{SVG}text")]


def test_a_chart_names_everything_it_shows() -> None:
    wanted = {"a < b & c", "rounds", "share (%)", "ours", "theirs", "healed", "target"}
    assert wanted <= set(texts(svg_of(CHART)))


def test_a_greater_value_is_drawn_higher_and_to_the_right() -> None:
    curve = ET.fromstring(svg_of(CHART)).find(f"{SVG}polyline")
    assert curve is not None
    (x0, y0), (x1, y1) = (
        tuple(float(number) for number in pair.split(","))
        for pair in curve.attrib["points"].split()
    )
    assert x1 > x0
    assert y1 < y0


def test_equal_charts_give_equal_bytes() -> None:
    assert svg_of(CHART) == svg_of(CHART)


def test_a_chart_without_points_is_refused() -> None:
    with pytest.raises(InvalidValue, match="the chart 'empty' has no points"):
        svg_of(Chart("empty", "x", "y", [Series("none", ())]))


@given(
    st.floats(-1e6, 1e6, allow_subnormal=False),
    st.floats(1e-3, 1e6, allow_subnormal=False),
)
def test_an_axis_holds_its_values_and_has_few_round_ticks(
    low: float, width: float
) -> None:
    scale = scale_of(low, low + width)
    first, last = scale.ticks[0], scale.ticks[-1]
    step = scale.ticks[1] - first
    assert first <= low + 1e-6 * step + 1e-9
    assert last >= low + width - 1e-6 * step - 1e-9
    assert 2 <= len(scale.ticks) <= 9


@pytest.mark.parametrize(
    ("value", "text"), [(0.1 + 0.2, "0.3"), (-0.0, "0"), (20.0, "20"), (1e6, "1000000")]
)
def test_a_tick_is_written_as_people_write(value: float, text: str) -> None:
    assert label_of(value) == text


def test_a_file_is_what_its_name_says(tmp_path: Path) -> None:
    write(CHART, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text(encoding="utf-8") == svg_of(CHART)
    with pytest.raises(InvalidValue, match=r"neither \.svg nor \.png"):
        write(CHART, tmp_path / "a.pdf")


def test_a_png_is_drawn_or_what_it_needs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    if importlib.util.find_spec("matplotlib") is None:
        with pytest.raises(InvalidValue, match="needs the package matplotlib"):
            write(CHART, path)
        return
    write(CHART, path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
