"""The sample's head as a thin series: 300 slices of 0.5 mm, each with the noise of a tenth of the sample's dose.

``followed`` is one box on the slice with most of a lesion, followed through the sample and through the thin series: by
slabs, and slice by slice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ichseg.arrays import BoolArray
from ichseg.files.mask import read_labelled_mask
from ichseg.marks.box import box_from_mask
from ichseg.measures.agreement import compare
from ichseg.measures.volume import volume_ml
from ichseg.methods.follow_rule import Rule
from ichseg.methods.propagation import propagate
from ichseg.replace_file import write_whole
from ichseg.sample import sample_paths
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume
from tools.phantom.sample import BASELINE, PIXEL_MM, SAMPLE, Stack, ideal_slice, reference_of
from tools.phantom.sample import write_nifti as write_scan

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor

#: The sample's head in slices of one plane each.
THIN = Stack(slices=300, slice_mm=0.5, lowest_mm=SAMPLE.lowest_mm - 2.25, planes=1)
SCAN, REFERENCE = "head_ct_thin.nii.gz", "head_ct_thin_reference.nii.gz"
LESIONS = {1: "IPH", 2: "IVH"}
#: The scanner's errors are made for so many slices at a time, which bounds the memory.
_AT_ONCE = 30


def make(folder: Path) -> None:
    """Write the scan and its reference mask; it takes ten minutes, and nilearn's maps."""
    from tools.phantom.head import Head, Hematoma
    from tools.phantom.scanner import QUANTA, scan

    head = Head(Hematoma(BASELINE.hematoma_scale))
    quanta = QUANTA * THIN.slice_mm / SAMPLE.slice_mm
    hu, reference = [], []
    for start in range(0, THIN.slices, _AT_ONCE):
        slices = range(start, start + _AT_ONCE)
        ideal = np.stack([ideal_slice(head, BASELINE, k, THIN) for k in slices])
        seen = scan(ideal[:, 0], PIXEL_MM, [BASELINE.seed, start], quanta)
        hu.append(np.clip(np.rint(seen), -1024, 3071).astype(np.int16))
        reference.append(reference_of(ideal[:, 1], ideal[:, 2]))
    folder.mkdir(parents=True, exist_ok=True)
    write_scan(folder / REFERENCE, np.concatenate(reference), THIN)
    write_scan(folder / SCAN, np.concatenate(hu), THIN)


@dataclass(frozen=True)
class Followed:
    """What one box gave of a lesion, beside its reference."""

    what: str
    lesion: str
    edge: bool
    found_ml: float
    true_ml: float
    dice: float
    dice_a_slice: float
    """Mean over the slices that have both the mask and the reference."""
    slices: int
    """How many these are."""


def followed(predictor: Predictor, folder: Path) -> Iterator[Followed]:
    """Each lesion on the sample, and on the thin series both ways; what is kept in the folder is not done again."""
    sample, reference = sample_paths()
    ways = (
        ("5 mm, slice by slice", Path(sample), Path(reference), Rule()),
        ("0.5 mm, by slabs", folder / SCAN, folder / REFERENCE, Rule()),
        ("0.5 mm, slice by slice", folder / SCAN, folder / REFERENCE, Rule(slab_mm=0)),
    )
    for what, scan_path, reference_path, rule in ways:
        kept = folder / f"{predictor.name}, {what}.json"
        if not kept.exists():
            rows = [
                asdict(row) for row in _followed(predictor, scan_path, reference_path, what, rule)
            ]
            write_whole(kept, json.dumps(rows).encode())
        yield from (Followed(**row) for row in json.loads(kept.read_text(encoding="utf-8")))


def _followed(
    predictor: Predictor, scan_path: Path, reference_path: Path, what: str, rule: Rule
) -> Iterator[Followed]:
    volume = read_volume(scan_path)
    labels = read_labelled_mask(reference_path, volume).labels_zyx
    for label, lesion in LESIONS.items():
        true_zyx = labels == label
        k = int(true_zyx.sum(axis=(1, 2)).argmax())
        box = box_from_mask(true_zyx[k], margin_px=3)
        assert box is not None
        marked = propagate(predictor, volume, {k: [box]}, rule=rule)
        for edge in (True, False):
            marked.set_edge(edge)
            found_zyx = marked.mask_zyx(predictor.name)
            yield _beside(volume, found_zyx, true_zyx, (what, lesion, edge))


def _beside(
    volume: CTVolume, found_zyx: BoolArray, true_zyx: BoolArray, of: tuple[str, str, bool]
) -> Followed:
    both = np.flatnonzero(found_zyx.any(axis=(1, 2)) & true_zyx.any(axis=(1, 2)))
    common = np.count_nonzero(found_zyx & true_zyx, axis=(1, 2))[both]
    sizes = sum(np.count_nonzero(one, axis=(1, 2))[both] for one in (found_zyx, true_zyx))
    return Followed(
        *of,
        found_ml=volume_ml(found_zyx, volume),
        true_ml=volume_ml(true_zyx, volume),
        dice=compare(found_zyx, true_zyx, volume).dice,
        dice_a_slice=float(np.mean(2 * common / sizes)),
        slices=len(both),
    )


def write(docs: Path, rows: Sequence[Followed], method: str) -> str:
    """Write the table as Markdown, and return it."""
    lines = [
        f"| {row.lesion} | {row.what} | {'yes' if row.edge else 'no'} | {row.found_ml:.2f} | {row.true_ml:.2f} | "
        f"{row.dice:.3f} | {row.dice_a_slice:.3f} (n {row.slices}) |"
        for row in sorted(rows, key=lambda row: (row.lesion, not row.edge))
    ]
    text = f"""# A thin series by slabs

By `python -m tools.phantom thin`, with {method}, from one box on the slice with most of each lesion, 3 pixels
around it, without refinement. The thin series is the sample's head in {THIN.slices} slices of {THIN.slice_mm:g} mm,
each with the noise of a tenth of the sample's dose. Dice per slice is the mean over the slices with both a mask and
blood.

| lesion | series | edge | found, mL | true, mL | Dice | Dice per slice |
|---|---|---|---|---|---|---|
{chr(10).join(lines)}
"""
    docs.mkdir(parents=True, exist_ok=True)
    write_whole(docs / "thin.md", text.encode())
    return text
