"""Volume against time: what is counted, which lesion is which, hours, changes and their error, in closed form."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ichseg.errors import InputError
from ichseg.marks.lesion import Lesion
from ichseg.measures.followup import Blood, between, lesions_between
from ichseg.measures.timeline import VolumeLine, timeline, timeline_record


def scan(*lesions: tuple[str, str, float]) -> Blood:
    """Blood of lesions (name, type, mL)."""
    named = ((Lesion(k, name, type=type_), ml) for k, (name, type_, ml) in enumerate(lesions, 1))
    return Blood.of(named)


def volumes(line: VolumeLine) -> list[float]:
    return [point.ml for point in line.points]


THREE = (
    scan(("Left", "IPH", 20.0), ("Ventricles", "IVH", 2.0)),
    scan(("Left", "IPH", 27.0), ("Ventricles", "IVH", 5.0), ("New", "IPH", 1.0)),
    scan(("Ventricles", "IVH", 1.0), ("Left", "IPH", 24.0)),
)


def test_each_lesion_has_a_line_and_the_whole_counts_the_same_blood_on_every_scan() -> None:
    found = timeline(THREE, hours=[7, 24])
    assert list(map(found.title_of, found.lines)) == [
        *("Left (IPH)", "Ventricles (IVH)", "New (IPH)", "All: intraparenchymal blood"),
    ]
    assert [volumes(line) for line in found.lesions] == [[20, 27, 24], [2, 5, 1], [0, 1, 0]]
    assert (found.of, volumes(found.total)) == ("iph", [20, 28, 24])
    left = found.lesions[0].points
    assert left[0].from_baseline is None and left[0].from_previous is None
    since, last = left[2].from_baseline, left[2].from_previous
    assert since is not None and last is not None
    assert (since.growth_ml, since.growth_percent) == (4.0, pytest.approx(20))
    assert since.growth_ml_per_hour == pytest.approx(4 / 24)
    assert (last.growth_ml, last.growth_ml_per_hour) == (-3.0, pytest.approx(-3 / 17))
    new = found.lesions[2].points[1].from_previous
    assert new is not None and new.is_new and new.growth_percent is None


def test_the_error_is_that_of_the_two_scans_which_are_compared() -> None:
    """5.8 mL between raters without, 7.7 mL with intraventricular blood on either scan."""
    found = timeline([scan(("A", "IPH", 10)), scan(("A", "IPH", 16)), THREE[0]])
    changes = [point.from_baseline for point in found.total.points[1:]]
    assert [one and one.growth_ml for one in changes] == [6, 10]
    assert [one and one.within_measurement_error for one in changes] == [False, False]
    last = found.total.points[2].from_previous
    assert last is not None and last.growth_ml == 4 and last.within_measurement_error
    errors = [one.reading_error.between_raters_ml for one in found.growths]
    assert errors == [5.8, 7.7]
    with_ivh = timeline([scan(("A", "IPH", 10)), scan(("A", "IPH", 16), ("V", "IVH", 1))])
    change = with_ivh.total.points[1].from_baseline
    assert change is not None and change.within_measurement_error


def test_the_last_scan_can_decide_what_all_count() -> None:
    untyped = scan(("Left", "unspecified", 22.0), ("Ventricles", "IVH", 1.0))
    found = timeline([*THREE[:2], untyped])
    assert (found.of, volumes(found.total)) == ("not ivh", [20, 28, 22])
    assert found.title_of(found.lesions[0]) == "Left (IPH)"
    assert any(note.startswith("Scan 3: The type of Left (follow-up)") for note in found.notes)


@settings(deadline=None)
@given(st.lists(st.floats(0.1, 200), min_size=2, max_size=5), st.sampled_from(["IPH", "SDH"]))
def test_two_scans_of_a_line_say_what_two_scans_say(ml: list[float], type_: str) -> None:
    scans = [scan(("A", type_, one)) for one in ml]
    hours = [3.0 * (k + 1) for k in range(len(ml) - 1)]
    found = timeline(scans, hours=hours)
    assert list(found.growths) == [
        between(scans[0], later, hours=at) for later, at in zip(scans[1:], hours, strict=True)
    ]
    assert list(map(found.title_of, found.lines)) == [f"A ({type_})"], (
        "the whole is the only lesion"
    )
    for (before, after), point in zip(pairwise(scans), found.lesions[0].points[1:], strict=True):
        assert [point.from_previous] == lesions_between(before, after, hours=3.0)


def test_hours_are_those_of_the_headers_where_these_rise() -> None:
    start = datetime(2024, 2, 3, 4, 0)
    times = [start, start + timedelta(hours=6), start + timedelta(hours=5), start + timedelta(1)]
    scans = [scan(("A", "IPH", ml)) for ml in (10, 12, 14, 16)]
    found = timeline(scans, acquired=times)
    assert found.hours == (0.0, 6.0, None, 24.0)
    assert [one.hours for one in found.growths] == [6.0, None, 24.0]
    last = found.total.points[3].from_previous
    assert last is not None and last.growth_ml_per_hour is None
    assert "The hours of scan 3 are not known" in found.notes[-1]
    assert timeline(scans, hours=[1, 2, 3], acquired=times).hours == (0.0, 1.0, 2.0, 3.0)
    assert timeline(scans).hours == (0.0, None, None, None)


@pytest.mark.parametrize("hours", [[6.0], [6.0, 6.0], [6.0, 3.0], [0.0, 3.0], [float("nan"), 3.0]])
def test_hours_rise_and_there_is_one_for_each_later_scan(hours: list[float]) -> None:
    with pytest.raises(InputError, match="to each of 2 later scans and rise from above 0; got"):
        timeline(THREE, hours=hours)


def test_one_scan_has_no_timeline() -> None:
    with pytest.raises(InputError, match="two scans or more; got one; give a follow-up"):
        timeline(THREE[:1])


def test_the_record_is_json() -> None:
    record = json.loads(json.dumps(timeline_record(timeline(THREE, hours=[7, 24]))))
    assert record["counted"] == "intraparenchymal blood"
    assert [one["name"] for one in record["lesions"]] == ["Left", "Ventricles", "New"]
    assert record["total"]["points"][1]["from_baseline"]["growth_percent"] == pytest.approx(40)
    assert record["total"]["points"][0]["from_previous"] is None
    assert [one["hours"] for one in record["growths"]] == [7, 24]
