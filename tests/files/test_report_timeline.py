"""Volume against time as SVG: every mark where its millilitres and hours are, as another parser reads it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from ichseg import NOTICE
from ichseg.errors import InputError
from ichseg.files.report_timeline import MOST_LINES, timeline_svg
from ichseg.marks.lesion import Lesion
from ichseg.measures.followup import Blood
from ichseg.measures.timeline import Timeline, timeline

SVG = "{http://www.w3.org/2000/svg}"


def line_of(*ml: float, hours: tuple[float, ...] = (), methods: tuple[str, ...] = ()) -> Timeline:
    """One lesion on several scans."""
    lesion = Lesion(1, "Left", type="IPH")
    return timeline([Blood.of([(lesion, one)]) for one in ml], hours=hours, methods=methods)


def read(found: Timeline) -> ET.Element:
    return ET.fromstring(timeline_svg(found))


def texts(root: ET.Element) -> list[str]:
    return [one.text or "" for one in root.iter(f"{SVG}text")]


def places(root: ET.Element, count: int) -> np.ndarray:
    """The middles of the first so many points, in the drawing's own units; the legend's come after them."""
    circles = list(root.iter(f"{SVG}circle"))[:count]
    return np.array([[float(one.attrib[key]) for key in ("cx", "cy")] for one in circles])


def test_points_stand_at_their_hours_and_millilitres() -> None:
    root = read(line_of(10, 20, 15, hours=(6, 24)))
    x, y = places(root, 3).T
    assert (x[1] - x[0]) / (x[2] - x[0]) == pytest.approx(6 / 24)
    assert (y[2] - y[0]) / (y[1] - y[0]) == pytest.approx(0.5)
    shown = texts(root)
    for text in ("0", "12", "24", "Hours since the baseline", "Volume, mL", "10.0", "20.0", NOTICE):
        assert text in shown, text
    assert root.findtext(f"{SVG}desc") == "Left (IPH): 0 h 10.0 mL, 6 h 20.0 mL, 24 h 15.0 mL."


def test_the_band_is_the_error_of_readers_about_the_baseline() -> None:
    root = read(line_of(10, 20, hours=(6,)))
    band = next(root.iter(f"{SVG}polygon")).attrib["points"]
    heights = sorted({float(pair.split()[1]) for pair in band.split(",")})
    y = places(root, 2)[:, 1]
    per_ml = (y[1] - y[0]) / 10
    assert heights == pytest.approx(sorted(y[0] + per_ml * error for error in (-5.8, 5.8)), abs=0.1)
    assert "within readers' error, ± 5.8 mL" in texts(root)


def test_scans_stand_at_equal_distances_where_their_hours_are_not_known() -> None:
    root = read(line_of(10, 20, 15))
    x = places(root, 3)[:, 0]
    assert x[1] - x[0] == pytest.approx(x[2] - x[1])
    assert "Scan (not all hours are known)" in texts(root)


def test_bars_are_the_error_of_the_model_where_it_is_known_what_made_the_masks() -> None:
    told = texts(read(line_of(10, 20, methods=("litemedsam-rslora",) * 2)))
    assert any(text.startswith("model's mean error, ± ") for text in told)
    for methods in ((), ("litemedsam-rslora", "threshold")):
        assert not any("model's" in text for text in texts(read(line_of(10, 20, methods=methods))))


def test_more_lesions_than_lines_are_in_the_tables() -> None:
    lesions = [(Lesion(k, f"Clot <{k}> with a name rather long"), 1.0) for k in range(1, 13)]
    shown = texts(read(timeline([Blood.of(lesions)] * 2)))
    assert f"{13 - MOST_LINES} more in the tables" in shown
    assert all(len(text) < 70 for text in shown)


def test_no_blood_at_all_is_drawn_at_0() -> None:
    y = places(read(timeline([Blood.of([]), Blood.of([])])), 2)[:, 1]
    assert y[0] == y[1]


def test_one_scan_has_no_plot() -> None:
    with pytest.raises(InputError, match="two scans or more"):
        timeline_svg(None)
