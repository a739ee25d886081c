"""The cache, the splits and the slices that are scored, on heads drawn for the purpose."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from ichseg.marks.box import Box, box_from_mask
from tests.train.heads import (
    CASES,
    COLUMNS,
    EVERYTHING,
    ROWS,
    TWO_COMPONENTS,
    case,
)
from train.data import cache
from train.data.cache import Prepared, prepare
from train.data.cases import Case, DataError
from train.data.example_config import ExampleConfig
from train.data.examples import TrainingSlices
from train.data.files import write_json
from train.data.slices import native_slices
from train.data.split import check_leaks, split_folds, split_nine_to_one

# The cache


def test_a_cache_gives_back_what_was_read(heads: Prepared) -> None:
    again = Prepared(heads.folder)
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


def test_the_index_says_what_the_data_are(heads: Prepared) -> None:
    index = json.loads((heads.folder / "index.json").read_text())
    assert index["dataset"] == "folder" and index["licence"]
    assert (
        len(index["sha256"]) == len(index["code_sha256"]) == len(index["scans"][0]["sha256"]) == 64
    )
    files = {path.name for path in heads.folder.rglob("*") if path.is_file()}
    assert files == {"index.json", "image.npy", "mask.npy"}  # and no temporary file


def test_the_hash_changes_with_a_single_mask_pixel(
    heads: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "read_cases", lambda *_: iter(CASES))
    assert prepare("folder", "unused", tmp_path / "same").sha256 == heads.sha256
    other = TWO_COMPONENTS.copy()
    other[60, 40] = False
    changed = (case("a", {4: other}), *CASES[1:])
    monkeypatch.setattr(cache, "read_cases", lambda *_: iter(changed))
    assert prepare("folder", "unused", tmp_path / "changed").sha256 != heads.sha256


def test_an_interrupted_prepare_leaves_no_index_and_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks_off(*_: object) -> Iterator[Case]:
        yield CASES[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "read_cases", breaks_off)
    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        prepare("folder", "unused", tmp_path, on_case=lambda c: seen.append(c.scan_id))
    assert seen == ["a"]
    assert not list(tmp_path.rglob(".*"))
    with pytest.raises(DataError, match=r"has no index\.json; run python -m train prepare"):
        Prepared(tmp_path)


def test_a_cache_holds_one_data_set_and_one_format(heads: Prepared, tmp_path: Path) -> None:
    write_json(tmp_path / "index.json", {"dataset": "bhsd", "format": 0})
    with pytest.raises(DataError, match="has bhsd and folder was to be added"):
        prepare("folder", "unused", tmp_path)
    with pytest.raises(DataError, match=r"of format 1; .* has 0"):
        Prepared(tmp_path)
    with pytest.raises(DataError, match="nobody is not in folder"):
        heads.scans_of(["nobody"])


# Splits

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


def test_who_validates_can_train_and_the_tests_stay_the_same() -> None:
    usual = split_folds(KINDS, seed=3)["folds"]
    without = split_folds(KINDS, seed=3, validation_share=0)["folds"]
    for fold, other in zip(usual, without, strict=True):
        assert other["test"] == fold["test"] and other["validation"] == []
        assert other["train"] == sorted(fold["train"] + fold["validation"])


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


def test_a_sound_split_passes(heads: Prepared) -> None:
    check_leaks(split_folds(heads.patients, folds=4), heads)
    check_leaks(split_nine_to_one(heads.patients, test=["b"]), heads)


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
    heads: Prepared, folds: list[dict[str, list[str]]], reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        check_leaks({"folds": folds}, heads)


def test_one_patient_under_two_names_is_a_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = (*CASES, case("twin", {6: TWO_COMPONENTS}))  # a's marked slice, elsewhere in the stack
    monkeypatch.setattr(cache, "read_cases", lambda *_: iter(twins))
    held = prepare("folder", "unused", tmp_path)
    with pytest.raises(DataError, match="patients a and twin have an image in common"):
        check_leaks({"folds": [fold("a b clear", "", "twin stranger")]}, held)
    check_leaks({"folds": [fold("a b twin", "", "clear stranger")]}, held)


# Configuration and evaluation slices


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"box_jitter_px": -1}, "box_jitter_px is a number from 0; got -1"),
        ({"noise_hu": float("nan")}, "noise_hu is a number from 0; got nan"),
        ({"median_px": 4}, "odd side; got median_px=4"),
        ({"crop_sides": (0.5, 2)}, r"from 1 box side up; got \(0\.5, 2\)"),
        ({"crop_sides": (3, 2)}, r"from 1 box side up; got \(3, 2\)"),
        ({"crop_share": 1.5}, r"crop_share is at most 1 and hu_scale below 1; got 1\.5"),
        ({"box_per": "pixel"}, "slice, component or both; got 'pixel'"),
    ],
)
def test_a_wrong_setting_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ExampleConfig(**wrong)  # type: ignore[arg-type]


def test_evaluation_slices_keep_the_whole_reference(heads: Prepared) -> None:
    slices = list(native_slices(heads, ["a", "clear"], margin_px=0, least_component_px=100))
    (only,) = slices
    np.testing.assert_array_equal(only.mask, TWO_COMPONENTS)  # the speck too
    np.testing.assert_array_equal(only.slice_hu, CASES[0].slice_hu(4))
    assert only.slice_box == Box(40, 60, 80, 110)
    assert only.component_boxes == (Box(40, 60, 52, 90), Box(70, 100, 80, 110))
    assert (only.types, only.pixel_spacing_mm, only.slice_height_mm) == (("iph",), None, None)
    (grown,) = native_slices(heads, ["a"], margin_px=3.2)
    assert len(grown.component_boxes) == 3  # a speck of 92 px at 512 has a box by default
    assert grown.component_boxes[1] == Box(38, 58, 54, 92)
    assert grown.slice_box == box_from_mask(TWO_COMPONENTS, 2)


def test_a_slice_with_specks_alone_has_a_box_around_the_largest(heads: Prepared) -> None:
    (only,) = native_slices(heads, ["a"], margin_px=0, least_component_px=1e6)
    assert only.slice_box == Box(40, 60, 52, 90) and len(only.component_boxes) == 1


@pytest.mark.slow
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
