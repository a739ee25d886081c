"""Growth at the thresholds of each definition, and the error of reading."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ichseg.errors import InputError
from ichseg.measures.growth import DEFINITIONS, PARENCHYMAL, WITH_IVH, Growth, Thresholds, growth
from ichseg.measures.scores import Findings, scores

STRICT = Thresholds(inclusive=False)


def verdicts(found: Growth) -> tuple[bool | None, ...]:
    return tuple(found.verdict(name).expansion for name in DEFINITIONS)


@pytest.mark.parametrize(
    ("before", "after", "growth_ml", "percent", "classic", "absolute"),
    [
        (20.0, 20.0, 0.0, 0.0, False, False),
        (20.0, 25.9, 5.9, 29.5, False, False),  # just under both thresholds of the classic one
        (20.0, 26.0, 6.0, 30.0, True, False),  # exactly 6 mL
        (20.1, 26.1, 6.0, 29.8507, True, False),  # exactly, but for binary fractions
        (10.0, 13.3, 3.3, 33.0, True, False),  # exactly 33 %
        (10.0, 13.2, 3.2, 32.0, False, False),
        (40.0, 52.5, 12.5, 31.25, True, True),  # exactly 12.5 mL
        (40.0, 52.4, 12.4, 31.0, True, False),
        (30.0, 12.0, -18.0, -60.0, False, False),  # evacuated
    ],
)
def test_expansion_at_its_thresholds(
    before: float, after: float, growth_ml: float, percent: float, classic: bool, absolute: bool
) -> None:
    found = growth(before, after)
    assert found.growth_ml == pytest.approx(growth_ml)
    assert found.growth_percent == pytest.approx(percent, abs=1e-3)
    # Without the ventricles labelled separately, classic expansion is revised expansion; its absence is not an answer.
    assert verdicts(found) == (classic, absolute, True if classic else None)


def test_a_threshold_that_must_be_exceeded_is_not_met_by_reaching_it() -> None:
    assert verdicts(growth(20, 26, thresholds=STRICT)) == (False, False, None)
    assert verdicts(growth(40, 52.5, thresholds=STRICT)) == (True, False, True)
    assert verdicts(growth(40, 52.6, thresholds=STRICT)) == (True, True, True)


def test_the_thresholds_are_settings_and_stand_in_the_rule() -> None:
    found = growth(20, 23.5, thresholds=Thresholds(classic_ml=3, absolute_ml=3.5, inclusive=True))
    assert verdicts(found)[:2] == (True, True)
    assert found.verdict("classic").rule == "growth >= 3 mL or >= 33 %"
    assert growth(1, 2, thresholds=STRICT).verdict("absolute").rule == "growth > 12.5 mL"
    with pytest.raises(InputError, match=r"absolute_ml is a number at least 0; got -1"):
        Thresholds(absolute_ml=-1)


def test_from_nothing_only_millilitres_count() -> None:
    found = growth(0, 5)
    assert found.growth_percent is None
    assert verdicts(found)[0] is False
    assert "no per cent of an empty baseline" in found.verdict("classic").because
    assert verdicts(growth(0, 6))[0] is True


@pytest.mark.parametrize(
    ("ivh_ml", "revised"),
    [
        ((0.0, 0.0), False),
        ((0.0, 0.01), True),
        ((3.0, 3.9), False),
        ((3.0, 4.0), True),
        ((4.0, 0.0), False),
    ],
)
def test_the_revised_definition_adds_new_or_growing_ivh(
    ivh_ml: tuple[float, float], revised: bool
) -> None:
    found = growth(20, 21, ivh_ml=ivh_ml)
    assert found.verdict("revised").expansion is revised
    assert found.ivh_growth_ml == pytest.approx(ivh_ml[1] - ivh_ml[0])
    assert growth(20, 30, ivh_ml=ivh_ml).verdict("revised").expansion is True


@pytest.mark.parametrize(
    ("after", "error", "within"),
    [
        (25.7, PARENCHYMAL, True),
        (25.8, PARENCHYMAL, False),
        (14.3, PARENCHYMAL, True),  # shrinking is measured no better
        (14.2, PARENCHYMAL, False),
        (27.6, WITH_IVH, True),
        (27.7, WITH_IVH, False),
    ],
)
def test_a_change_is_within_measurement_error_below_what_two_raters_can_tell(
    after: float, error: Any, within: bool
) -> None:
    found = growth(20, after, reading_error=error)
    assert found.within_measurement_error is within
    assert found.reading_error == error


def test_the_reading_errors_are_the_published_ones() -> None:
    assert (PARENCHYMAL.between_raters_ml, PARENCHYMAL.within_rater_ml) == (5.8, 3.8)
    assert (WITH_IVH.between_raters_ml, WITH_IVH.within_rater_ml) == (7.7, 6.7)
    assert "Rodriguez-Luna" in PARENCHYMAL.source


def test_a_rate_needs_the_hours() -> None:
    assert growth(20, 29).growth_ml_per_hour is None
    assert growth(20, 29, hours=6).growth_ml_per_hour == pytest.approx(1.5)
    assert growth(20, 17, hours=6).growth_ml_per_hour == pytest.approx(-0.5)
    for hours in (0, -3, math.nan, math.inf):
        with pytest.raises(InputError, match="hours between the scans"):
            growth(20, 29, hours=hours)


@pytest.mark.parametrize("volumes", [(-1.0, 3.0), (3.0, math.nan), (math.inf, 3.0)])
def test_a_volume_is_finite_and_not_negative(volumes: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="is a number at least 0; got"):
        growth(*volumes)
    with pytest.raises(InputError, match="IVH is a number at least 0; got"):
        growth(1, 2, ivh_ml=volumes)


@given(
    before=st.floats(0.1, 200),
    after=st.floats(0, 200),
    scale=st.floats(1, 3),
    inclusive=st.booleans(),
)
def test_more_growth_is_never_less_expansion(
    before: float, after: float, scale: float, inclusive: bool
) -> None:
    asked = Thresholds(inclusive=inclusive)
    less, more = (
        verdicts(growth(before, value, ivh_ml=(0.0, 0.0), thresholds=asked))
        for value in (after, after * scale)
    )
    assert all(not a or b for a, b in zip(less, more, strict=True))


def test_every_definition_has_a_rule_and_a_source() -> None:
    assert list(DEFINITIONS) == ["classic", "absolute", "revised"]
    for definition in DEFINITIONS.values():
        assert "mL" in definition.rule
        assert "20" in definition.source


def test_growth_and_scores_are_plain_values_for_json() -> None:
    record = [asdict(growth(20, 26, hours=3)), [asdict(one) for one in scores(Findings())]]
    assert json.loads(json.dumps(record, allow_nan=False))[0]["verdicts"][0]["expansion"] is True
