"""Proposals: probabilities whose components are known, and a finder whose weights are drawn for the test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ichseg.errors import InputError, WeightsError
from ichseg.marks.box import Box
from ichseg.methods.blood_finder import (
    ARCHITECTURE,
    BloodFinder,
    as_grid,
    inputs,
    mirrored_reflection,
    neighbours,
    reflection_of,
)
from ichseg.methods.detection import DETECTION, DETECTIONS, load_proposals, no_proposals
from ichseg.methods.network.detection_head import DetectionHead, across
from ichseg.methods.predictor import SliceEmbedding
from ichseg.methods.proposals import (
    TOP_PX,
    FindRule,
    Proposal,
    find,
    probability_in,
    top_mean,
)
from ichseg.scan.geometry import Geometry
from ichseg.scan.slabs import SliceOrSlab, hu_of, slabs_of
from ichseg.scan.volume import CTVolume

RULE = FindRule(0.3, 0.15, least_score=0.1, accept_score=0.7, least_px=4, margin_px=3)


def volume(depth: int = 6, side: int = 512, gap_mm: float = 5.0) -> CTVolume:
    geometry = Geometry.from_affine(np.diag([-0.5, -0.5, gap_mm, 1.0]), depth)
    return CTVolume(np.zeros((depth, side, side), np.int16), geometry, name="made up")


def blank(depth: int = 6) -> np.ndarray:
    return np.zeros((depth, 256, 256), np.float32)


# Proposals


def test_components_are_linked_over_slices_and_come_strongest_first() -> None:
    probability = blank()
    probability[1:4, 100:110, 50:60] = 0.6  # three slices of 100 pixels
    probability[3, 200:210, 200:220] = 0.9  # one of 200, apart
    strong, weak = find(probability, volume(), RULE)
    assert (strong.slices, weak.slices) == ((3,), (1, 2, 3))
    assert (strong.score, weak.score) == (pytest.approx(0.9), pytest.approx(0.6))
    assert (strong.peak, weak.mean) == (pytest.approx(0.9), pytest.approx(0.6))
    # A pixel of the frame is 1 mm x 1 mm here, 5 mm high.
    assert strong.volume_ml == pytest.approx(200 * 5 / 1000)
    assert weak.volume_ml == pytest.approx(300 * 5 / 1000)
    # Two native pixels to one of the frame, and three of the frame's as a margin.
    assert strong.boxes == {3: (Box(394, 394, 446, 426),)}
    assert weak.largest_slice == 1
    assert (strong.is_accepted, weak.is_accepted) == (True, False)
    assert weak.where[2].sum() == 100
    region = weak.region_zyx(volume().shape_zyx)
    assert region[2, 200:220, 100:120].all() and region.sum() == 3 * 20 * 20


def test_a_thin_series_is_gone_through_by_its_slabs() -> None:
    thin = volume(40, 128, 0.5)  # four slabs of ten slices
    probability = blank(40)
    probability[0:20, 100:110, 50:60] = 0.6
    probability[7, 200:220, 200:220] = 0.9  # between the middles of slabs: not looked at
    (one,) = find(probability, thin, RULE)
    assert one.slices == (5, 15) and sorted(one.where) == list(range(20))
    assert one.score == pytest.approx(0.6)
    # A pixel of the frame is a quarter of a square millimetre here, and 20 slices are 10 mm.
    assert one.volume_ml == pytest.approx(100 * 0.25**2 * 10 / 1000)
    # A speck of one slab is no larger for the ten slices that it is the mean of.
    speck = blank(40)
    speck[10:20, 100:104, 50:55] = 0.9
    (small,) = find(speck, thin, FindRule(extent=0.5, least_score=0.3))
    assert small.score == pytest.approx(0.9 * 20 / TOP_PX)


def test_a_component_of_two_arms_has_two_boxes_on_the_slice_where_they_are_apart() -> None:
    probability = blank()
    probability[2, 100:110, 50:100] = 0.8
    probability[3, 100:110, 50:60] = probability[3, 100:110, 90:100] = 0.8
    (one,) = find(probability, volume(), RULE)
    assert [len(one.boxes[k]) for k in (2, 3)] == [1, 2]


def test_what_stays_under_the_rule_is_not_proposed() -> None:
    probability = blank()
    probability[1, 10:30, 10:30] = 0.09  # faint, and under the least score
    probability[3, 100, 100:103] = 0.9  # too small for a box
    assert find(probability, volume(), RULE) == []
    assert find(blank(), volume()) == []


def test_a_faint_component_is_proposed_as_far_as_it_is_faint_and_a_clear_one_without_its_halo() -> (
    None
):
    probability = blank()
    probability[1, 10:30, 10:30] = 0.2
    probability[3, 90:120, 90:120] = 0.2
    probability[3, 100:110, 100:110] = 0.8
    clear, faint = find(probability, volume(), RULE)
    assert (clear.where[3].sum(), faint.where[1].sum()) == (100, 400)
    assert faint.score == pytest.approx(0.2)


def test_a_speck_scores_less_than_a_clot_as_likely() -> None:
    assert top_mean(np.full(10, 0.8)) == pytest.approx(0.8 * 10 / TOP_PX)
    assert top_mean(np.r_[np.full(TOP_PX, 0.8), np.zeros(900)]) == pytest.approx(0.8)


def test_boxes_end_at_the_slice() -> None:
    probability = blank()
    probability[0, 0:10, 246:256] = 0.9
    (one,) = find(probability, volume(), RULE)
    assert one.boxes[0] == (Box(486, 0, 512, 26),)


def test_probabilities_of_another_scan_are_refused_in_one_sentence() -> None:
    with pytest.raises(InputError, match=r"6 slices; got \(5, 256, 256\)"):
        find(blank(5), volume())


def test_a_rule_is_of_probabilities() -> None:
    with pytest.raises(InputError, match="faint is a probability"):
        FindRule(faint=1.5)


def test_the_probability_under_a_mask_is_a_mean_over_the_frame() -> None:
    probability = np.zeros((256, 256), np.float32)
    probability[:128] = 0.5
    mask = np.zeros((512, 512), bool)
    mask[240:272, 100:120] = True  # half of it in the upper half
    assert probability_in(probability, mask) == pytest.approx(0.25)
    assert np.isnan(probability_in(probability, np.zeros((512, 512), bool)))


# The finder


def head_slice(tilt: float = 0.0, shift: float = 0.0, side: int = 256) -> np.ndarray:
    """Brain of 35 HU in an upright ellipse, turned and moved, with 70 HU on one side."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    x = x - shift
    angle = np.radians(tilt)
    along, beside = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    hu = np.full((side, side), -1000.0)
    hu[(along / 100) ** 2 + (beside / 70) ** 2 < 1] = 35
    hu[(along / 10) ** 2 + ((beside - 40) / 10) ** 2 < 1] = 70
    return hu


