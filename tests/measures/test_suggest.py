"""Suggestions: where blood is, with the millilitres of the masks that accepting them gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

import ichseg
from ichseg.errors import VolumeError, WeightsError
from ichseg.files.nifti_mask import read_mask
from ichseg.measures.suggest import MOST, propose, suggest
from ichseg.measures.volume import volume_ml
from ichseg.methods import detection
from ichseg.sample import sample_paths
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume
from tests import phantoms
from tests.light_finder import SURE, LightFinder, use


def head() -> CTVolume:
    """Brain with two cuboids of blood: 30 x 20 pixels on two slices, 12 x 12 on another; 0.5 mm and 5 mm."""
    scan = phantoms.scan((0, 5, 10, 15, 20, 25), (128, 128))
    scan.hu_zyx[1:3, 40:60, 30:60] = 65
    scan.hu_zyx[4, 80:92, 80:92] = 65
    return scan


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch) -> LightFinder:
    return use(LightFinder(skull=False), monkeypatch)


def test_suggestions_come_strongest_first_with_the_millilitres_of_their_masks(
    finder: LightFinder,
) -> None:
    scan = head()
    shares: list[float] = []
    large, small = suggest(scan, model="threshold", embed=lambda k: k, progress=shares.append)
    assert ichseg.suggest is suggest
    assert large.score == pytest.approx(SURE) and small.score <= large.score
    # The corners are rounded by the method's median filter: four times 3 pixels, 1.25 uL each.
    assert large.volume_ml == pytest.approx(2 * 30 * 20 * 1.25e-3, rel=0.03)
    assert small.volume_ml == pytest.approx(12 * 12 * 1.25e-3, rel=0.1)
    assert (large.boxes.keys(), large.largest_slice) == ({1, 2}, 1)
    assert large.probability == pytest.approx(SURE, abs=0.05)
    mask_zyx = np.zeros(scan.shape_zyx, bool)
    for k, mask_yx in large.masks.items():
        mask_zyx[k] = mask_yx
    assert volume_ml(mask_zyx, scan) == pytest.approx(large.volume_ml)
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)


def test_a_clean_scan_has_none_and_a_cancelled_search_ends(finder: LightFinder) -> None:
    clean = phantoms.scan((0, 5, 10), (64, 64))
    assert suggest(clean, model="threshold", embed=lambda k: k) == []
    suggest(head(), model="threshold", embed=lambda k: k, cancelled=lambda: len(finder.looked) > 4)
    assert finder.looked == [0, 1, 2, 0, 1]


def test_no_more_are_offered_than_a_person_steps_through(finder: LightFinder) -> None:
    scan = phantoms.scan((0, 5), (256, 256))
    for y in range(8, 250, 36):
        for x in range(8, 250, 36):
            scan.hu_zyx[0, y : y + 12, x : x + 12] = 65
    found, probability_zyx = propose(scan, embed=lambda k: k)
    assert len(found) == MOST < len(finder.find(probability_zyx, scan))


def test_what_is_no_scan_is_refused_in_a_sentence() -> None:
    with pytest.raises(VolumeError, match="got str; read it first"):
        suggest("head_ct.nii.gz")  # type: ignore[arg-type]


def test_without_weights_it_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ichseg.methods.weights.manifest", dict)
    monkeypatch.setattr(detection, "_LOADED", {})
    assert "detection of blood are not published yet" in detection.no_proposals()
    with pytest.raises(WeightsError, match="no entry 'litemedsam-detection'"):
        suggest(head(), model="threshold")


def without_blood() -> CTVolume:
    """The sample's head, its blood painted over with the brain around it."""
    bleeding = read_volume(sample_paths()[0])
    blood = read_mask(sample_paths()[1], bleeding) != 0
    wide = ndimage.binary_dilation(blood, np.ones((1, 3, 3)), iterations=4)
    hu_zyx, rng = bleeding.hu_zyx.copy(), np.random.default_rng(0)
    for k in np.flatnonzero(wide.any(axis=(1, 2))):
        ring = ndimage.binary_dilation(wide[k], iterations=8) & ~wide[k]
        brain = hu_zyx[k][ring & (hu_zyx[k] > 20) & (hu_zyx[k] < 50)]
        painted = wide[k] & (hu_zyx[k] < 110)  # the calcified plexus stays
        hu_zyx[k][painted] = rng.choice(brain, int(painted.sum()))
    return replace(bleeding, hu_zyx=hu_zyx)


@pytest.mark.slow
@pytest.mark.skipif(bool(detection.no_proposals()), reason="the finder's weights are not here")
def test_the_finder_finds_the_samples_blood_and_none_in_a_clean_head() -> None:
    found, _ = propose(read_volume(sample_paths()[0]))
    assert found[0].is_accepted and found[0].volume_ml > 20
    clean, _ = propose(without_blood())
    assert max([one.volume_ml for one in clean], default=0.0) <= 0.5
