"""Bedside scores, point by point."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from ichseg.errors import InputError
from ichseg.measures.scores import NAMES, Findings, Score, scores

ALL = Findings(
    parenchymal_ml=35.0,
    intraventricular=True,
    hours_from_onset=0.5,
    recurrent=True,
    warfarin=True,
    anticoagulant=True,
    nihss=20,
    glucose_mg_dl=180,
    gcs=3,
    infratentorial=True,
    age_years=85,
)
NOTHING = Findings(
    parenchymal_ml=5.0,
    intraventricular=False,
    hours_from_onset=9,
    recurrent=False,
    warfarin=False,
    anticoagulant=False,
    nihss=3,
    glucose_mg_dl=100,
    gcs=15,
    infratentorial=False,
    age_years=50,
)


def score(name: str, findings: Findings) -> Score:
    return next(one for one in scores(findings) if one.name == name)


def points(name: str, finding: str, value: Any) -> int | None:
    found = score(name, replace(NOTHING, **{finding: value}))
    return next(item.points for item in found.items if item.finding == finding)


def test_the_scores_run_over_their_published_ranges() -> None:
    assert [one.name for one in scores(ALL)] == ["BRAIN", "NAG", "ICH score"]
    assert [one.total for one in scores(NOTHING)] == [0, 0, 0]
    assert [one.total for one in scores(ALL)] == [24, 3, 6]
    assert score("BRAIN", ALL).meaning == "predicted expansion 85.8 %"
    assert score("BRAIN", NOTHING).meaning == "predicted expansion 3.4 %"


@pytest.mark.parametrize(
    ("name", "finding", "table"),
    [
        ("BRAIN", "parenchymal_ml", {0: 0, 10: 0, 10.1: 5, 20: 5, 20.1: 7, 150: 7}),
        (
            "BRAIN",
            "hours_from_onset",
            {0: 5, 1: 5, 1.1: 4, 2: 4, 2.5: 3, 3: 3, 4: 2, 5: 1, 5.1: 0, 72: 0},
        ),
        ("BRAIN", "recurrent", {True: 4}),
        ("BRAIN", "warfarin", {True: 6}),
        ("BRAIN", "intraventricular", {True: 2}),
        ("NAG", "nihss", {0: 0, 9: 0, 10: 1, 42: 1}),
        ("NAG", "glucose_mg_dl", {132.9: 0, 133: 1}),
        ("NAG", "anticoagulant", {True: 1}),
        ("ICH score", "gcs", {3: 2, 4: 2, 5: 1, 12: 1, 13: 0, 15: 0}),
        ("ICH score", "parenchymal_ml", {29.9: 0, 30: 1}),
        ("ICH score", "age_years", {79: 0, 80: 1}),
        ("ICH score", "infratentorial", {True: 1}),
        ("ICH score", "intraventricular", {True: 1}),
    ],
)
def test_points_at_each_published_bound(name: str, finding: str, table: dict[float, int]) -> None:
    assert {value: points(name, finding, value) for value in table} == table


def test_nag_says_how_often_its_totals_expanded() -> None:
    found = [NOTHING, replace(NOTHING, nihss=12), replace(ALL, glucose_mg_dl=90), ALL]
    assert [score("NAG", one).meaning for one in found] == [
        f"expansion in {percent} % of the derivation cohort" for percent in (4, 25, 60, 100)
    ]


@pytest.mark.parametrize("finding", sorted(NAMES))
def test_what_is_missing_is_named_and_no_total_is_guessed(finding: str) -> None:
    for before, after in zip(scores(ALL), scores(replace(ALL, **{finding: None})), strict=True):
        asked = {item.finding: item for item in before.items}
        if finding not in asked:
            assert after == before
            continue
        assert after.total is None and after.meaning is None
        assert after.missing == (NAMES[finding],)
        assert (after.least, after.most) == (before.total - asked[finding].points, before.total)


def test_of_nothing_known_everything_is_missing() -> None:
    for one in scores(Findings()):
        assert one.total is None and one.least == 0
        assert len(one.missing) == len(one.items)
    assert [one.most for one in scores(Findings())] == [24, 3, 6]


@pytest.mark.parametrize(
    ("finding", "value"),
    [
        *(("gcs", value) for value in (2, 16, math.nan, 7.5)),
        *(("nihss", value) for value in (-1, 43)),
        ("age_years", -1),
        ("hours_from_onset", -0.1),
        ("parenchymal_ml", math.inf),
        ("glucose_mg_dl", -5),
    ],
)
def test_a_finding_out_of_its_range_is_refused_by_name(finding: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{NAMES[finding]} is .*; got .*; correct it\.$"):
        Findings(**{finding: value})