@pytest.mark.parametrize(("tilt", "shift"), [(0, 0), (0, 12), (12, -9), (-15, 5)])
def test_the_reflection_leads_across_the_heads_own_midline(tilt: float, shift: float) -> None:
    images, reflection = inputs(head_slice(tilt, shift), None, None)
    image = torch.from_numpy(images[1])[None, None]
    once = across(image, torch.from_numpy(reflection)[None])
    blood_y, blood_x = np.nonzero(images[1] > 0.7)
    there_y, there_x = np.nonzero(once[0, 0].numpy() > 0.7)
    angle, middle = np.radians(tilt), 127.5
    assert (
        np.hypot(
            there_x.mean() - (middle + shift - 40 * np.cos(angle)),
            there_y.mean() - (middle + 40 * np.sin(angle)),
        )
        < 3
    )
    assert np.hypot(blood_x.mean() - there_x.mean(), blood_y.mean() - there_y.mean()) > 70
    twice = across(once, torch.from_numpy(reflection)[None])
    assert float((twice - image).abs().mean()) < 0.01


def test_an_empty_slice_is_reflected_about_its_middle() -> None:
    reflection = reflection_of(np.zeros((256, 256), np.float32))
    assert reflection == pytest.approx(np.array([[-1, 0, 0], [0, 1, 0]]))


def test_a_mirrored_frame_has_the_mirrored_reflection() -> None:
    hu = head_slice(10, 7)
    straight, mirrored = (
        torch.from_numpy(inputs(one, None, None)[1])[None] for one in (hu, hu[:, ::-1])
    )
    assert torch.allclose(mirrored_reflection(straight), mirrored, atol=0.02)


