"""The cache, the splits and the training examples, on heads drawn for the purpose."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from ichseg.marks.box import Box, box_from_mask
from ichseg.methods.frame import PAPER, SliceFrame
from train import dataset
from train.cases import Case, DataError
from train.dataset import (
    Example,
    ExampleConfig,
    Prepared,
    TrainingSlices,
    check_leaks,
    intracranial,
    native_slices,
    prepare,
    split_folds,
    split_nine_to_one,
    write_json,
)

ROWS, COLUMNS = 160, 128  # not square; 160 / 512 = 0.3125 native pixels to one at 512
SKULL = ((np.mgrid[:ROWS, :COLUMNS] - np.array([80, 64])[:, None, None]) ** 2).astype(float)


def ellipse(half_height: float, half_width: float) -> np.ndarray:
    return SKULL[0] / half_height**2 + SKULL[1] / half_width**2 <= 1


HEAD, BRAIN = ellipse(72, 56), ellipse(62, 46)
BRAIN_HU, BLOOD_HU, STRANGER_HU = 35, 70, 92


def head(blood: np.ndarray | None = None, blood_hu: int = BLOOD_HU) -> np.ndarray:
    """A slice in HU: air, a skull at 100, brain with a little texture, blood where marked."""
    rng = np.random.default_rng(7)
    hu = np.where(HEAD, 100.0, -20.0)
    hu[BRAIN] = BRAIN_HU + rng.normal(0, 2, BRAIN.sum())
    if blood is not None:
        hu[blood] = blood_hu
    return hu


def marks(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((ROWS, COLUMNS), dtype=bool)
    for y0, y1, x0, x1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


#: A large piece and a small one apart, and a speck of 9 px: 100 px at 512 are 9.77 px here.
TWO_PIECES = marks((60, 90, 40, 52), (100, 110, 70, 80), (40, 43, 70, 73))
ONE_PIECE = marks((50, 80, 60, 84))


def case(
    patient: str, masks: dict[int, np.ndarray], *, kind: str = "iph", hu: int = BLOOD_HU
) -> Case:
    """A patient of nine slices with blood on some."""
    marked = np.stack([masks.get(k, marks()) for k in range(9)])
    stored = np.stack([np.rint((head(mask, hu) + 20) * 2) for mask in marked]).astype(np.uint8)
    return Case(
        patient_id=patient,
        scan_id=patient,
        kind=kind,
        stored=stored,
        masks=marked,
        slice_types=tuple((kind,) if mask.any() else () for mask in marked),
        slice_numbers=tuple(range(1, 10)),
        hu_slope=0.5,
        hu_intercept=-20.0,
    )


CASES = (
    case("a", {4: TWO_PIECES}),
    case("b", {2: ONE_PIECE, 3: ONE_PIECE}),
    case("clear", {}, kind="none"),
    # Stands for a held-out patient: its blood is brighter than anyone else's.
    case("stranger", {4: TWO_PIECES | ONE_PIECE}, kind="sdh", hu=STRANGER_HU),
)
TRAINED = ("a", "b", "clear")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    out = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "read_cases", lambda *_: iter(CASES))
        return prepare("folder", "unused", out)


def examples(prepared: Prepared, config: ExampleConfig, epochs: int = 1) -> list[Example]:
    made = TrainingSlices(prepared, TRAINED, config)
    return [made.example(i, epoch) for epoch in range(epochs) for i in range(len(made))]


def inside(box_xyxy: np.ndarray, target: np.ndarray) -> bool:
    """Whether every pixel of a target lies in a box of the model frame, to half a pixel."""
    y, x = np.nonzero(target)
    x0, y0, x1, y1 = box_xyxy
    return bool(x.min() >= x0 - 1 and x.max() <= x1 + 1 and y.min() >= y0 - 1 and y.max() <= y1 + 1)


# --- The cache --------------------------------------------------------------------------------------------------


def test_a_cache_gives_back_what_was_read(prepared: Prepared) -> None:
    again = Prepared(prepared.folder)
    assert list(again.scans) == [c.scan_id for c in CASES]
    for c in CASES:
        scan = again.scans[c.scan_id]
        assert (scan.shape_zyx, scan.kind) == ((9, ROWS, COLUMNS), c.kind)
        for k in range(9):
            np.testing.assert_array_equal(again.slice_hu(c.scan_id, k), c.slice_hu(k))
            np.testing.assert_array_equal(again.mask(c.scan_id, k), c.masks[k])
            assert scan.slices[k].types == c.slice_types[k]
            assert scan.slices[k].blood_px == c.masks[k].sum()
    assert again.patients == {"a": "iph", "b": "iph", "clear": "none", "stranger": "sdh"}


def test_the_index_says_what_the_data_are(prepared: Prepared) -> None:
    index = json.loads((prepared.folder / "index.json").read_text())
    assert index["dataset"] == "folder" and index["licence"]
    assert (
        len(index["sha256"]) == len(index["code_sha256"]) == len(index["scans"][0]["sha256"]) == 64
    )
    files = {path.name for path in prepared.folder.rglob("*") if path.is_file()}
    assert files == {"index.json", "image.npy", "mask.npy"}  # and no temporary file


def test_the_hash_changes_with_a_single_mask_pixel(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "read_cases", lambda *_: iter(CASES))
    assert prepare("folder", "unused", tmp_path / "same").sha256 == prepared.sha256
    other = TWO_PIECES.copy()
    other[60, 40] = False
    changed = (case("a", {4: other}), *CASES[1:])
    monkeypatch.setattr(dataset, "read_cases", lambda *_: iter(changed))
    assert prepare("folder", "unused", tmp_path / "changed").sha256 != prepared.sha256


def test_an_interrupted_prepare_leaves_no_index_and_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks_off(*_: object) -> Iterator[Case]:
        yield CASES[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "read_cases", breaks_off)
    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        prepare("folder", "unused", tmp_path, on_case=lambda c: seen.append(c.scan_id))
    assert seen == ["a"]
    assert not list(tmp_path.rglob(".*"))
    with pytest.raises(DataError, match=r"has no index\.json; run python -m train prepare"):
        Prepared(tmp_path)


def test_a_cache_holds_one_data_set_and_one_format(prepared: Prepared, tmp_path: Path) -> None:
    write_json(tmp_path / "index.json", {"dataset": "bhsd", "format": 0})
    with pytest.raises(DataError, match="has bhsd and folder was to be added"):
        prepare("folder", "unused", tmp_path)
    with pytest.raises(DataError, match=r"of format 1; .* has 0"):
        Prepared(tmp_path)
    with pytest.raises(DataError, match="nobody is not in folder"):
        prepared.scans_of(["nobody"])


# --- Splits -----------------------------------------------------------------------------------------------------

KINDS = {
    f"{kind}{i}": kind
    for kind, n in (("edh", 11), ("iph", 6), ("none", 20), ("sdh", 2))
    for i in range(n)
}


def test_folds_test_each_patient_once_and_spread_the_kinds() -> None:
    split = split_folds(KINDS, folds=5, seed=3)
    tested = [name for fold in split["folds"] for name in fold["test"]]
    assert sorted(tested) == sorted(KINDS)
    for kind, n in Counter(KINDS.values()).items():
        counts = [sum(KINDS[name] == kind for name in fold["test"]) for fold in split["folds"]]
        assert max(counts) - min(counts) <= 1 and sum(counts) == n
    for fold in split["folds"]:
        assert sorted(fold["train"] + fold["validation"] + fold["test"]) == sorted(KINDS)
        assert any(KINDS[name] != "none" for name in fold["validation"])
        assert len(fold["validation"]) == pytest.approx(0.1 * 31, abs=1)


def test_a_split_depends_on_its_seed_alone() -> None:
    reordered = dict(sorted(KINDS.items(), reverse=True))
    assert split_folds(KINDS, seed=1) == split_folds(reordered, seed=1)
    assert split_folds(KINDS, seed=1) != split_folds(KINDS, seed=2)
    assert json.loads(json.dumps(split_folds(KINDS))) == split_folds(KINDS)


def test_validation_can_be_left_empty_and_nine_to_one_is_the_papers() -> None:
    assert all(not fold["validation"] for fold in split_folds(KINDS, validation_share=0)["folds"])
    (part,) = split_nine_to_one(KINDS, test=("edh0", "none0"))["folds"]
    assert part["test"] == ["edh0", "none0"]
    assert (len(part["train"]), len(part["validation"])) == (33, 4)
    with pytest.raises(DataError, match="at most the patients, 39; got 40"):
        split_folds(KINDS, folds=40)
    with pytest.raises(DataError, match=r"from 0 to 0\.5; got 0\.9"):
        split_folds(KINDS, validation_share=0.9)


def fold(train: str, validation: str, test: str) -> dict[str, list[str]]:
    return {"train": train.split(), "validation": validation.split(), "test": test.split()}


def test_a_sound_split_passes(prepared: Prepared) -> None:
    check_leaks(split_folds(prepared.patients, folds=4), prepared)
    check_leaks(split_nine_to_one(prepared.patients, test=["b"]), prepared)


@pytest.mark.parametrize(
    ("folds", "reason"),
    [
        ([fold("a b clear", "", "a stranger")], "patient a stands in it more than once"),
        ([fold("a b", "b", "clear stranger")], "patient b stands in it more than once"),
        ([fold("a b", "", "stranger")], "patient clear is only in one"),
        ([fold("a b clear who", "", "stranger")], "patient who is only in one"),
        ([fold("a b", "", "clear stranger")] * 2, "each patient is tested once"),
    ],
)
def test_a_leaky_split_fails(
    prepared: Prepared, folds: list[dict[str, list[str]]], reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        check_leaks({"folds": folds}, prepared)


def test_one_patient_under_two_names_is_a_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = (*CASES, case("twin", {6: TWO_PIECES}))  # a's marked slice, elsewhere in the stack
    monkeypatch.setattr(dataset, "read_cases", lambda *_: iter(twins))
    held = prepare("folder", "unused", tmp_path)
    with pytest.raises(DataError, match="patients a and twin have an image in common"):
        check_leaks({"folds": [fold("a b clear", "", "twin stranger")]}, held)
    check_leaks({"folds": [fold("a b twin", "", "clear stranger")]}, held)


# --- The paper's pipeline ---------------------------------------------------------------------------------------


def test_the_default_example_is_the_papers(prepared: Prepared) -> None:
    made = TrainingSlices(prepared, TRAINED)
    assert len(made) == made.n_real == 3  # one a slice with blood
    example = made.example(0)
    frame = SliceFrame((ROWS, COLUMNS))
    without_speck = TWO_PIECES & ~marks((40, 43, 70, 73))
    np.testing.assert_array_equal(example.image, frame.image(CASES[0].slice_hu(4), PAPER))
    np.testing.assert_array_equal(example.target, frame.mask(without_speck))
    # Rows 60..109 and columns 40..79 at 1.6 model pixels each, 3 model pixels more on each side, last pixel included.
    expected = [40 * 1.6 - 3, 60 * 1.6 - 3, 80 * 1.6 + 3 - 1, 110 * 1.6 + 3 - 1]
    np.testing.assert_allclose(example.box_xyxy, expected, rtol=1e-6)
    assert (example.image.dtype, example.box_xyxy.dtype) == (np.float32, np.float32)
    assert not example.image[:, 205:].any()  # 128 columns fill 204.8 of 256; the rest is black
    assert (example.patient_id, example.scan_id, example.slice_index) == ("a", "a", 4)


def test_small_pieces_are_dropped_by_their_area_at_512(prepared: Prepared) -> None:
    least = 8.99 * (512 / ROWS) ** 2  # just under the speck's own area
    kept = TrainingSlices(prepared, ["a"], ExampleConfig(box_per="piece", min_piece_px=least))
    dropped = TrainingSlices(
        prepared, ["a"], ExampleConfig(box_per="piece", min_piece_px=least + 1)
    )
    assert (len(kept), len(dropped)) == (3, 2)


def test_a_margin_stops_at_the_edge_of_the_slice(prepared: Prepared) -> None:
    example = TrainingSlices(prepared, ["b"], ExampleConfig(box_margin_px=300)).example(0)
    np.testing.assert_allclose(example.box_xyxy, [0, 0, COLUMNS * 1.6 - 1, 255], rtol=1e-6)


def test_one_box_a_piece_prompts_that_piece(prepared: Prepared) -> None:
    made = TrainingSlices(prepared, TRAINED, ExampleConfig(box_per="piece"))
    assert len(made) == 4
    frame = SliceFrame((ROWS, COLUMNS))
    for i, piece in enumerate([marks((60, 90, 40, 52)), marks((100, 110, 70, 80))]):
        np.testing.assert_array_equal(made.example(i).target, frame.mask(piece))
    both = TrainingSlices(prepared, TRAINED, ExampleConfig(box_per="both"))
    assert len(both) == 5  # the slice with two pieces has three boxes, the others one each


def test_patients_without_usable_blood_are_an_error(prepared: Prepared) -> None:
    with pytest.raises(DataError, match="the 1 scans given have no piece of 100 px"):
        TrainingSlices(prepared, ["clear"])
    with pytest.raises(IndexError, match="0 to 2; got 3"):
        TrainingSlices(prepared, TRAINED).example(3)


# --- The same example again -------------------------------------------------------------------------------------

EVERYTHING = ExampleConfig(
    box_per="both",
    box_jitter_px=10,
    flip_left_right=True,
    flip_up_down=True,
    rotation_degrees=15,
    hu_shift=5,
    hu_scale=0.1,
    noise_hu=4,
    blur_px=1,
    median_px=3,
    skull_strip=True,
    crop_sides=(2, 4),
    crop_share=0.5,
    implant_share=1,
    negative_share=1,
)


def same(a: Example, b: Example) -> bool:
    arrays = zip((a.image, a.box_xyxy, a.target), (b.image, b.box_xyxy, b.target), strict=True)
    return all(np.array_equal(x, y) for x, y in arrays) and (a.scan_id, a.slice_index, a.key) == (
        b.scan_id,
        b.slice_index,
        b.key,
    )


def test_an_example_depends_on_index_epoch_and_seed_alone(prepared: Prepared) -> None:
    made = TrainingSlices(prepared, TRAINED, EVERYTHING, seed=5)
    first = {(i, epoch): made.example(i, epoch) for epoch in (0, 1) for i in range(len(made))}
    resumed = pickle.loads(
        pickle.dumps(TrainingSlices(Prepared(prepared.folder), TRAINED, EVERYTHING, seed=5))
    )
    for i, epoch in reversed(first):
        assert same(resumed.example(i, epoch), first[i, epoch])
    assert not any(same(first[i, 0], first[i, 1]) for i in range(len(made)))
    other = TrainingSlices(prepared, TRAINED, EVERYTHING, seed=6)
    assert not any(same(other.example(i, 0), first[i, 0]) for i in range(len(made)))


def test_an_epochs_order_is_a_permutation_of_its_own(prepared: Prepared) -> None:
    made = TrainingSlices(prepared, TRAINED, EVERYTHING)
    assert sorted(made.order(3)) == list(range(len(made)))
    assert made.order(3).tolist() == made.order(3).tolist() != made.order(4).tolist()


def test_every_example_is_fit_to_train_on(prepared: Prepared) -> None:
    made = TrainingSlices(prepared, TRAINED, EVERYTHING)
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


# --- Beyond the paper -------------------------------------------------------------------------------------------


def test_jitter_moves_the_box_and_nothing_else(prepared: Prepared) -> None:
    plain = examples(prepared, ExampleConfig(), 20)
    moved = examples(prepared, ExampleConfig(box_jitter_px=10), 20)
    by = np.array([b.box_xyxy - a.box_xyxy for a, b in zip(plain, moved, strict=True)])
    assert np.abs(by).max() <= 10 / 2 + 1e-4  # 10 px at 512 are 5 in the model's frame
    assert np.abs(by).max() > 4 and abs(by.mean()) < 1
    for a, b in zip(plain, moved, strict=True):
        assert np.array_equal(a.image, b.image) and np.array_equal(a.target, b.target)
        assert a.key == b.key


def test_mirroring_mirrors_image_box_and_target_together(prepared: Prepared) -> None:
    plain = {e.scan_id + str(e.slice_index): e for e in examples(prepared, ExampleConfig())}
    seen = set()
    for example in examples(prepared, ExampleConfig(flip_left_right=True), 8):
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


def test_up_down_mirroring_is_exact_along_the_longer_side(prepared: Prepared) -> None:
    plain = TrainingSlices(prepared, ["a"]).example(0)
    made = TrainingSlices(prepared, ["a"], ExampleConfig(flip_up_down=True))
    flipped = next(e for e in (made.example(0, k) for k in range(20)) if e.key == "a/4/ud")
    np.testing.assert_allclose(flipped.image, plain.image[::-1], atol=1e-5)
    np.testing.assert_array_equal(flipped.target, plain.target[::-1])


def test_rotation_turns_the_truth_with_the_image(prepared: Prepared) -> None:
    config = ExampleConfig(rotation_degrees=30, box_margin_px=0)
    boxes = set()
    for example in examples(prepared, config, 10):
        plain = TrainingSlices(prepared, [example.patient_id]).example(0)
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
    hu = head(TWO_PIECES).astype(np.float32)
    whole = dataset._rotate(hu, 12.5, Box(0, 0, COLUMNS, ROWS))
    part = dataset._rotate(hu, 12.5, Box(30, 50, 90, 120))
    np.testing.assert_allclose(part, whole[50:120, 30:90], atol=1e-3)
    labels = TWO_PIECES.astype(np.int32)
    turned = dataset._rotate_labels(labels, 12.5)
    matrix, offset = dataset._turn(labels.shape, 12.5)
    expected = ndimage.affine_transform(labels, matrix, offset, order=0)
    np.testing.assert_array_equal(turned, expected)


def test_intensity_changes_leave_bone_white_and_geometry_alone(prepared: Prepared) -> None:
    plain = TrainingSlices(prepared, ["a"]).example(0)
    bone = SliceFrame((ROWS, COLUMNS)).mask(ndimage.binary_erosion(HEAD & ~BRAIN, iterations=3))
    brain = SliceFrame((ROWS, COLUMNS)).mask(
        ndimage.binary_erosion(BRAIN & ~TWO_PIECES, iterations=3)
    )
    config = ExampleConfig(hu_shift=10, hu_scale=0.2, noise_hu=8)
    made = TrainingSlices(prepared, ["a"], config)
    levels = []
    for epoch in range(12):
        example = made.example(0, epoch)
        assert (example.image[bone] == 1).all()
        np.testing.assert_array_equal(example.target, plain.target)
        np.testing.assert_array_equal(example.box_xyxy, plain.box_xyxy)
        levels.append(example.image[plain.target & brain | plain.target].mean() * 70 + 30)
    assert max(levels) > BLOOD_HU + 5 and min(levels) < BLOOD_HU - 5
    assert max(levels) <= BLOOD_HU + 35 * 0.2 + 10 + 1


def test_denoising_and_blur_smooth(prepared: Prepared) -> None:
    brain = SliceFrame((ROWS, COLUMNS)).mask(
        ndimage.binary_erosion(BRAIN & ~TWO_PIECES, iterations=6)
    )
    plain = TrainingSlices(prepared, ["a"]).example(0)
    median = TrainingSlices(prepared, ["a"], ExampleConfig(median_px=3)).example(0)
    assert median.image[brain].std() < 0.7 * plain.image[brain].std()
    assert median.key == plain.key  # denoised always the same, so worth keeping
    blurred = TrainingSlices(prepared, ["a"], ExampleConfig(blur_px=4)).example(0, 1)
    assert blurred.key is None and blurred.image[brain].std() < plain.image[brain].std()


def test_skull_stripping_blackens_skull_and_air_only(prepared: Prepared) -> None:
    plain = TrainingSlices(prepared, ["a"]).example(0)
    example = TrainingSlices(prepared, ["a"], ExampleConfig(skull_strip=True)).example(0)
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


# --- Crops ------------------------------------------------------------------------------------------------------


def test_a_crop_holds_the_box_at_the_scale_asked_for(prepared: Prepared) -> None:
    config = ExampleConfig(box_per="piece", crop_sides=(2, 3), crop_least_px=1)
    sizes, places = [], []
    for example in examples(prepared, config, 30):
        x0, y0, x1, y1 = example.box_xyxy
        assert x0 >= 0 and y0 >= 0 and x1 <= 255 and y1 <= 255
        sizes.append(max(x1 - x0, y1 - y0) + 1)
        places.append((x0 + x1) / 2)
        assert inside(example.box_xyxy, example.target)
        core = ndimage.binary_erosion(example.target, iterations=4)
        assert example.image[core].mean() == pytest.approx((BLOOD_HU - 30) / 70, abs=0.03)
    assert min(sizes) > 256 / 3.1 and max(sizes) <= 256 / 2
    assert np.std(places) > 15  # not always in the middle


def test_a_crop_is_never_smaller_than_the_predictors(prepared: Prepared) -> None:
    predictor = pytest.importorskip("ichseg.methods.predictor")
    assert ExampleConfig().crop_least_px == predictor.LEAST_CROP_PX
    tiny = Box(60, 60, 64, 64)
    rng = np.random.default_rng(0)
    for _ in range(50):
        region = dataset._random_crop(tiny, (ROWS, COLUMNS), (2, 4), 64, rng)
        assert region.width == region.height == 64
        assert region.x0 <= 60 and region.x1 >= 64 and region.y0 <= 60 and region.y1 >= 64
        assert region.x0 >= 0 and region.x1 <= COLUMNS and region.y0 >= 0 and region.y1 <= ROWS


def test_a_crop_is_at_most_the_longer_side_and_may_overhang_the_shorter() -> None:
    wide = Box(5, 5, 120, 100)
    region = dataset._random_crop(wide, (ROWS, COLUMNS), (4, 4), 64, np.random.default_rng(0))
    assert region == Box(0, 0, ROWS, ROWS)


def test_crop_share_mixes_crops_and_whole_slices(prepared: Prepared) -> None:
    whole = TrainingSlices(prepared, ["b"]).example(0)
    made = TrainingSlices(prepared, ["b"], ExampleConfig(crop_sides=(2, 4), crop_share=0.5))
    same_as_whole = [np.array_equal(made.example(0, k).box_xyxy, whole.box_xyxy) for k in range(40)]
    assert 8 < sum(same_as_whole) < 32


def test_a_neighbour_counts_where_half_of_it_is_in_the_box() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[2:6, 2:6] = 1
    labels[2:6, 8:12] = 2  # four columns, 8 to 11
    labels[15:18, 15:18] = 3
    assert set(np.unique(labels[dataset._prompted(labels, (1,), Box(0, 0, 9, 20))])) == {1}
    assert set(np.unique(labels[dataset._prompted(labels, (1,), Box(0, 0, 10, 20))])) == {1, 2}
    # The piece that the box was drawn around stays, however badly the box was drawn.
    assert set(np.unique(labels[dataset._prompted(labels, (1,), Box(5, 5, 7, 7))])) == {1}


def test_a_piece_in_the_crop_but_out_of_the_box_is_not_in_the_target(prepared: Prepared) -> None:
    made = TrainingSlices(prepared, ["a"], ExampleConfig(box_per="piece", crop_sides=(4, 4)))
    intruded = 0
    for epoch in range(20):
        example = made.example(1, epoch)  # the 10 x 10 piece; the larger one is 10 rows up
        assert ndimage.label(example.target)[1] == 1
        bright = ndimage.binary_opening(
            (example.image > 0.4) & (example.image < 0.75), iterations=4
        )
        intruded += bool((bright & ~ndimage.binary_dilation(example.target, iterations=6)).any())
        assert inside(example.box_xyxy, example.target)
    assert intruded > 0


# --- Implants and negatives -------------------------------------------------------------------------------------


def made_up(prepared: Prepared, config: ExampleConfig, epochs: int) -> list[Example]:
    made = TrainingSlices(prepared, TRAINED, config)
    return [made.example(i, k) for k in range(epochs) for i in range(made.n_real, len(made))]


def test_implants_are_real_blood_on_slices_without_any(prepared: Prepared) -> None:
    implants = made_up(prepared, ExampleConfig(implant_share=2), 8)
    assert len(implants) == 48
    for example in implants:
        scan = prepared.scans[example.scan_id]
        assert scan.patient_id in TRAINED
        assert scan.slices[example.slice_index].is_bloodless
        assert example.target.sum() >= 10 * 1.6**2 * 0.9
        assert inside(example.box_xyxy, example.target)
        before = SliceFrame((ROWS, COLUMNS)).image(
            prepared.slice_hu(example.scan_id, example.slice_index)
        )
        near = ndimage.binary_dilation(example.target, iterations=8)
        np.testing.assert_allclose(example.image[~near], before[~near], atol=1e-5)
        core = ndimage.binary_erosion(example.target, iterations=3)
        if core.sum() > 20:
            assert example.image[core].mean() == pytest.approx((BLOOD_HU - 30) / 70, abs=0.05)
        bone = SliceFrame((ROWS, COLUMNS)).mask(HEAD & ~BRAIN)
        assert (example.target & ndimage.binary_erosion(bone, iterations=2)).sum() == 0
    assert len({example.image.tobytes() for example in implants}) == len(implants)


def test_nothing_of_another_patient_enters_training(prepared: Prepared) -> None:
    config = ExampleConfig(implant_share=3, negative_share=3, noise_hu=0)
    made = TrainingSlices(prepared, TRAINED, config)
    brightest = (STRANGER_HU - 5 - 30) / 70
    brain = SliceFrame((ROWS, COLUMNS)).mask(ndimage.binary_erosion(BRAIN, iterations=4))
    for epoch in range(3):
        for i in range(len(made)):
            example = made.example(i, epoch)
            assert example.patient_id in TRAINED
            assert example.image[brain].max() < brightest
    # The check can fail: the stranger's own slice is as bright.
    stranger = TrainingSlices(prepared, ["stranger"]).example(0)
    assert stranger.image[brain].max() > brightest


def test_blood_on_the_bone_lies_on_the_bone_of_the_other_head() -> None:
    rim = BRAIN & ~ellipse(58, 42) & marks((40, 110, 0, 40))
    donor, inside_donor = head(rim).astype(np.float32), intracranial(head(rim).astype(np.float32))
    smaller = np.where(ellipse(60, 50), 100.0, -20.0)
    smaller[ellipse(50, 40)] = BRAIN_HU
    other = smaller.astype(np.float32)
    gaps = []
    for seed in range(20):
        pasted = dataset._paste(
            donor, rim, inside_donor, other, intracranial(other), np.random.default_rng(seed)
        )
        if pasted is not None:
            gaps.append(ndimage.distance_transform_edt(ellipse(50, 40))[pasted[1]].min())
    assert len(gaps) >= 15 and max(gaps) <= 9  # two steps of the four pixels it is measured in


def test_negatives_ask_for_what_is_not_there(prepared: Prepared) -> None:
    negatives = made_up(prepared, ExampleConfig(negative_share=2), 8)
    frame = SliceFrame((ROWS, COLUMNS))
    brain = frame.mask(BRAIN)
    for example in negatives:
        assert not example.target.any()
        k = example.slice_index
        neighbours = prepared.scans[example.scan_id].slices[max(k - 1, 0) : k + 2]
        assert all(entry.is_bloodless for entry in neighbours)
        np.testing.assert_array_equal(
            example.image, frame.image(prepared.slice_hu(example.scan_id, k))
        )
        x0, y0, x1, y1 = np.rint(example.box_xyxy).astype(int)
        assert brain[y0 : y1 + 1, x0 : x1 + 1].mean() > 0.4
    assert len({tuple(example.box_xyxy) for example in negatives}) > 40


def test_implants_need_slices_without_blood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = case("full", {k: ONE_PIECE for k in range(9)})
    monkeypatch.setattr(dataset, "read_cases", lambda *_: iter([full]))
    held = prepare("folder", "unused", tmp_path)
    with pytest.raises(DataError, match="need slices without blood"):
        TrainingSlices(held, ["full"], ExampleConfig(negative_share=1))


def test_a_slice_with_a_type_but_no_mask_is_not_bloodless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = case("p", {})
    types = tuple(("sah",) if k == 5 else () for k in range(9))
    unmarked = Case(**{**vars(named), "slice_types": types})
    monkeypatch.setattr(dataset, "read_cases", lambda *_: iter([unmarked]))
    scan = prepare("folder", "unused", tmp_path).scans["p"]
    assert [k for _, k in dataset._bloodless_slices(scan)] == [0, 1, 2, 3, 7, 8]


# --- Configuration and evaluation slices ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"box_jitter_px": -1}, "box_jitter_px is a number from 0; got -1"),
        ({"noise_hu": float("nan")}, "noise_hu is a number from 0; got nan"),
        ({"median_px": 4}, "odd side; got median_px=4"),
        ({"crop_sides": (0.5, 2)}, r"from 1 box side up; got \(0\.5, 2\)"),
        ({"crop_sides": (3, 2)}, r"from 1 box side up; got \(3, 2\)"),
        ({"crop_share": 1.5}, r"crop_share is at most 1 and hu_scale below 1; got 1\.5"),
        ({"box_per": "pixel"}, "slice, piece or both; got 'pixel'"),
    ],
)
def test_a_wrong_setting_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ExampleConfig(**wrong)  # type: ignore[arg-type]


def test_evaluation_slices_keep_the_whole_truth(prepared: Prepared) -> None:
    slices = list(native_slices(prepared, ["a", "clear"], margin_px=0, least_piece_px=100))
    (only,) = slices
    np.testing.assert_array_equal(only.mask, TWO_PIECES)  # the speck too
    np.testing.assert_array_equal(only.slice_hu, CASES[0].slice_hu(4))
    assert only.slice_box == Box(40, 60, 80, 110)
    assert only.piece_boxes == (Box(40, 60, 52, 90), Box(70, 100, 80, 110))
    assert (only.types, only.pixel_spacing_mm, only.slice_height_mm) == (("iph",), None, None)
    (grown,) = native_slices(prepared, ["a"], margin_px=3.2)
    assert len(grown.piece_boxes) == 3  # a speck of 92 px at 512 has a box by default
    assert grown.piece_boxes[1] == Box(38, 58, 54, 92)
    assert grown.slice_box == box_from_mask(TWO_PIECES, 2)


def test_a_slice_with_specks_alone_has_a_box_around_the_largest(prepared: Prepared) -> None:
    (only,) = native_slices(prepared, ["a"], margin_px=0, least_piece_px=1e6)
    assert only.slice_box == Box(40, 60, 52, 90) and len(only.piece_boxes) == 1


def test_real_slices_become_examples(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "ct-ich-1.0.0"
    (tmp_path / "few" / "Patients_CT").mkdir(parents=True)
    for name in ("049", "080", "055"):
        (tmp_path / "few" / "Patients_CT" / name).symlink_to(source / "Patients_CT" / name)
    (tmp_path / "few" / "hemorrhage_diagnosis.csv").symlink_to(source / "hemorrhage_diagnosis.csv")
    held = prepare("ct-ich-1.0.0", tmp_path / "few", tmp_path / "cache")
    assert held.patients == {"049": "edh", "055": "none", "080": "ivh"}
    path = source / "Patients_CT" / "049" / "brain" / "17.jpg"
    with Image.open(path) as image:
        grey = np.asarray(image, dtype=np.float32)
    np.testing.assert_allclose(held.slice_hu("049", 16), grey * 120 / 255 - 20, atol=1e-4)
    made = TrainingSlices(held, held.patients, EVERYTHING)
    contrast = []
    for i in range(made.n_real):
        example = made.example(i)
        wide = ndimage.binary_dilation(example.target, iterations=6)
        around = wide & ~ndimage.binary_dilation(example.target, iterations=2) & (example.image < 1)
        contrast.append(example.image[example.target].mean() - example.image[around].mean())
    # Blood is brighter than what is around it, where image and mask belong together; not on every slice, for
    # the labels are coarse and 080 has faint blood.
    assert np.mean(contrast) > 0.1
    assert np.mean(np.array(contrast) > 0) > 0.8
    made_up = [made.example(i) for i in range(made.n_real, len(made))]
    assert sum(example.target.any() for example in made_up) >= 0.8 * made.n_real
