"""Suggestions: where blood is, with the millilitres of the masks that accepting them gives."""

from __future__ import annotations

import numpy as np
import pytest

import ichseg
from ichseg.errors import WeightsError
from ichseg.measures.suggest import MOST, propose, suggest
from ichseg.measures.volume import volume_ml
from ichseg.methods import detection
from ichseg.methods.weights import manifest
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


@pytest.mark.skipif(detection.DETECTION in manifest(), reason="the finder's weights are here")
def test_without_weights_it_is_said_in_a_sentence() -> None:
    assert "detection of blood are not published yet" in detection.no_proposals()
    with pytest.raises(WeightsError, match="no entry 'litemedsam-detection'"):
        suggest(head(), model="threshold")
