"""The shipped adapter on the sample, one box a slice: it finds the blood better than the un-tuned model does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from ichseg.files.nifti_mask import read_mask
from ichseg.marks.box import Box, box_from_mask, jitter
from ichseg.measures.agreement import dice
from ichseg.measures.volume import volume_ml
from ichseg.methods.catalogue import available, load_predictor
from ichseg.methods.edge_step import step_of
from ichseg.methods.predictor import Predictor
from ichseg.sample import sample_paths
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume

Mask = npt.NDArray[np.bool_]

Lie = Callable[[Box, tuple[int, int], np.random.Generator], Box]
#: How a box lies about the blood, in pixels of 0.45 mm: from as close as a person draws it to 9 mm away.
BOXES: dict[str, Lie] = {
    "tight": lambda box, shape, _: grown(box, 3, shape),
    "as in training": lambda box, shape, _: grown(box, 6, shape),
    "a person's": lambda box, shape, rng: jitter(grown(box, 8, shape), 8, rng, shape),
    "loose": lambda box, shape, _: grown(box, 20, shape),
}
#: What the edge is asked to make good, of the tuned model alone.
WIDE = "8 px wide"


def grown(box: Box, by_px: float, shape_yx: tuple[int, int]) -> Box:
    return Box(box.x0 - by_px, box.y0 - by_px, box.x1 + by_px, box.y1 + by_px).clip(shape_yx)


@pytest.fixture(scope="module")
def sample() -> tuple[CTVolume, Mask]:
    scan, reference = sample_paths()
    volume = read_volume(scan)
    return volume, read_mask(reference, volume) > 0


def edged(masks_zyx: Mask, volume: CTVolume) -> Mask:
    step = step_of(volume)
    return np.stack([step("litemedsam-rslora", k, mask) for k, mask in enumerate(masks_zyx)])


METHODS = ("litemedsam-rslora", "litemedsam")


def masks_of(
    name: str, slices: npt.NDArray[np.intp], sample: tuple[CTVolume, Mask], lies: dict[str, Lie]
) -> dict[str, Mask]:
    """By how the boxes lie: a method's masks [z, y, x] of some slices, as the page shows them after the refinement."""
    volume, reference_zyx = sample
    predictor: Predictor = load_predictor(name)
    embeddings = predictor.embed_many([volume.hu_zyx[k] for k in slices])
    out = {}
    for lie, place in lies.items():
        rng = np.random.default_rng(0)
        masks = np.zeros(volume.shape_zyx, dtype=bool)
        for k, embedding in zip(slices, embeddings, strict=True):
            around = box_from_mask(reference_zyx[k])
            assert around is not None
            box = place(around, volume.shape_zyx[1:], rng)
            masks[k] = predictor.predict(embedding, [box]).union
        out[lie] = masks
    return out


@pytest.fixture(scope="module")
def found(sample: tuple[CTVolume, Mask]) -> dict[tuple[str, str], Mask]:
    """By method and by how the boxes lie: its masks [z, y, x] of every slice with blood."""
    marked = np.flatnonzero(sample[1].any(axis=(1, 2)))
    wide: dict[str, Lie] = {WIDE: lambda box, shape, _: grown(box, 8, shape)}
    lies = {"litemedsam-rslora": BOXES | wide, "litemedsam": BOXES}
    return {
        (name, lie): masks
        for name in METHODS
        for lie, masks in masks_of(name, marked, sample, lies[name]).items()
    }


needs_adapter = pytest.mark.skipif(
    not available("litemedsam-rslora")[0], reason="no adapter in weights/"
)


@needs_adapter
def test_on_slices_across_the_sample_the_adapter_overlaps_its_blood_better(
    sample: tuple[CTVolume, Mask],
) -> None:
    """A check within seconds that the weights are the right ones; the slow tests below ask of every slice."""
    reference_zyx = sample[1]
    marked = np.flatnonzero(reference_zyx.any(axis=(1, 2)))
    some = marked[len(marked) // 4 :: len(marked) // 2]
    lie = {"tight": BOXES["tight"]}
    tuned, plain = (
        dice(masks_of(name, some, sample, lie)["tight"][some], reference_zyx[some])
        for name in METHODS
    )
    assert tuned > plain + 0.01
    assert tuned > 0.89


@pytest.mark.slow
@needs_adapter
@pytest.mark.parametrize("lie", BOXES)
def test_the_adapter_overlaps_the_reference_better_than_the_untuned_model(
    lie: str, sample: tuple[CTVolume, Mask], found: dict[tuple[str, str], Mask]
) -> None:
    tuned, plain = (
        dice(found[name, lie], sample[1]) for name in ("litemedsam-rslora", "litemedsam")
    )
    assert tuned > plain + 0.01
    assert tuned > 0.89


@pytest.mark.slow
@needs_adapter
def test_its_volume_is_closer_to_the_reference_and_depends_less_on_the_box(
    sample: tuple[CTVolume, Mask], found: dict[tuple[str, str], Mask]
) -> None:
    """About every kind of box; where they move as a person's do the two are alike."""
    volume, reference_zyx = sample
    true_ml = volume_ml(reference_zyx, volume)
    tuned, plain = (
        np.array([volume_ml(found[name, lie], volume) / true_ml - 1 for lie in BOXES])
        for name in ("litemedsam-rslora", "litemedsam")
    )
    assert (np.abs(tuned) < np.abs(plain) + 0.005).all()
    assert np.abs(tuned).mean() < np.abs(plain).mean() - 0.02
    assert np.ptp(tuned) < 0.8 * np.ptp(plain)
    assert np.abs(tuned).max() < 0.25


@pytest.mark.slow
@needs_adapter
def test_with_the_edge_the_volume_is_within_3_percent_from_tight_and_loose_boxes(
    sample: tuple[CTVolume, Mask], found: dict[tuple[str, str], Mask]
) -> None:
    """As the page and the command line have it by default: boxes 3 and 8 px wide of the blood."""
    volume, reference_zyx = sample
    true_ml = volume_ml(reference_zyx, volume)
    for masks in (found["litemedsam-rslora", "tight"], found["litemedsam-rslora", WIDE]):
        raw, with_edge = dice(masks, reference_zyx), dice(edged(masks, volume), reference_zyx)
        assert volume_ml(edged(masks, volume), volume) == pytest.approx(true_ml, rel=0.03)
        assert with_edge > raw + 0.015
