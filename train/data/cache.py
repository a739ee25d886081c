"""A data set, prepared: one folder a scan, and an index.

``prepare`` writes a data set once into a plain layout: one folder a scan with ``image.npy`` [z, y, x] in the
published values (HU = stored * slope + intercept), ``mask.npy`` [n, y, x] with the n slices that have blood, and
one ``index.json``. ``Prepared`` opens it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ichseg.marks.box import box_from_mask
from train.data.cases import DATASETS, Case, DataError, read_cases, to_hu
from train.data.files import replace_file, write_json

Slice = npt.NDArray[np.float32]

Mask = npt.NDArray[np.bool_]

FORMAT = 1

#: Sizes in pixels are those of a 512 x 512 slice unless said otherwise; other slices scale with the longer side.
REFERENCE_SIDE = 512


@dataclass(frozen=True)
class SliceEntry:
    """One slice of the index. ``mask_row`` is its place in mask.npy, None where there is no blood."""

    number: int
    types: tuple[str, ...]
    blood_px: int = 0
    mask_row: int | None = None
    mask_xyxy: tuple[int, int, int, int] | None = None
    sha256: str | None = None

    @property
    def is_bloodless(self) -> bool:
        """Neither marked blood nor a type on record."""
        return self.mask_row is None and not self.types


@dataclass(frozen=True)
class ScanEntry:
    """One scan of the index; ``sha256`` is over its image and its mask."""

    scan_id: str
    patient_id: str
    kind: str
    shape_zyx: tuple[int, int, int]
    hu_slope: float
    hu_intercept: float
    pixel_spacing_mm: tuple[float, float] | None
    slice_heights_mm: tuple[float, ...] | None
    sha256: str
    slices: tuple[SliceEntry, ...]

    @property
    def blood_px(self) -> int:
        """Marked pixels on all slices."""
        return sum(entry.blood_px for entry in self.slices)

    @property
    def reference_scale(self) -> float:
        """Native pixels for one pixel of a 512 x 512 slice."""
        return max(self.shape_zyx[1:]) / REFERENCE_SIDE


def prepare(
    dataset: str,
    root: str | Path,
    out: str | Path,
    *,
    on_case: Callable[[Case], None] | None = None,
) -> Prepared:
    """Read a data set under ``root`` and write its cache to the folder ``out``; return it opened.

    ``on_case`` is called after each scan, for a progress display. Files appear whole or not at all, and the
    index last: an interrupted run leaves no index, and is simply run again.
    """
    out = Path(out)
    index = out / "index.json"
    if (
        index.exists()
        and (held := json.loads(index.read_text(encoding="utf-8"))["dataset"]) != dataset
    ):
        raise DataError(
            f"A cache holds one data set; '{out.name}' has {held} and {dataset} was to be added; give another "
            "folder."
        )
    scans = []
    for case in read_cases(dataset, root):
        scans.append(_write_scan(case, out / "scans" / case.scan_id))
        if on_case is not None:
            on_case(case)
    content = {
        "format": FORMAT,
        "dataset": dataset,
        "title": DATASETS[dataset].title,
        "licence": DATASETS[dataset].licence,
        "code_sha256": code_sha256(),
        "sha256": hashlib.sha256("".join(scan.sha256 for scan in scans).encode()).hexdigest(),
        "scans": [dataclasses.asdict(scan) for scan in scans],
    }
    write_json(index, content)
    return Prepared(out)


class Prepared:
    """A cache that ``prepare`` wrote, opened. Images are mapped from disk, so opening costs nothing."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / "index.json"
        if not path.exists():
            raise DataError(
                f"Training data are prepared first; '{self.folder.name}' has no index.json; run "
                "python -m train prepare."
            )
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            raise DataError(
                f"This code reads caches of format {FORMAT}; '{self.folder.name}' has {index['format']}; "
                "prepare it again."
            )
        self.dataset: str = index["dataset"]
        self.licence: str = index["licence"]
        self.sha256: str = index["sha256"]
        self.scans = {scan["scan_id"]: _scan_entry(scan) for scan in index["scans"]}

    @property
    def patients(self) -> dict[str, str]:
        """Each patient's kind of hemorrhage (that of the scan with most blood), sorted by name."""
        largest = sorted(self.scans.values(), key=lambda scan: scan.blood_px)
        return dict(sorted({scan.patient_id: scan.kind for scan in largest}.items()))

    def scans_of(self, patients: Iterable[str] | None = None) -> list[ScanEntry]:
        """The scans of some patients (all by default), in the index's order; DataError for an unknown patient."""
        wanted = set(self.patients if patients is None else patients)
        if unknown := wanted - set(self.patients):
            raise DataError(
                f"A split names patients of this data set; {', '.join(sorted(unknown))} is not in "
                f"{self.dataset} as prepared; prepare it again or make a new split."
            )
        return [scan for scan in self.scans.values() if scan.patient_id in wanted]

    def slice_hu(self, scan_id: str, index: int) -> Slice:
        """Slice ``index``, from 0, in HU: float32 [y, x]."""
        scan = self.scans[scan_id]
        stored = self._array(scan_id, "image.npy")[index]
        return to_hu(stored, scan.hu_slope, scan.hu_intercept)

    def mask(self, scan_id: str, index: int) -> Mask:
        """All marked blood of a slice: bool [y, x]."""
        row = self.scans[scan_id].slices[index].mask_row
        if row is None:
            return np.zeros(self.scans[scan_id].shape_zyx[1:], dtype=bool)
        return np.array(self._array(scan_id, "mask.npy")[row])

    @lru_cache(maxsize=1024)  # noqa: B019 - a cache lives as long as the process that trains on it
    def _array(self, scan_id: str, name: str) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = np.load(self.folder / "scans" / scan_id / name, mmap_mode="r")
        return array


