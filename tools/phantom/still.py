"""No growth between two noise copies of the sample: whether each is called within error."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from ichseg.files.labels import with_usual_types
from ichseg.files.mask import read_labelled_mask
from ichseg.measures.assessment import assess
from ichseg.measures.carried import follow_up
from ichseg.methods.predictor import Predictor
from ichseg.replace_file import replacing, write_whole
from ichseg.sample import sample_paths
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume

COPIES, NOISE_HU = 20, 4.0


@dataclass(frozen=True)
class Still:
    """What was told of two copies of one scan that differ by noise alone."""

    copy: int
    method: str
    baseline_ml: float
    growth_ml: float
    growth_percent: float | None
    within_error: bool
    expansions: int
    """How many definitions of expansion were met."""
    registration_sure: bool


def still(predictor: Predictor, copy: int, kept: Path) -> Still:
    """Follow the sample from one noise copy to another, or read what was kept of it."""
    if kept.exists():
        return Still(**json.loads(kept.read_text(encoding="utf-8")))
    scan_path, mask_path = sample_paths()
    scan = read_volume(scan_path)
    mask = with_usual_types(read_labelled_mask(mask_path, scan))
    first, second = (_noisy(scan, 2 * copy + i) for i in (0, 1))
    marked = assess(mask.labels_zyx, first, mask.lesions)
    # The baseline's mask is the method's own, as the follow-up's: the reference mask only says where to look.
    own = follow_up(predictor, marked, first).found
    found = follow_up(predictor, replace(own, growth=None, other=None), second)
    growth = found.growth
    row = Still(
        copy=copy,
        method=predictor.name,
        baseline_ml=round(growth.baseline_ml, 2),
        growth_ml=round(growth.growth_ml, 3),
        growth_percent=None if growth.growth_percent is None else round(growth.growth_percent, 2),
        within_error=growth.within_measurement_error,
        expansions=sum(one.expansion is True for one in growth.verdicts),
        registration_sure=found.registration.is_sure,
    )
    write_whole(kept, json.dumps(asdict(row)).encode())
    return row


def write(docs: Path, rows: Sequence[Still]) -> str:
    """Write the rows as CSV and the summary as Markdown; return the Markdown."""
    docs.mkdir(parents=True, exist_ok=True)
    with replacing(docs / "still.csv") as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, [one.name for one in fields(Still)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    changes = [row.growth_ml for row in rows]
    text = f"""# No growth between two noise copies

By `python -m tools.phantom still`. {len(rows)} pairs of copies of the sample, each with noise of {
        NOISE_HU:g} HU (standard
deviation) added anew; registered, carried over and measured on both by {
        rows[0].method
    }. Rows: `still.csv`.

| pairs | within error | any expansion | registration sure | growth, mean ± SD (smallest to largest), mL |
|---|---|---|---|---|
| {len(rows)} | {sum(row.within_error for row in rows)} | {
        sum(row.expansions > 0 for row in rows)
    } | {sum(row.registration_sure for row in rows)} | {np.mean(changes):+.2f} ± {
        np.std(changes, ddof=1) if len(changes) > 1 else 0.0:.2f} ({min(changes):+.2f} to {
        max(changes):+.2f}) |
"""
    write_whole(docs / "still.md", text.encode())
    return text


def _noisy(scan: CTVolume, seed: int) -> CTVolume:
    rng = np.random.default_rng([41, seed])
    noise = np.rint(rng.normal(0, NOISE_HU, scan.shape_zyx)).astype(np.int16)
    return replace(scan, hu_zyx=scan.hu_zyx + noise)
