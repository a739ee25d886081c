"""How well a mask matches the reference mask, and honest summaries of many scores.

Dice, Jaccard and surface Dice are the library's own (ichseg.measures), here by the same names. Every score takes
boolean arrays of one shape, of any number of axes. Both masks empty: the overlap scores are NaN, as there was nothing
to find and nothing was found; ``summarise`` leaves such values out and says how many. One mask empty: Dice, Jaccard
and surface Dice are 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ichseg.errors import InputError
from ichseg.measures.agreement import dice, jaccard, paired, surface_dice

__all__ = [
    "Summary",
    "batch_pooled",
    "dice",
    "jaccard",
    "paired_difference",
    "per_patient",
    "summarise",
    "surface_dice",
    "volume_difference",
]

Floats = npt.NDArray[np.float64]


def batch_pooled(
    predictions: Sequence[npt.ArrayLike], references: Sequence[npt.ArrayLike], batch_size: int = 8
) -> tuple[float, float]:
    """Dice and Jaccard as Guo, Law, Park 2024 count them: (mean Dice, mean Jaccard) over batches.

    The pixels of ``batch_size`` consecutive slices (their 256 x 256 masks) are pooled into one score, as
    their code's torchmetrics calls do, and the batches' scores are averaged. Large hematomas weigh most, so
    this reads higher than a mean over slices. Batches without a pixel in either mask are left out.
    """
    if len(predictions) != len(references):
        raise InputError(
            f"There is one reference mask per prediction; got {len(predictions)} predictions and {len(references)} "
            "references; pass them slice by slice."
        )
    if batch_size < 1:
        raise InputError(f"A batch holds at least one slice; got {batch_size}; give 1 or more.")
    scores = []
    for start in range(0, len(references), batch_size):
        stop = start + batch_size
        both = [
            paired(a, b)
            for a, b in zip(predictions[start:stop], references[start:stop], strict=True)
        ]
        overlap = sum(int(np.count_nonzero(a & b)) for a, b in both)
        total = sum(int(np.count_nonzero(a)) + int(np.count_nonzero(b)) for a, b in both)
        if total:
            scores.append((2 * overlap / total, overlap / (total - overlap)))
    if not scores:
        return float("nan"), float("nan")
    mean_dice, mean_jaccard = np.mean(scores, axis=0)
    return float(mean_dice), float(mean_jaccard)


def volume_difference(
    prediction: npt.ArrayLike, reference: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float:
    """Signed relative volume difference (|A| - |B|) / |B|: 0.1 is a tenth too much. NaN when B is empty.

    ``weights`` broadcasts against the masks and gives each voxel's size where sizes differ: for masks
    [z, y, x] of an unevenly spaced series, ``slice_heights_mm[:, None, None]``. Only ratios matter, so
    the unit does not. The absolute difference is ``abs`` of this.
    """
    a, b = paired(prediction, reference)
    sizes = np.ones(()) if weights is None else np.asarray(weights, dtype=np.float64)
    volume_a, volume_b = float((a * sizes).sum()), float((b * sizes).sum())
    return _ratio(volume_a - volume_b, volume_b)


@dataclass(frozen=True)
class Summary:
    """Many scores in one row. ``interval`` is a 95 % bootstrap interval of the mean over patients."""

    mean: float
    sd: float
    median: float
    quartiles: tuple[float, float]
    interval: tuple[float, float]
    n: int
    n_left_out: int
    n_patients: int


def summarise(
    values: Iterable[float],
    patients: Sequence[str] | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Summary:
    """Mean, sample standard deviation, median, quartiles and a 95 % bootstrap interval of the mean.

    ``patients`` names each value's patient (slices of one patient are alike, so patients are drawn with
    replacement, each with all of its values); without it each value is a patient of its own. NaN values are
    left out and counted. No value left: every figure is NaN; one value: the spread is NaN.
    """
    scores = np.asarray(list(values), dtype=np.float64)
    names = _names(scores, patients)
    kept = ~np.isnan(scores)
    scores, names = scores[kept], names[kept]
    if scores.size == 0:
        nan = float("nan")
        return Summary(nan, nan, nan, (nan, nan), (nan, nan), 0, int((~kept).sum()), 0)
    low, median, high = np.quantile(scores, [0.25, 0.5, 0.75])
    return Summary(
        mean=float(scores.mean()),
        sd=float(scores.std(ddof=1)) if scores.size > 1 else float("nan"),
        median=float(median),
        quartiles=(float(low), float(high)),
        interval=_bootstrap_interval(scores, names, resamples, seed),
        n=int(scores.size),
        n_left_out=int((~kept).sum()),
        n_patients=int(np.unique(names).size),
    )


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    patients: Sequence[str] | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Summary:
    """``summarise`` of first minus second, value by value: two methods on the same slices.

    A pair with a NaN on either side is left out and counted.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise InputError(
            f"A paired difference needs the same cases on both sides; got {a.size} and {b.size} values; "
            "score both methods on the same list."
        )
    return summarise(a - b, patients, resamples=resamples, seed=seed)


def per_patient(values: Iterable[float], patients: Sequence[str]) -> dict[str, float]:
    """The mean of each patient's values, NaN left out (and NaN where a patient has no other), by name."""
    scores = np.asarray(list(values), dtype=np.float64)
    names = _names(scores, patients)
    means = {}
    for name in np.unique(names):
        own = scores[(names == name) & ~np.isnan(scores)]
        means[str(name)] = float(own.mean()) if own.size else float("nan")
    return means


def _ratio(part: float | np.integer, whole: float | np.integer) -> float:
    return float(part) / float(whole) if whole else float("nan")


def _names(scores: Floats, patients: Sequence[str] | None) -> npt.NDArray[np.str_]:
    names = (
        np.arange(scores.size).astype(str) if patients is None else np.asarray(patients, dtype=str)
    )
    if names.shape != scores.shape:
        raise InputError(
            f"Each value has its patient; got {scores.size} values and {names.size} patients; pass one name "
            "a value."
        )
    return names


def _bootstrap_interval(
    scores: Floats, names: npt.NDArray[np.str_], resamples: int, seed: int
) -> tuple[float, float]:
    """2.5 and 97.5 % quantiles of the mean when patients are drawn with replacement; NaN for one patient."""
    _, patient = np.unique(names, return_inverse=True)
    sums, counts = np.bincount(patient, weights=scores), np.bincount(patient)
    if counts.size < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    drawn = rng.integers(counts.size, size=(resamples, counts.size))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