def code_sha256() -> str:
    """A hash of the code that reads data sets and makes examples: the modules of this folder."""
    here = sorted(Path(__file__).resolve().parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in here)).hexdigest()


def _write_scan(case: Case, folder: Path) -> ScanEntry:
    marked = [k for k in range(len(case.masks)) if case.masks[k].any()]
    image, mask = np.ascontiguousarray(case.stored), np.ascontiguousarray(case.masks[marked])
    replace_file(folder / "image.npy", lambda temporary: _save(temporary, image))
    replace_file(folder / "mask.npy", lambda temporary: _save(temporary, mask))
    slices = []
    for k, (number, types) in enumerate(zip(case.slice_numbers, case.slice_types, strict=True)):
        if k not in marked:
            slices.append(SliceEntry(number, types))
            continue
        box = box_from_mask(case.masks[k])
        assert box is not None
        xyxy = (int(box.x0), int(box.y0), int(box.x1), int(box.y1))
        digest = hashlib.sha256(image[k].tobytes()).hexdigest()
        slices.append(
            SliceEntry(number, types, int(case.masks[k].sum()), marked.index(k), xyxy, digest)
        )
    z, y, x = image.shape
    return ScanEntry(
        scan_id=case.scan_id,
        patient_id=case.patient_id,
        kind=case.kind,
        shape_zyx=(z, y, x),
        hu_slope=case.hu_slope,
        hu_intercept=case.hu_intercept,
        pixel_spacing_mm=case.pixel_spacing_mm,
        slice_heights_mm=case.slice_heights_mm,
        sha256=hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest(),
        slices=tuple(slices),
    )


def _scan_entry(content: Mapping[str, Any]) -> ScanEntry:
    """A scan from its JSON, with tuples where JSON has lists."""

    def tuples(item: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: tuple(value) if isinstance(value, list) else value for name, value in item.items()
        }

    slices = tuple(SliceEntry(**tuples(entry)) for entry in content["slices"])
    return ScanEntry(**{**tuples(content), "slices": slices})


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(file, array)
