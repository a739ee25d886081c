"""A random forest on hand-made features of each pixel, after PItcHPERFeCT (Muschelli 2017, NeuroImage Clin. 14:379).

Trained with scikit-learn (train/baselines.py), kept as plain arrays in safetensors, and run here by numpy alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file
from scipy import ndimage

from ichseg.errors import WeightsError
from ichseg.methods.frame import MODEL_SIZE, SliceFrame, Window
from ichseg.methods.whole_slice import WholeSlicePredictor
from ichseg.scan.limits import HIGHEST_BLOOD_HU
from ichseg.scan.skull import intracranial

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: -20 to 100 HU: all that the 8-bit training data hold. Other scans are cut to it, so that they look alike.
SEEN = Window(width=120, level=40)
#: A pixel darker than this is not asked about, as in the paper's first pass over the voxels.
CANDIDATE_HU = 30.0
#: The HU that count as "bright" in a neighbourhood, as in the paper.
BRIGHT_HU = (40.0, 80.0)
#: Moments are of 5 x 5 pixels: 25 values, as in the paper's 3 x 3 x 3.
NEIGHBOURHOOD_PX = 5
#: The widths of the smoothed images, in pixels of the frame (the paper has 5, 10 and 20 mm; one is about 0.9 mm).
SMOOTH_PX = (5.0, 11.0, 22.0)

FEATURES = (
    "value",
    "mean",
    "spread",
    "skewness",
    "kurtosis",
    "bright_share",
    "z_score",
    "winsorised_z_score",
    "distance_to_skull",
    "distance_to_centre",
    *(f"smooth_{width:g}" for width in SMOOTH_PX),
    "flipped_difference",
    "outside_share",
)


def inside_head(hu: Floats) -> Mask:
    """Where blood can be on a slice [y, x] in HU: inside the skull, or all soft tissue where no skull is closed."""
    inside = intracranial(hu)
    if inside.any():
        return inside
    tissue: Mask = ndimage.binary_fill_holes(hu > SEEN.low + 1) & (hu < HIGHEST_BLOOD_HU)
    return tissue


def pixel_features(hu: Floats, inside: Mask) -> tuple[Mask, Floats]:
    """The pixels worth asking about, and what is known of each: (bool [y, x], float32 [n, features] in its order).

    Args:
        hu: a slice in the 256 x 256 frame, in HU from -20 to 100.
        inside: ``inside_head`` of it.

    Of the paper's predictors two are left out: the z-score to a template and the tissue probability, which need
    a registration of the head to an atlas. Its flipped difference is taken about the head's own middle.

    """
    weight = inside.astype(np.float32)
    mean, spread, skewness, kurtosis = local_moments(hu, weight)
    bright = ((hu >= BRIGHT_HU[0]) & (hu <= BRIGHT_HU[1])).astype(np.float32)
    values = hu[inside] if inside.any() else np.zeros(1, np.float32)
    y, x = np.nonzero(inside) if inside.any() else (np.zeros(1), np.zeros(1))
    middle_y, middle_x = float(y.mean()), float(x.mean())
    # Lengths in units of the head's own radius: the pixel size of the training data is not on record.
    radius = max(float(np.sqrt(inside.sum() / np.pi)), 1.0)
    rows, columns = np.ogrid[: hu.shape[0], : hu.shape[1]]
    candidates = inside & (mean >= CANDIDATE_HU)
    images = (
        hu,
        mean,
        spread,
        skewness,
        kurtosis,
        _mean(bright, weight, NEIGHBOURHOOD_PX),
        _standardised(hu, values),
        _standardised(hu, np.clip(values, *np.quantile(values, [0.2, 0.8]))),
        ndimage.distance_transform_edt(inside) / radius,
        np.hypot(rows - middle_y, columns - middle_x) / radius,
        *(_smooth(hu, weight, width) for width in SMOOTH_PX),
        _flipped_difference(hu, weight, middle_x),
        1 - ndimage.uniform_filter(weight, NEIGHBOURHOOD_PX, mode="constant"),
    )
    return candidates, np.stack([image[candidates] for image in images], axis=1).astype(np.float32)


def local_moments(hu: Floats, weight: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean, standard deviation, skewness and kurtosis of the neighbourhood of each pixel, all [y, x].

    Of the neighbours with ``weight`` 1 alone. A flat neighbourhood has no shape: where its standard deviation is
    below one HU, one HU stands in for it in the two ratios, which then fade to 0.
    """
    x = hu.astype(np.float64) - CANDIDATE_HU  # nearer to 0, so that the powers cancel without loss
    first, second, third, fourth = (
        _mean(x**power, weight, NEIGHBOURHOOD_PX) for power in range(1, 5)
    )
    variance = np.maximum(second - first**2, 0)
    cubed = third - 3 * first * second + 2 * first**3
    to_fourth = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    scale = np.maximum(np.sqrt(variance), 1.0)
    moments = (first + CANDIDATE_HU, np.sqrt(variance), cubed / scale**3, to_fourth / scale**4)
    mean, spread, skewness, kurtosis = (moment.astype(np.float32) for moment in moments)
    return mean, spread, skewness, kurtosis


def _mean(image: npt.NDArray[np.floating], weight: Floats, size_px: int) -> Doubles:
    """The mean over a square neighbourhood, of the pixels inside the head alone; 0 outside of it."""
    weight = weight.astype(np.float64)
    total = ndimage.uniform_filter(image * weight, size_px, mode="constant")
    share = ndimage.uniform_filter(weight, size_px, mode="constant")
    mean: Doubles = np.where(weight > 0, total / np.maximum(share, 1e-6), 0)
    return mean


