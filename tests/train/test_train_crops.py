"""Crops, implants and negatives among the training examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from ichseg.marks.box import Box
from ichseg.methods.frame import SliceFrame
from ichseg.scan.skull import intracranial
from tests.train.heads import (
    BLOOD_HU,
    BRAIN,
    BRAIN_HU,
    COLUMNS,
    HEAD,
    ONE_COMPONENT,
    ROWS,
    STRANGER_HU,
    TRAINED,
    case,
    ellipse,
    examples_of,
    head,
    inside,
    marks,
)
from train.data import cache, examples, implants, placement, slices
from train.data.cache import Prepared, prepare
from train.data.cases import Case, DataError
from train.data.example_config import ExampleConfig
from train.data.examples import Example, TrainingSlices

# Crops


def test_a_crop_holds_the_box_at_the_scale_asked_for(heads: Prepared) -> None:
    config = ExampleConfig(box_per="component", crop_sides=(2, 3), crop_least_px=1)
    sizes, places = [], []
    for example in examples_of(heads, config, 30):
        x0, y0, x1, y1 = example.box_xyxy
        assert x0 >= 0 and y0 >= 0 and x1 <= 255 and y1 <= 255
        sizes.append(max(x1 - x0, y1 - y0) + 1)
        places.append((x0 + x1) / 2)
        assert inside(example.box_xyxy, example.target)
        core = ndimage.binary_erosion(example.target, iterations=4)
        assert example.image[core].mean() == pytest.approx((BLOOD_HU - 30) / 70, abs=0.03)
    assert min(sizes) > 256 / 3.1 and max(sizes) <= 256 / 2
    assert np.std(places) > 15  # not always in the middle


def test_a_crop_is_never_smaller_than_the_predictors(heads: Prepared) -> None:
    predictor = pytest.importorskip("ichseg.methods.predictor")
    assert ExampleConfig().crop_least_px == predictor.LEAST_CROP_PX
    tiny = Box(60, 60, 64, 64)
    rng = np.random.default_rng(0)
    for _ in range(50):
        region = placement.random_crop(tiny, (ROWS, COLUMNS), (2, 4), 64, rng)
        assert region.width == region.height == 64
        assert region.x0 <= 60 and region.x1 >= 64 and region.y0 <= 60 and region.y1 >= 64
        assert region.x0 >= 0 and region.x1 <= COLUMNS and region.y0 >= 0 and region.y1 <= ROWS


def test_a_crop_is_at_most_the_longer_side_and_may_overhang_the_shorter() -> None:
    wide = Box(5, 5, 120, 100)
    region = placement.random_crop(wide, (ROWS, COLUMNS), (4, 4), 64, np.random.default_rng(0))
    assert region == Box(0, 0, ROWS, ROWS)


def test_crop_share_mixes_crops_and_whole_slices(heads: Prepared) -> None:
    whole = TrainingSlices(heads, ["b"]).example(0)
    made = TrainingSlices(heads, ["b"], ExampleConfig(crop_sides=(2, 4), crop_share=0.5))
    same_as_whole = [np.array_equal(made.example(0, k).box_xyxy, whole.box_xyxy) for k in range(40)]
    assert 8 < sum(same_as_whole) < 32


def test_a_neighbour_counts_where_half_of_it_is_in_the_box() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[2:6, 2:6] = 1
    labels[2:6, 8:12] = 2  # four columns, 8 to 11
    labels[15:18, 15:18] = 3
    assert set(np.unique(labels[examples.prompted(labels, (1,), Box(0, 0, 9, 20))])) == {1}
    assert set(np.unique(labels[examples.prompted(labels, (1,), Box(0, 0, 10, 20))])) == {1, 2}
    # The component that the box was drawn around stays, however badly the box was drawn.
    assert set(np.unique(labels[examples.prompted(labels, (1,), Box(5, 5, 7, 7))])) == {1}


def test_a_component_in_the_crop_but_out_of_the_box_is_not_in_the_target(heads: Prepared) -> None:
    made = TrainingSlices(heads, ["a"], ExampleConfig(box_per="component", crop_sides=(4, 4)))
    intruded = 0
    for epoch in range(20):
        example = made.example(1, epoch)  # the 10 x 10 component; the larger one is 10 rows up
        assert ndimage.label(example.target)[1] == 1
        bright = ndimage.binary_opening(
            (example.image > 0.4) & (example.image < 0.75), iterations=4
        )
        intruded += bool((bright & ~ndimage.binary_dilation(example.target, iterations=6)).any())
        assert inside(example.box_xyxy, example.target)
    assert intruded > 0


# Implants and negatives


def made_up(heads: Prepared, config: ExampleConfig, epochs: int) -> list[Example]:
    made = TrainingSlices(heads, TRAINED, config)
    return [made.example(i, k) for k in range(epochs) for i in range(made.n_real, len(made))]


def test_implants_are_real_blood_on_slices_without_any(heads: Prepared) -> None:
    implants = made_up(heads, ExampleConfig(implant_share=2), 8)
    assert len(implants) == 48
    for example in implants:
        scan = heads.scans[example.scan_id]
        assert scan.patient_id in TRAINED
        assert scan.slices[example.slice_index].is_bloodless
        assert example.target.sum() >= 10 * 1.6**2 * 0.9
        assert inside(example.box_xyxy, example.target)
        before = SliceFrame((ROWS, COLUMNS)).image(
            heads.slice_hu(example.scan_id, example.slice_index)
        )
        near = ndimage.binary_dilation(example.target, iterations=8)
        np.testing.assert_allclose(example.image[~near], before[~near], atol=1e-5)
        core = ndimage.binary_erosion(example.target, iterations=3)
        if core.sum() > 20:
            assert example.image[core].mean() == pytest.approx((BLOOD_HU - 30) / 70, abs=0.05)
        bone = SliceFrame((ROWS, COLUMNS)).mask(HEAD & ~BRAIN)
        assert (example.target & ndimage.binary_erosion(bone, iterations=2)).sum() == 0
    assert len({example.image.tobytes() for example in implants}) == len(implants)


def test_nothing_of_another_patient_enters_training(heads: Prepared) -> None:
    config = ExampleConfig(implant_share=3, negative_share=3, noise_hu=0)
    made = TrainingSlices(heads, TRAINED, config)
    brightest = (STRANGER_HU - 5 - 30) / 70
    brain = SliceFrame((ROWS, COLUMNS)).mask(ndimage.binary_erosion(BRAIN, iterations=4))
    for epoch in range(3):
        for i in range(len(made)):
            example = made.example(i, epoch)
            assert example.patient_id in TRAINED
            assert example.image[brain].max() < brightest
    # The check can fail: the stranger's own slice is as bright.
    stranger = TrainingSlices(heads, ["stranger"]).example(0)
    assert stranger.image[brain].max() > brightest


def test_blood_on_the_bone_lies_on_the_bone_of_the_other_head() -> None:
    rim = BRAIN & ~ellipse(58, 42) & marks((40, 110, 0, 40))
    donor, inside_donor = head(rim).astype(np.float32), intracranial(head(rim).astype(np.float32))
    smaller = np.where(ellipse(60, 50), 100.0, -20.0)
    smaller[ellipse(50, 40)] = BRAIN_HU
    other = smaller.astype(np.float32)
    gaps = []
    for seed in range(20):
        pasted = implants.paste(
            donor, rim, inside_donor, other, intracranial(other), np.random.default_rng(seed)
        )
        if pasted is not None:
            gaps.append(ndimage.distance_transform_edt(ellipse(50, 40))[pasted[1]].min())
    assert len(gaps) >= 15 and max(gaps) <= 9  # two steps of the four pixels it is measured in


def test_negatives_ask_for_what_is_not_there(heads: Prepared) -> None:
    negatives = made_up(heads, ExampleConfig(negative_share=2), 8)
    frame = SliceFrame((ROWS, COLUMNS))
    brain = frame.mask(BRAIN)
    for example in negatives:
        assert not example.target.any()
        k = example.slice_index
        neighbours = heads.scans[example.scan_id].slices[max(k - 1, 0) : k + 2]
        assert all(entry.is_bloodless for entry in neighbours)
        np.testing.assert_array_equal(
            example.image, frame.image(heads.slice_hu(example.scan_id, k))
        )
        x0, y0, x1, y1 = np.rint(example.box_xyxy).astype(int)
        assert brain[y0 : y1 + 1, x0 : x1 + 1].mean() > 0.4
    assert len({tuple(example.box_xyxy) for example in negatives}) > 40


def test_implants_need_slices_without_blood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = case("full", {k: ONE_COMPONENT for k in range(9)})
    monkeypatch.setattr(cache, "read_cases", lambda *_: iter([full]))
    held = prepare("folder", "unused", tmp_path)
    with pytest.raises(DataError, match="need slices without blood"):
        TrainingSlices(held, ["full"], ExampleConfig(negative_share=1))


def test_a_slice_with_a_type_but_no_mask_is_not_bloodless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = case("p", {})
    types = tuple(("sah",) if k == 5 else () for k in range(9))
    unmarked = Case(**{**vars(named), "slice_types": types})
    monkeypatch.setattr(cache, "read_cases", lambda *_: iter([unmarked]))
    scan = prepare("folder", "unused", tmp_path).scans["p"]
    assert [k for _, k in slices.bloodless_slices(scan)] == [0, 1, 2, 3, 7, 8]
