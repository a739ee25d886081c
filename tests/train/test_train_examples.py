"""The training examples: the paper's, the same again, and what can be added."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import ndimage

from ichseg.marks.box import Box
from ichseg.methods.frame import PAPER, SliceFrame
from ichseg.scan.skull import intracranial
from tests.train.heads import (
    BLOOD_HU,
    BRAIN,
    CASES,
    COLUMNS,
    EVERYTHING,
    HEAD,
    ROWS,
    TRAINED,
    TWO_COMPONENTS,
    examples_of,
    head,
    inside,
    marks,
)
from train.data import placement
from train.data.cache import Prepared
from train.data.cases import DataError
from train.data.example_config import ExampleConfig
from train.data.examples import Example, TrainingSlices

# The paper's pipeline


def test_the_default_example_is_the_papers(heads: Prepared) -> None:
    made = TrainingSlices(heads, TRAINED)
    assert len(made) == made.n_real == 3  # one per slice with blood
    example = made.example(0)
    frame = SliceFrame((ROWS, COLUMNS))
    without_speck = TWO_COMPONENTS & ~marks((40, 43, 70, 73))
    np.testing.assert_array_equal(example.image, frame.image(CASES[0].slice_hu(4), PAPER))
    np.testing.assert_array_equal(example.target, frame.mask(without_speck))
    # Rows 60..109 and columns 40..79 at 1.6 model pixels each, 3 model pixels more on each side, last pixel included.
    expected = [40 * 1.6 - 3, 60 * 1.6 - 3, 80 * 1.6 + 3 - 1, 110 * 1.6 + 3 - 1]
    np.testing.assert_allclose(example.box_xyxy, expected, rtol=1e-6)
    assert (example.image.dtype, example.box_xyxy.dtype) == (np.float32, np.float32)
    assert not example.image[:, 205:].any()  # 128 columns fill 204.8 of 256; the rest is black
    assert (example.patient_id, example.scan_id, example.slice_index) == ("a", "a", 4)


def test_small_components_are_dropped_by_their_area_at_512(heads: Prepared) -> None:
    least = 8.99 * (512 / ROWS) ** 2  # just under the speck's own area
    kept = TrainingSlices(heads, ["a"], ExampleConfig(box_per="component", min_component_px=least))
    dropped = TrainingSlices(
        heads, ["a"], ExampleConfig(box_per="component", min_component_px=least + 1)
    )
    assert (len(kept), len(dropped)) == (3, 2)


def test_a_margin_stops_at_the_edge_of_the_slice(heads: Prepared) -> None:
    example = TrainingSlices(heads, ["b"], ExampleConfig(box_margin_px=300)).example(0)
    np.testing.assert_allclose(example.box_xyxy, [0, 0, COLUMNS * 1.6 - 1, 255], rtol=1e-6)


def test_one_box_a_component_prompts_that_component(heads: Prepared) -> None:
    made = TrainingSlices(heads, TRAINED, ExampleConfig(box_per="component"))
    assert len(made) == 4
    frame = SliceFrame((ROWS, COLUMNS))
    for i, component in enumerate([marks((60, 90, 40, 52)), marks((100, 110, 70, 80))]):
        np.testing.assert_array_equal(made.example(i).target, frame.mask(component))
    both = TrainingSlices(heads, TRAINED, ExampleConfig(box_per="both"))
    assert len(both) == 5  # the slice with two components has three boxes, the others one each


def test_patients_without_usable_blood_are_an_error(heads: Prepared) -> None:
    with pytest.raises(DataError, match="the 1 scans given have no component of 100 px"):
        TrainingSlices(heads, ["clear"])
    with pytest.raises(IndexError, match="0 to 2; got 3"):
        TrainingSlices(heads, TRAINED).example(3)


# The same example again


def same(a: Example, b: Example) -> bool:
    arrays = zip((a.image, a.box_xyxy, a.target), (b.image, b.box_xyxy, b.target), strict=True)
    return all(np.array_equal(x, y) for x, y in arrays) and (a.scan_id, a.slice_index, a.key) == (
        b.scan_id,
        b.slice_index,
        b.key,
    )


def test_an_example_depends_on_index_epoch_and_seed_alone(heads: Prepared) -> None:
    made = TrainingSlices(heads, TRAINED, EVERYTHING, seed=5)
    first = {(i, epoch): made.example(i, epoch) for epoch in (0, 1) for i in range(len(made))}
    resumed = pickle.loads(
        pickle.dumps(TrainingSlices(Prepared(heads.folder), TRAINED, EVERYTHING, seed=5))
    )
    for i, epoch in reversed(first):
        assert same(resumed.example(i, epoch), first[i, epoch])
    assert not any(same(first[i, 0], first[i, 1]) for i in range(len(made)))
    other = TrainingSlices(heads, TRAINED, EVERYTHING, seed=6)
    assert not any(same(other.example(i, 0), first[i, 0]) for i in range(len(made)))


def test_an_epochs_order_is_a_permutation_of_its_own(heads: Prepared) -> None:
    made = TrainingSlices(heads, TRAINED, EVERYTHING)
    assert sorted(made.order(3)) == list(range(len(made)))
    assert made.order(3).tolist() == made.order(3).tolist() != made.order(4).tolist()


def test_every_example_is_fit_to_train_on(heads: Prepared) -> None:
    made = TrainingSlices(heads, TRAINED, EVERYTHING)
    assert len(made) == 3 * made.n_real == 15
    for epoch in range(6):
        for i in range(len(made)):
            example = made.example(i, epoch)
            assert example.image.shape == example.target.shape == (256, 256)
            assert example.image.dtype == example.box_xyxy.dtype == np.float32
            assert example.image.min() >= 0 and example.image.max() <= 1
            x0, y0, x1, y1 = example.box_xyxy
            assert 0 <= x0 <= x1 <= 255 and 0 <= y0 <= y1 <= 255
            assert example.target.any() or i >= made.n_real
            assert example.key is None


# Beyond the paper


def test_jitter_moves_the_box_and_nothing_else(heads: Prepared) -> None:
    plain = examples_of(heads, ExampleConfig(), 20)
    moved = examples_of(heads, ExampleConfig(box_jitter_px=10), 20)
    by = np.array([b.box_xyxy - a.box_xyxy for a, b in zip(plain, moved, strict=True)])
    assert np.abs(by).max() <= 10 / 2 + 1e-4  # 10 px at 512 are 5 in the model's frame
    assert np.abs(by).max() > 4 and abs(by.mean()) < 1
    for a, b in zip(plain, moved, strict=True):
        assert np.array_equal(a.image, b.image) and np.array_equal(a.target, b.target)
        assert a.key == b.key


def test_mirroring_mirrors_image_box_and_target_together(heads: Prepared) -> None:
    plain = {e.scan_id + str(e.slice_index): e for e in examples_of(heads, ExampleConfig())}
    seen = set()
    for example in examples_of(heads, ExampleConfig(flip_left_right=True), 8):
        twin = plain[example.scan_id + str(example.slice_index)]
        assert example.key is not None and twin.key is not None
        mirrored = example.key == twin.key + "/lr"
        seen.add(mirrored)
        width = 205  # the slice's columns in the frame; the black rest stays on the right
        image = twin.image[:, :width][:, ::-1] if mirrored else twin.image[:, :width]
        # 204.8 columns do not mirror exactly onto themselves.
        assert np.abs(example.image[:, :width] - image).mean() < 0.02
        if mirrored:
            x0, y0, x1, y1 = twin.box_xyxy
            edge = COLUMNS * 1.6 - 1
            np.testing.assert_allclose(example.box_xyxy, [edge - x1, y0, edge - x0, y1], rtol=1e-5)
        assert inside(example.box_xyxy, example.target)
    assert seen == {True, False}


def test_up_down_mirroring_is_exact_along_the_longer_side(heads: Prepared) -> None:
    plain = TrainingSlices(heads, ["a"]).example(0)
    made = TrainingSlices(heads, ["a"], ExampleConfig(flip_up_down=True))
    flipped = next(e for e in (made.example(0, k) for k in range(20)) if e.key == "a/4/ud")
    np.testing.assert_allclose(flipped.image, plain.image[::-1], atol=1e-5)
    np.testing.assert_array_equal(flipped.target, plain.target[::-1])


def test_rotation_turns_the_reference_with_the_image(heads: Prepared) -> None:
    config = ExampleConfig(rotation_degrees=30, box_margin_px=0)
    boxes = set()
    for example in examples_of(heads, config, 10):
        plain = TrainingSlices(heads, [example.patient_id]).example(0)
        if example.patient_id == "b":
            assert example.target.sum() == pytest.approx(plain.target.sum(), rel=0.05)
        assert inside(example.box_xyxy, example.target)
        # Blood is at 70 HU, brain near 35: the target is where the image is bright.
        core = ndimage.binary_erosion(example.target, iterations=2)
        assert example.image[core].mean() == pytest.approx((BLOOD_HU - 30) / 70, abs=0.02)
        ring = ndimage.binary_dilation(example.target, iterations=5) & ~ndimage.binary_dilation(
            example.target, iterations=3
        )
        assert example.image[ring].mean() < 0.2
        boxes.add(tuple(example.box_xyxy))
        assert example.key is None
    assert len(boxes) > 15


def test_a_rotated_crop_is_the_crop_of_the_rotated_slice() -> None:
    hu = head(TWO_COMPONENTS).astype(np.float32)
    whole = placement.rotate(hu, 12.5, Box(0, 0, COLUMNS, ROWS))
    part = placement.rotate(hu, 12.5, Box(30, 50, 90, 120))
    np.testing.assert_allclose(part, whole[50:120, 30:90], atol=1e-3)
    labels = TWO_COMPONENTS.astype(np.int32)
    turned = placement.rotate_labels(labels, 12.5)
    matrix, offset = placement.turn(labels.shape, 12.5)
    expected = ndimage.affine_transform(labels, matrix, offset, order=0)
    np.testing.assert_array_equal(turned, expected)


def test_intensity_changes_leave_bone_white_and_geometry_alone(heads: Prepared) -> None:
    plain = TrainingSlices(heads, ["a"]).example(0)
    bone = SliceFrame((ROWS, COLUMNS)).mask(ndimage.binary_erosion(HEAD & ~BRAIN, iterations=3))
    brain = SliceFrame((ROWS, COLUMNS)).mask(
        ndimage.binary_erosion(BRAIN & ~TWO_COMPONENTS, iterations=3)
    )
    config = ExampleConfig(hu_shift=10, hu_scale=0.2, noise_hu=8)
    made = TrainingSlices(heads, ["a"], config)
    levels = []
    for epoch in range(12):
        example = made.example(0, epoch)
        assert (example.image[bone] == 1).all()
        np.testing.assert_array_equal(example.target, plain.target)
        np.testing.assert_array_equal(example.box_xyxy, plain.box_xyxy)
        levels.append(example.image[plain.target & brain | plain.target].mean() * 70 + 30)
    assert max(levels) > BLOOD_HU + 5 and min(levels) < BLOOD_HU - 5
    assert max(levels) <= BLOOD_HU + 35 * 0.2 + 10 + 1


def test_denoising_and_blur_smooth(heads: Prepared) -> None:
    brain = SliceFrame((ROWS, COLUMNS)).mask(
        ndimage.binary_erosion(BRAIN & ~TWO_COMPONENTS, iterations=6)
    )
    plain = TrainingSlices(heads, ["a"]).example(0)
    median = TrainingSlices(heads, ["a"], ExampleConfig(median_px=3)).example(0)
    assert median.image[brain].std() < 0.7 * plain.image[brain].std()
    assert median.key == plain.key  # denoised always the same, so worth keeping
    blurred = TrainingSlices(heads, ["a"], ExampleConfig(blur_px=4)).example(0, 1)
    assert blurred.key is None and blurred.image[brain].std() < plain.image[brain].std()


def test_skull_stripping_blackens_skull_and_air_only(heads: Prepared) -> None:
    plain = TrainingSlices(heads, ["a"]).example(0)
    example = TrainingSlices(heads, ["a"], ExampleConfig(skull_strip=True)).example(0)
    frame = SliceFrame((ROWS, COLUMNS))
    core = frame.mask(ndimage.binary_erosion(BRAIN, iterations=4))
    outside = frame.mask(ndimage.binary_erosion(~BRAIN, iterations=3))
    np.testing.assert_array_equal(example.image[core], plain.image[core])
    assert not example.image[outside].any()
    np.testing.assert_array_equal(example.target, plain.target)


def test_the_inside_of_a_skull_is_found_and_an_open_one_refused() -> None:
    found = intracranial(head().astype(np.float32))
    assert (found & BRAIN).sum() / (found | BRAIN).sum() > 0.95
    assert not (found & HEAD & ~BRAIN).any()
    opened = head()
    opened[:40] = -20
    assert not intracranial(opened.astype(np.float32)).any()
    assert not intracranial(np.full((64, 48), -1000, np.float32)).any()
    assert not intracranial(np.full((640, 480), 1000, np.float32)).any()
