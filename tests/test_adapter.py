"""The shipped adapter on the sample: with a box a slice it finds more of the blood than the un-tuned model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ichseg.measure import dice
from ichseg.models import available, load_predictor
from ichseg.prompt import box_from_mask
from ichseg.sample import sample_paths
from ichseg.volume import CTVolume, read_mask, read_volume

#: The distance that the boxes of the fine-tune keep from the blood, 3 px at 256 x 256, on the sample's grid.
MARGIN_PX = 6


@pytest.fixture(scope="module")
def sample() -> tuple[CTVolume, npt.NDArray[np.bool_]]:
    scan, truth = sample_paths()
    volume = read_volume(scan)
    return volume, read_mask(truth, volume) > 0


def boxed(name: str, volume: CTVolume, truth_zyx: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A method's instant masks for one box around all blood of each slice."""
    predictor = load_predictor(name)
    found = np.zeros(volume.shape_zyx, dtype=bool)
    for k in np.flatnonzero(truth_zyx.any(axis=(1, 2))):
        box = box_from_mask(truth_zyx[k], MARGIN_PX)
        assert box is not None
        box = box.clip(volume.shape_zyx[1:])
        found[k] = predictor.predict(
            predictor.embed(volume.hu_zyx[k]), [box], second_look=False
        ).union
    return found


@pytest.mark.skipif(not available("litemedsam-rslora")[0], reason="no adapter in weights/")
def test_the_adapter_overlaps_the_truth_better_than_the_untuned_model(
    sample: tuple[CTVolume, npt.NDArray[np.bool_]],
) -> None:
    volume, truth_zyx = sample
    tuned, plain = (
        dice(boxed(name, volume, truth_zyx), truth_zyx)
        for name in ("litemedsam-rslora", "litemedsam")
    )
    assert tuned > plain + 0.01
    assert tuned > 0.9