def finder(tmp_path: Path, architecture: str = ARCHITECTURE) -> BloodFinder:
    torch.manual_seed(0)
    tensors = {name: value.half() for name, value in DetectionHead(8).state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    config = {
        "architecture": architecture,
        "width": 8,
        "rule": {"extent": 0.2, "faint": 0.15, "least_score": 0.25},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    return load_proposals(str(tmp_path), "cpu")


def test_a_finder_gives_a_mirrored_slice_the_mirrored_answer(tmp_path: Path) -> None:
    mine = finder(tmp_path)
    assert (mine.rule.extent, mine.rule.least_px) == (0.2, FindRule().least_px)
    hu = head_slice(8, 5)
    features = np.random.default_rng(0).normal(size=(256, 64, 64)).astype(np.float16)
    found = mine.probability(features, hu, hu + 1, hu - 1)
    assert found.shape == (256, 256) and found.dtype == np.float32
    assert 0 <= found.min() < found.max() <= 1
    mirrored = mine.probability(
        features[:, :, ::-1], hu[:, ::-1], (hu + 1)[:, ::-1], (hu - 1)[:, ::-1]
    )
    assert mirrored[:, ::-1] == pytest.approx(found, abs=1e-3)


def test_a_finder_takes_the_pages_embeddings_and_a_whole_scan(tmp_path: Path) -> None:
    mine = finder(tmp_path)
    features = np.random.default_rng(0).normal(size=(256, 64, 64)).astype(np.float16)
    as_kept = features.reshape(256, -1).T[None]
    assert np.array_equal(as_grid(as_kept), features)
    scan = volume(3, side=128)
    shares: list[float] = []
    found = mine.probabilities(
        scan,
        lambda k: SliceEmbedding(scan.hu_zyx[k], as_kept),
        progress=shares.append,
        cancelled=lambda: len(shares) == 2,
    )
    assert shares == pytest.approx([1 / 3, 2 / 3])
    assert found[1] == pytest.approx(mine.probability(features, *[scan.hu_zyx[0]] * 3))
    assert not found[2].any()
    assert all(isinstance(one, Proposal) for one in mine.find(found, scan))


def test_a_finder_looks_at_the_slabs_of_a_thin_series(tmp_path: Path) -> None:
    mine = finder(tmp_path)
    features = np.random.default_rng(0).normal(size=(256, 64, 64)).astype(np.float16)
    thin = volume(40, 64, 0.5)
    thin.hu_zyx[:] = np.arange(40)[:, None, None]
    slabs = slabs_of(thin)
    assert slabs is not None
    asked: list[SliceOrSlab] = []

    def embed(where: SliceOrSlab) -> SliceEmbedding:
        asked.append(where)
        return SliceEmbedding(hu_of(thin, where), features)

    found = mine.probabilities(thin, embed)
    assert asked == list(slabs.each) and found.shape == (40, 256, 256)
    second = mine.of_slice(slabs.scan, 1, SliceEmbedding(slabs.scan.hu_zyx[1], features))
    for k in (10, 19):
        assert found[k] == pytest.approx(second)
        assert mine.of_slice(thin, k, embed(slabs.each[1])) == pytest.approx(second)


def test_the_table_says_whose_embedding_the_finder_that_ships_reads() -> None:
    if why := no_proposals():
        pytest.skip(why)
    assert load_proposals().embedded_by == DETECTIONS[DETECTION].embedded_by


def test_what_is_no_embedding_of_the_slice_is_refused(tmp_path: Path) -> None:
    mine = finder(tmp_path)
    features, hu = np.zeros((256, 64, 64), np.float16), head_slice()
    with pytest.raises(InputError, match="embed the slice with 'litemedsam'"):
        mine.probability(np.zeros((256, 32, 32)), hu)
    with pytest.raises(InputError, match="pass slices of one scan"):
        mine.probability(features, hu, hu[:-1])


def test_neighbours_are_as_near_to_5_mm_as_the_scan_has_them() -> None:
    assert [neighbours(volume(4, 8), k) for k in range(4)] == [(None, 1), (0, 2), (1, 3), (2, None)]
    assert neighbours(volume(30, 8, 1.0), 10) == (5, 15)
    assert neighbours(volume(30, 8, 1.0), 2) == (0, 7)
    assert neighbours(volume(3, 8, 10.0), 1) == (0, 2)


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="architecture detection-head"):
        finder(tmp_path, architecture="unet")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="has no model"):
        load_proposals(str(tmp_path))
