"""The random forest: grown by scikit-learn, kept as arrays that numpy alone runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from ichseg.marks.box import box_from_mask
from ichseg.methods.frame import SliceFrame
from ichseg.methods.random_forest import (
    Forest,
    RandomForestPredictor,
    frame_hu,
    inside_head,
    pixel_features,
)
from train.data.cache import Prepared
from train.recipes import FOREST, ForestConfig


@dataclass(frozen=True, eq=False)
class Pixels:
    """Pixels to learn from: features [n, f], blood or not [n], and each one's patient [n]."""

    features: npt.NDArray[np.float32]
    blood: npt.NDArray[np.bool_]
    patient: npt.NDArray[np.str_]


#: The cutoffs that are tried.
CUTOFFS = np.round(np.arange(0.05, 1.0, 0.05), 2)


def grow(
    config: ForestConfig, features: npt.NDArray[np.float32], blood: npt.NDArray[np.bool_]
) -> Forest:
    """A forest of scikit-learn's on rows of features [n, f] with their labels [n], as arrays."""
    from sklearn.ensemble import RandomForestClassifier

    fitted = RandomForestClassifier(
        config.trees,
        max_leaf_nodes=config.leaves,
        max_features="sqrt",
        random_state=config.seed,
        n_jobs=1,
    ).fit(features, blood)
    return forest_of(fitted)


def forest_of(fitted: Any) -> Forest:
    """The trees of a fitted RandomForestClassifier of two classes, False and True."""
    trees = [estimator.tree_ for estimator in fitted.estimators_]
    roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])], dtype=np.int32)
    thresholds = np.concatenate([tree.threshold for tree in trees])
    # Rounded down, so that a float32 is at most this one where it was at most the float64.
    low = thresholds.astype(np.float32)
    low = np.where(low > thresholds, np.nextafter(low, np.float32(-np.inf)), low)
    pairs = list(zip(trees, roots, strict=True))
    return Forest(
        feature=np.maximum(np.concatenate([tree.feature for tree in trees]), -1).astype(np.int16),
        threshold=low,
        left=np.concatenate([tree.children_left + root for tree, root in pairs]).astype(np.int32),
        right=np.concatenate([tree.children_right + root for tree, root in pairs]).astype(np.int32),
        value=np.concatenate([tree.value[:, 0, 1] for tree in trees]).astype(np.float32),
        roots=roots,
    )


def sample(
    config: ForestConfig, prepared: Prepared, patients: Sequence[str], progress: Progress
) -> Pixels:
    """Pixels of the training patients' slices, in the 256 x 256 frame."""
    chosen = []
    for scan in prepared.scans_of(patients):
        bloodless = [k for k, entry in enumerate(scan.slices) if entry.is_bloodless]
        chosen += [(scan, k) for k, entry in enumerate(scan.slices) if entry.mask_row is not None]
        chosen += [(scan, k) for k in bloodless[:: config.bloodless_every]]
    task = progress.add_task("pixels", total=len(chosen))
    features, blood, patient = [], [], []
    for number, (scan, k) in enumerate(chosen):
        frame = SliceFrame((scan.shape_zyx[1], scan.shape_zyx[2]))
        hu = frame_hu(frame, prepared.slice_hu(scan.scan_id, k))
        candidates, known = pixel_features(hu, inside_head(hu))
        reference = frame.mask(prepared.mask(scan.scan_id, k))[candidates]
        rng = np.random.default_rng([config.seed, number])
        most = config.pixels if scan.slices[k].mask_row is not None else config.pixels // 3
        rows = np.concatenate(
            [rng.permutation(np.flatnonzero(reference == label))[:most] for label in (False, True)]
        )
        features.append(known[rows])
        blood.append(reference[rows])
        patient += [scan.patient_id] * len(rows)
        progress.advance(task)
    return Pixels(np.concatenate(features), np.concatenate(blood), np.array(patient))


def inner_dice(
    config: ForestConfig,
    prepared: Prepared,
    patients: Sequence[str],
    pixels: Pixels,
    progress: Progress,
) -> npt.NDArray[np.float64]:
    """The mean Dice at each of CUTOFFS on the training patients' slices, each by trees that know none of that patient.

    In the 256 x 256 frame, cut to a box around the reference mask, as the method is used.
    """
    with_blood = [name for name in patients if prepared.patients[name] != "none"]
    total = sum(1 for _ in _references(prepared, with_blood))
    task = progress.add_task("cutoff", total=total)
    rows = []
    for held_out in (
        with_blood[start :: config.inner_folds] for start in range(config.inner_folds)
    ):
        rest = ~np.isin(pixels.patient, held_out)
        if not held_out or not pixels.blood[rest].any():
            continue
        forest = grow(config, pixels.features[rest], pixels.blood[rest])
        predictor = RandomForestPredictor(forest, 0.5, FOREST, FOREST, {})
        for hu, reference in _references(prepared, held_out):
            box = box_from_mask(reference, 3.0)
            assert box is not None
            chance, inside = predictor.chance(hu)[box.slices()], reference[box.slices()]
            overlap = np.array([np.count_nonzero(inside & (chance > c)) for c in CUTOFFS])
            found = np.array([np.count_nonzero(chance > c) for c in CUTOFFS])
            rows.append(2 * overlap / (found + np.count_nonzero(inside)))
            progress.advance(task)
    if not rows:  # one patient alone has blood: nobody is left to choose with
        return -np.abs(CUTOFFS - 0.5)
    mean: npt.NDArray[np.float64] = np.mean(rows, axis=0)
    return mean


def _references(
    prepared: Prepared, patients: Sequence[str]
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]]:
    """HU and reference of each slice with blood, in the 256 x 256 frame; where too little is left there, none."""
    for scan in prepared.scans_of(patients):
        frame = SliceFrame((scan.shape_zyx[1], scan.shape_zyx[2]))
        for k, entry in enumerate(scan.slices):
            if entry.mask_row is None:
                continue
            reference = frame.mask(prepared.mask(scan.scan_id, k))
            if reference.any():
                yield frame_hu(frame, prepared.slice_hu(scan.scan_id, k)), reference
