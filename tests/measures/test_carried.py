"""From a marked baseline to the growth: two noise copies, known growth, new lesions, hours, and the range."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from ichseg.errors import BoxError, UnsureError
from ichseg.marks.lesion import Lesion
from ichseg.measures.assessment import assess
from ichseg.measures.carried import follow_up, registration_record
from ichseg.measures.followup import Blood, between, counted_zyx, hours_between
from ichseg.measures.growth_range import Boxed, growth_range
from ichseg.measures.volume import volume_ml
from ichseg.methods.threshold import ThresholdPredictor
from ichseg.scan.inner_table import Match
from ichseg.scan.registration import Registration
from ichseg.scan.volume import CTVolume
from tests.phantoms import HEAD_SPACING_MM, geometry, head_hu
from tests.two_heads import MOTION, baseline, followup

SURE = Match(0.4, 0.9, 500.0)
METHOD = ThresholdPredictor()


def copy_with_noise(seed: int) -> CTVolume:
    dz, dy, dx = HEAD_SPACING_MM
    hu, _ = head_hu()
    noisy = hu + np.rint(np.random.default_rng(seed).normal(0, 4, hu.shape)).astype(hu.dtype)
    return CTVolume(noisy, geometry(np.arange(len(hu)) * dz, (dy, dx)), name=f"copy {seed}")


def test_no_growth_between_two_noise_copies_is_within_error_in_all_of_20() -> None:
    first = copy_with_noise(0)
    _, blood = head_hu()
    marked = assess(blood.astype(np.uint8), first, [Lesion(1, type="IPH")])
    same = Registration(np.eye(4), SURE)
    for seed in range(1, 21):
        found = follow_up(METHOD, marked, copy_with_noise(seed), registration=same)
        assert found.growth.within_measurement_error
        assert "within readers' error" in found.growth.error_sentence
        assert not any(one.expansion for one in found.growth.verdicts)


def test_a_known_growth_is_told_by_lesion_with_the_hours_of_the_headers() -> None:
    (own, clot), (later, grown) = baseline(16.0), followup(20.0)
    own = replace(own, acquired_at=datetime(2024, 1, 2, 8, 0))
    later = replace(later, acquired_at=datetime(2024, 1, 2, 13, 0))
    marked = assess(clot.astype(np.uint8), own, [Lesion(1, type="IPH")])
    found = follow_up(
        METHOD, marked, later, registration=Registration(MOTION, SURE), with_range=True
    )
    true = 100 * (volume_ml(grown, later) / volume_ml(clot, own) - 1)
    assert found.growth.growth_percent == pytest.approx(true, abs=5)
    assert found.growth.hours == 5
    assert "The 5.0 h between the scans are those of their headers." in found.growth.notes
    (lesion,) = found.growth.lesions
    assert lesion.growth_ml_per_hour == pytest.approx(found.growth.growth_ml / 5)
    assert found.range is not None
    assert found.range.low_ml <= found.growth.growth_ml <= found.range.high_ml
    assert found.found.other is not None and found.found.role == "follow-up"
    assert found.found.notes[0] == found.registration.sentence


def test_an_unsure_registration_is_refused_unless_a_person_goes_on() -> None:
    first = copy_with_noise(0)
    marked = assess(head_hu()[1].astype(np.uint8), first, [Lesion(1)])
    unsure = Registration(np.eye(4), Match(2.5, 6.0, 500.0))
    with pytest.raises(UnsureError, match=r"2\.5 mm apart in the median"):
        follow_up(METHOD, marked, copy_with_noise(1), registration=unsure)
    found = follow_up(METHOD, marked, copy_with_noise(1), registration=unsure, unsure_too=True)
    assert "unsure" in found.notes[0]
    record = registration_record(unsure)
    assert (record["sure"], record["median_mm"]) == (False, 2.5)


def test_lesions_are_matched_by_name_and_type_and_new_ones_are_said() -> None:
    before = Blood.of([(Lesion(1, "Left", type="IPH"), 10.0), (Lesion(2), 4.0)])
    after = Blood.of(
        [
            (Lesion(1, "Left", type="IPH"), 15.0),
            (Lesion(2, type="SDH"), 2.0),
            (Lesion(3, "Horn", type="IVH"), 1.5),
        ]
    )
    found = between(before, after, hours=10)
    told = [(one.name, one.type, one.growth_ml, one.is_new) for one in found.lesions]
    assert told == [
        ("Left", "IPH", 5.0, False),
        ("Lesion 2", "SDH", -2.0, False),  # nobody had said what it is
        ("Horn", "IVH", 1.5, True),
    ]
    by_type = {one.type: one for one in found.types}
    assert by_type["IPH"].growth_percent == 50 and by_type["IPH"].growth_ml_per_hour == 0.5
    assert by_type["IVH"].is_new and by_type["IVH"].growth_percent is None
    assert found.verdict("revised").expansion  # new IVH


def test_hours_are_told_where_both_headers_have_them_in_order() -> None:
    first, second = datetime(2024, 1, 2, 8, 0), datetime(2024, 1, 2, 9, 30)
    assert hours_between(first, second) == 1.5
    assert hours_between(second, first) is None and hours_between(first, None) is None
    blood = Blood({"IPH": 10.0})
    given = between(blood, blood, hours=4, acquired=(first, second))
    assert given.hours == 4 and not any("headers" in note for note in given.notes)


def test_what_a_growth_is_counted_of_is_what_its_range_is_of() -> None:
    lesions = [Lesion(1, type="IPH"), Lesion(2, type="IVH"), Lesion(3, type="oedema")]
    labels = np.array([0, 1, 2, 3])
    assert counted_zyx(labels, lesions, "iph").tolist() == [False, True, False, False]
    assert counted_zyx(labels, lesions, "all blood").tolist() == [False, True, True, False]
    one = Boxed(copy_with_noise(0), np.zeros((8, 64, 64), bool))
    with pytest.raises(BoxError, match="one of them has none; mark it"):
        growth_range(METHOD, one, one)