def _smooth(image: Floats, weight: Floats, sigma_px: float) -> Floats:
    """Blurred with a Gaussian, of the pixels inside the head alone."""
    total = ndimage.gaussian_filter(image * weight, sigma_px, mode="constant", truncate=3)
    share = ndimage.gaussian_filter(weight, sigma_px, mode="constant", truncate=3)
    return np.where(weight > 0, total / np.maximum(share, 1e-6), 0).astype(np.float32)


def _standardised(hu: Floats, values: Floats) -> Floats:
    """HU as a z-score among some values, whose spread counts as at least one HU."""
    return ((hu - values.mean()) / max(float(values.std()), 1.0)).astype(np.float32)


def _flipped_difference(hu: Floats, weight: Floats, middle_x: float) -> Floats:
    """Brighter than the other half at the same place by so many HU; 0 where the other half has nothing there.

    The head is mirrored left to right about the column of its centre, both sides slightly smoothed, as heads are
    neither straight nor symmetric to the pixel.
    """
    smooth = _smooth(hu, weight, 2.0)
    shift = 2 * middle_x - (
        hu.shape[1] - 1
    )  # flipping mirrors about the image's middle; the rest is a shift
    mirrored = ndimage.shift(smooth[:, ::-1], (0, shift), order=1)
    there = ndimage.shift(weight[:, ::-1], (0, shift), order=1)
    return np.where(there > 0.99, smooth - mirrored, 0).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Forest:
    """Decision trees as arrays over all their nodes, tree after tree.

    ``feature`` int16 is -1 in a leaf; a pixel goes to ``left`` where its feature is at most ``threshold`` and else to
    ``right`` (int32, indices of nodes); ``value`` float32 is a leaf's chance of blood. ``roots`` int32 [trees].
    """

    feature: npt.NDArray[np.int16]
    threshold: Floats
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    value: Floats
    roots: npt.NDArray[np.int32]

    def predict(self, features: Floats) -> Floats:
        """The chance of blood of each row of [n, features]: the mean over the trees, float32 [n]."""
        total = np.zeros(len(features), dtype=np.float64)
        for root in self.roots:
            node = np.full(len(features), root, dtype=np.int32)
            going = np.arange(len(features))
            while going.size:
                at = node[going]
                asked = self.feature[at]
                inner = asked >= 0
                going, at, asked = going[inner], at[inner], asked[inner]
                low = features[going, asked] <= self.threshold[at]
                node[going] = np.where(low, self.left[at], self.right[at])
            total += self.value[node]
        return (total / max(len(self.roots), 1)).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write the arrays as safetensors."""
        save_file({name: np.ascontiguousarray(array) for name, array in vars(self).items()}, path)

    @classmethod
    def load(cls, path: Path) -> Forest:
        """Read what ``save`` wrote."""
        return cls(**load_file(path))


class RandomForestPredictor(WholeSlicePredictor):
    """A forest's chance of blood, averaged over 3 x 3 pixels and cut, in the 256 x 256 frame."""

    architecture: ClassVar[str] = "random-forest"
    """As config.json names it."""

    def __init__(
        self,
        forest: Forest,
        cutoff: float,
        name: str,
        title: str,
        weights_sha256: Mapping[str, str],
    ) -> None:
        self.name = name
        self.title = title
        self.weights_sha256 = dict(weights_sha256)
        self.cutoff = cutoff
        self._forest = forest

    @classmethod
    def from_folder(
        cls, folder: Path, name: str, title: str, weights_sha256: Mapping[str, str]
    ) -> RandomForestPredictor:
        """Open what ``train baseline`` wrote: config.json has the cutoff, model.safetensors the trees."""
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if tuple(config["features"]) != FEATURES:
            raise WeightsError(
                f"A forest is asked with the features it was grown on; {folder.name} has "
                f"{', '.join(config['features'])}, not those of this version; train it again."
            )
        forest = Forest.load(folder / "model.safetensors")
        return cls(forest, config["cutoff"], name, title, weights_sha256)

    def find(self, slice_hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
        rows, columns = slice_hu.shape
        frame = SliceFrame((rows, columns))
        chance = self.chance(frame_hu(frame, slice_hu))
        found: Mask = frame.logits(chance - np.float32(self.cutoff)) > 0
        return found

    def chance(self, hu: Floats) -> Floats:
        """The smoothed chance of blood of each pixel of the frame, float32 [256, 256]."""
        candidates, features = pixel_features(hu, inside_head(hu))
        chance = np.zeros((MODEL_SIZE, MODEL_SIZE), dtype=np.float32)
        chance[candidates] = self._forest.predict(features)
        return smooth_chance(chance)


def smooth_chance(chance: Floats) -> Floats:
    """Averaged over 3 x 3 pixels, as in the paper's "smoothed" predictions."""
    smoothed: Floats = ndimage.uniform_filter(chance, 3, mode="constant")
    return smoothed


def frame_hu(frame: SliceFrame, slice_hu: npt.NDArray[np.number]) -> Floats:
    """A slice in the 256 x 256 frame, in HU from -20 to 100; around it, air."""
    hu: Floats = frame.image(slice_hu, SEEN) * np.float32(SEEN.width) + np.float32(SEEN.low)
    return hu
