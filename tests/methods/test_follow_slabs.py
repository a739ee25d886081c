"""From a box to the whole hematoma of a thin series: by slabs, and back to the scan's own slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import phantoms
import pytest

from ichseg.marks.box import Box
from ichseg.methods.follow import follow
from ichseg.methods.follow_rule import Rule
from ichseg.methods.follow_slabs import follow_scan
from ichseg.methods.predictor import SliceEmbedding
from ichseg.methods.propagation import Propagation, propagate_lesions
from ichseg.scan.slabs import Slab, SliceOrSlab, hu_of
from ichseg.scan.volume import CTVolume
from tests.blood_in_box import BloodInBox, boxed, scan_of

BoolArray = npt.NDArray[np.bool_]
SHAPE_YX = (96, 112)


def blood(
    slices: int = 80,
    height_mm: float = 0.5,
    centre_mm: tuple[float, float, float] = (20, 24, 28),
    radius_mm: tuple[float, float, float] = (14, 13, 10),
) -> BoolArray:
    """An ellipsoid [z, y, x] on pixels of 0.5 mm."""
    return phantoms.ellipsoid((slices, *SHAPE_YX), (height_mm, 0.5, 0.5), centre_mm, radius_mm)


def thin(reference: BoolArray, height_mm: float = 0.5, **how: Any) -> CTVolume:
    return scan_of(reference, list(np.arange(len(reference)) * height_mm), **how)


def run(volume: CTVolume, lesions: Any, **options: Any) -> Propagation:
    """By a method that takes what is over half of the way from brain to blood."""
    return propagate_lesions(BloodInBox(least_hu=50), volume, lesions, **options)


def dice(a: BoolArray, b: BoolArray) -> float:
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))


def assert_whole(found: BoolArray, reference: BoolArray) -> None:
    """Every slice with more than a tip of the blood is marked as it is, and none beyond it."""
    areas_mm2 = reference.sum(axis=(1, 2)) * 0.25
    assert not found[areas_mm2 == 0].any()
    for k in np.flatnonzero(areas_mm2 > 60):
        assert dice(found[k], reference[k]) > (0.93 if areas_mm2[k] > 200 else 0.7), k
    assert dice(found, reference) > 0.97
    assert found.sum() / reference.sum() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("slices", "height_mm"), [(80, 0.5), (77, 0.5), (73, 0.5), (42, 1.0), (33, 1.25), (21, 2.0)]
)
@pytest.mark.parametrize("start_mm", [20.0, 26.0])
def test_every_slice_of_an_ellipsoid_is_marked(
    slices: int, height_mm: float, start_mm: float
) -> None:
    reference = blood(slices, height_mm)
    k = round(start_mm / height_mm)
    done = run(thin(reference, height_mm), {1: {k: boxed(reference[k])}})
    assert_whole(done.mask_zyx(), reference)


@pytest.mark.parametrize("tilt_degrees", [-20.0, 20.0])
def test_a_tilted_stack_is_followed_with_the_anatomy(tilt_degrees: float) -> None:
    """A rod at right angles to tilted slices wanders over their pixels."""
    wander_px = np.sin(np.radians(tilt_degrees))
    reference = np.zeros((80, *SHAPE_YX), bool)
    y, x = np.mgrid[: SHAPE_YX[0], : SHAPE_YX[1]]
    for k in range(10, 70):
        reference[k] = (y - 48 - wander_px * (k - 40)) ** 2 + (x - 56) ** 2 <= 15**2
    done = run(thin(reference, tilt_degrees=tilt_degrees), {1: {40: boxed(reference[40])}})
    assert_whole(done.mask_zyx(), reference)


def test_two_lesions_are_followed_each_by_its_own_boxes() -> None:
    one = blood(centre_mm=(15, 16, 14), radius_mm=(12, 9, 8))
    two = blood(centre_mm=(24, 32, 42), radius_mm=(12, 8, 9))
    done = run(thin(one | two), {"one": {30: boxed(one[30])}, "two": {50: boxed(two[50])}})
    for name, reference in (("one", one), ("two", two)):
        assert_whole(done.mask_zyx(name), reference)
    assert sorted((stop.lesion, stop.direction) for stop in done.stops) == [
        ("one", -1), ("one", 1), ("two", -1), ("two", 1),
    ]  # fmt: skip


def test_a_persons_slice_keeps_the_answer_to_their_boxes() -> None:
    reference = blood()
    drawn = [Box(40, 30, 60, 60)]  # a part of the blood
    done = run(thin(reference), {1: {43: drawn}})
    own = done.found[1][43]
    assert own.how == "prompt" and own.boxes == tuple(drawn)
    inside = np.zeros(SHAPE_YX, bool)
    inside[30:60, 40:60] = True
    assert (own.mask_yx == (reference[43] & inside)).all()
    others = [one for k, one in done.found[1].items() if k != 43]
    assert {one.how for one in others} == {"between", "followed"}
    assert all(one.boxes == () for one in others)


def test_boxes_on_two_slices_of_a_slab_are_one_box_there() -> None:
    reference = blood()
    predictor = BloodInBox(least_hu=50)
    prompts = {41: boxed(reference[41]), 44: boxed(reference[44])}
    done = propagate_lesions(predictor, thin(reference), {1: prompts})
    assert_whole(done.mask_zyx(), reference)
    assert {k for k, one in done.found[1].items() if one.how == "prompt"} == {41, 44}


def test_slices_between_two_prompts_are_marked_whatever_the_rule_says() -> None:
    reference = blood()
    reference[38:44] = False  # a gap that the rule would not cross
    prompts = {k: boxed(reference[k]) for k in (20, 60)}
    found = run(thin(reference), {1: prompts}).mask_zyx()
    assert found[20:38].any(axis=(1, 2)).all() and found[44:60].any(axis=(1, 2)).all()


def test_a_stop_is_at_the_last_slice_that_is_marked() -> None:
    reference = blood()
    reference[60:] = False
    done = run(thin(reference), {1: {40: boxed(reference[40])}})
    marked = np.flatnonzero(done.mask_zyx().any(axis=(1, 2)))
    ends = {stop.direction: stop for stop in done.stops}
    assert (ends[-1].slice_index, ends[1].slice_index) == (marked[0], marked[-1])
    assert marked[-1] == 59
    assert ends[1].sentence.startswith("stopped above slice 60: ")


def test_blood_to_the_end_of_the_scan_is_marked_to_its_last_slice() -> None:
    reference = np.zeros((60, *SHAPE_YX), bool)
    reference[:, 30:60, 40:70] = True
    done = run(thin(reference), {1: {30: boxed(reference[30])}})
    assert_whole(done.mask_zyx(), reference)
    assert {(stop.reason, stop.slice_index) for stop in done.stops} == {("end", 0), ("end", 59)}


def test_cancel_keeps_what_was_found_and_says_so() -> None:
    reference = blood()
    seen: list[float] = []
    done = run(
        thin(reference),
        {1: {40: boxed(reference[40])}},
        progress=seen.append,
        cancelled=lambda: len(seen) >= 5,
    )
    assert done.cancelled
    marked = np.flatnonzero(done.mask_zyx().any(axis=(1, 2)))
    assert 40 in marked and len(marked) < reference.any(axis=(1, 2)).sum()
    assert {stop.slice_index for stop in done.stops} == {marked[0], marked[-1]}
    assert seen == sorted(seen)
    before = run(thin(reference), {1: {40: boxed(reference[40])}}, cancelled=lambda: True)
    assert before.cancelled and not before.mask_zyx().any()


def test_only_the_prompted_slice_and_slabs_are_embedded() -> None:
    reference = blood()
    volume, asked = thin(reference), list[SliceOrSlab]()

    def embed(where: SliceOrSlab) -> SliceEmbedding:
        asked.append(where)
        return SliceEmbedding(np.asarray(hu_of(volume, where)))

    run(volume, {1: {40: boxed(reference[40])}}, embed=embed)
    assert [where for where in asked if not isinstance(where, Slab)] == [40]
    assert {where for where in asked if isinstance(where, Slab)} <= {
        Slab(range(n, n + 10), volume.hu_zyx[0]) for n in range(0, 80, 10)
    }


def test_slice_by_slice_where_the_rule_says_so_and_for_thick_slices() -> None:
    reference = blood()
    prompts = {1: {40: boxed(reference[40])}}
    plain = Rule(slab_mm=0)
    for volume, rule in ((thin(reference), plain), (thin(reference, 5.0), Rule())):
        by_scan, by_slice = (
            [
                (step.slice_index, getattr(step, "boxes", None))
                for step in one(BloodInBox(), volume, prompts, rule=rule)
            ]
            for one in (follow_scan, follow)
        )
        assert by_scan == by_slice
