"""Cases to a cache, a split by patient, and training examples: the same ones whenever they are asked for.

``prepare`` writes a data set once into a plain layout: one folder a scan with ``image.npy`` [z, y, x] in the
published values (HU = stored * slope + intercept), ``mask.npy`` [n, y, x] with the n slices that have blood, and
one ``index.json``. ``Prepared`` opens it. ``split_folds`` and ``split_nine_to_one`` divide the patients,
``check_leaks`` refuses a division in which one side has seen the other.

``TrainingSlices`` makes examples as Guo, Law, Park 2024 do, and with ``ExampleConfig`` in other ways. An
example depends on its index, the epoch and the seed alone, so a run that is taken up again sees what it would have.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.arrays import EIGHT_CONNECTED
from ichseg.marks.box import Box, box_from_mask, jitter
from ichseg.methods.frame import MODEL_SIZE, PAPER, SliceFrame
from ichseg.replace_file import replacing
from ichseg.scan.skull import BONE_HU, intracranial
from train.cases import DATASETS, Case, DataError, read_cases, to_hu

Slice = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int32]
Split = dict[str, Any]

FORMAT = 1
#: Sizes in pixels are those of a 512 x 512 slice unless said otherwise; other slices scale with the longer side.
REFERENCE_SIDE = 512
#: Distances to the skull, for implants, are measured on every fourth pixel.
_STEP = 4


# --- The cache --------------------------------------------------------------------------------------------------


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
    if index.exists() and (held := json.loads(index.read_text())["dataset"]) != dataset:
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
        index = json.loads(path.read_text())
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


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all."""
    replace_file(path, lambda temporary: temporary.write_text(json.dumps(content, indent=1) + "\n"))


def code_sha256() -> str:
    """A hash of the code that reads data sets and makes examples: this file and cases.py."""
    here = Path(__file__).resolve().parent
    return hashlib.sha256(
        b"".join((here / name).read_bytes() for name in ("cases.py", "dataset.py"))
    ).hexdigest()


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


def write_table(
    path: Path, rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None
) -> None:
    """Rows as CSV, whole or not at all; the first row names the columns where nobody does."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(columns or rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    replace_file(path, write)


def cell(value: object) -> object:
    """A value as a table of scores has it: five digits of a float, anything else as it is."""
    return f"{value:.5g}" if isinstance(value, float) else value


def chunks(indices: npt.NDArray[np.int64], size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Successive parts of ``size``, the last one of what is left."""
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        write(part)


# --- Splits by patient ------------------------------------------------------------------------------------------


def split_folds(
    patients: Mapping[str, str], *, folds: int = 5, seed: int = 0, validation_share: float = 0.1
) -> Split:
    """Divide patients (name -> kind) for cross-validation: each is tested once, and never trained on then.

    Patients of each kind are shuffled and dealt to the folds in turn, so that the folds have like numbers of each
    kind. From a fold's other patients ``validation_share`` (the paper's 9:1) is set aside, by kind as well, to
    choose a checkpoint with; 0 leaves it empty. Returns what ``write_json`` can save: "folds" is a list of
    {"train", "validation", "test"}, each a sorted list of names.
    """
    if not 2 <= folds <= len(patients):
        raise DataError(
            f"Folds are at least 2 and at most the patients, {len(patients)}; got {folds}; give another number."
        )
    dealt = _deal(patients, folds, np.random.default_rng([seed, folds]))
    parts = []
    for number, test in enumerate(dealt):
        rest = {name: kind for name, kind in patients.items() if name not in test}
        validation = _set_aside(
            rest, validation_share, np.random.default_rng([seed, folds, number])
        )
        parts.append(_part(set(rest) - validation, validation, set(test)))
    return {"format": FORMAT, "method": f"{folds} folds by patient", "seed": seed, "folds": parts}


def split_nine_to_one(
    patients: Mapping[str, str], *, seed: int = 0, test: Sequence[str] = ()
) -> Split:
    """The paper's split: of the patients outside ``test``, nine parts to train on and one to validate with.

    By kind of hemorrhage; the result has one entry in "folds".
    """
    rest = {name: kind for name, kind in patients.items() if name not in set(test)}
    validation = _set_aside(rest, 0.1, np.random.default_rng(seed))
    part = _part(set(rest) - validation, validation, set(test))
    return {"format": FORMAT, "method": "9:1 by patient", "seed": seed, "folds": [part]}


def check_leaks(split: Split, prepared: Prepared) -> None:
    """Raise DataError where a split lets training see what it is scored on, or does not fit the data.

    In each fold the parts share no patient and no slice with blood (the same image under two names is the same
    patient twice), and hold between them every patient. Over several folds each patient is tested once.
    """
    images: dict[str, set[str]] = defaultdict(set)
    for scan in prepared.scans.values():
        images[scan.patient_id] |= {entry.sha256 for entry in scan.slices if entry.sha256}
    for number, fold in enumerate(split["folds"]):
        parts = {name: list(fold[name]) for name in ("train", "validation", "test")}
        everyone = [patient for names in parts.values() for patient in names]
        twice = sorted({name for name in everyone if everyone.count(name) > 1})
        if twice:
            raise _leak(number, f"patient {', '.join(twice)} stands in it more than once")
        if set(everyone) != set(prepared.patients):
            odd = sorted(set(everyone) ^ set(prepared.patients))
            raise _leak(number, f"patient {', '.join(odd)} is only in one of split and data")
        seen: dict[str, tuple[str, str]] = {}
        for part, names in parts.items():
            for patient in names:
                for digest in images[patient]:
                    other = seen.setdefault(digest, (part, patient))
                    if other[0] != part:
                        raise _leak(
                            number, f"patients {other[1]} and {patient} have an image in common"
                        )
    tested = [patient for fold in split["folds"] for patient in fold["test"]]
    if len(split["folds"]) > 1 and sorted(tested) != sorted(prepared.patients):
        raise DataError(
            "In cross-validation each patient is tested once; this split does otherwise; make a new one."
        )


def _leak(fold: int, received: str) -> DataError:
    return DataError(
        f"The parts of a fold share no patient and hold each of them; in fold {fold} {received}; make a new split."
    )


def _part(train: set[str], validation: set[str], test: set[str]) -> dict[str, list[str]]:
    return {"train": sorted(train), "validation": sorted(validation), "test": sorted(test)}


def _deal(patients: Mapping[str, str], hands: int, rng: np.random.Generator) -> list[list[str]]:
    """Shuffle each kind's patients and deal them one by one, going on from kind to kind."""
    order = []
    for kind in sorted(set(patients.values())):
        names = sorted(name for name in patients if patients[name] == kind)
        order += [names[i] for i in rng.permutation(len(names))]
    return [order[hand::hands] for hand in range(hands)]


def _set_aside(patients: Mapping[str, str], share: float, rng: np.random.Generator) -> set[str]:
    """A share of the patients spread over the kinds; at least one patient with blood when share > 0."""
    if not 0 <= share <= 0.5:
        raise DataError(f"The share to set aside is from 0 to 0.5; got {share}; give e.g. 0.1.")
    if share == 0:
        return set()
    hands = round(1 / share)
    chosen = _deal(patients, hands, rng)
    with_blood = [hand for hand in chosen if any(patients[name] != "none" for name in hand)]
    return set((with_blood or chosen)[0])


# --- Slices for evaluation --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class NativeSlice:
    """A slice at its own size with its truth, untouched, for scoring.

    ``mask`` has all marked blood, the smallest speck included. ``piece_boxes`` has a box for each 8-connected piece of
    at least ``least_piece_px``, and ``slice_box`` holds those pieces: a stray pixel of a coarse label is nothing
    a person would draw a box around, but it stays in the truth. Boxes are native pixels.
    """

    patient_id: str
    scan_id: str
    slice_index: int
    types: tuple[str, ...]
    slice_hu: Slice
    mask: Mask
    slice_box: Box
    piece_boxes: tuple[Box, ...]
    pixel_spacing_mm: tuple[float, float] | None
    slice_height_mm: float | None


def native_slices(
    prepared: Prepared,
    patients: Iterable[str] | None = None,
    *,
    margin_px: float = 3.0,
    least_piece_px: float = 10.0,
) -> Iterator[NativeSlice]:
    """Every slice with blood of some patients (all by default), in order.

    ``margin_px`` is added to the boxes on each side, in pixels of the 256 x 256 frame as in training;
    ``least_piece_px`` is an area at 512 x 512. Where no piece is that large, the largest has a box.
    """
    for scan in prepared.scans_of(patients):
        margin = margin_px * max(scan.shape_zyx[1:]) / MODEL_SIZE
        for k, entry in enumerate(scan.slices):
            if entry.mask_row is None:
                continue
            mask = prepared.mask(scan.scan_id, k)
            labels = _pieces(mask, entry, least_piece_px * scan.reference_scale**2)
            if not labels.any():
                labels = _largest_piece(mask).astype(np.int32)
            whole = box_from_mask(labels > 0, margin)
            assert whole is not None
            boxes = (box_from_mask(labels == i, margin) for i in range(1, labels.max() + 1))
            heights = scan.slice_heights_mm
            yield NativeSlice(
                patient_id=scan.patient_id,
                scan_id=scan.scan_id,
                slice_index=k,
                types=entry.types,
                slice_hu=prepared.slice_hu(scan.scan_id, k),
                mask=mask,
                slice_box=whole,
                piece_boxes=tuple(box for box in boxes if box is not None),
                pixel_spacing_mm=scan.pixel_spacing_mm,
                slice_height_mm=None if heights is None else heights[k],
            )


# --- Examples for training --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExampleConfig:
    """How a slice becomes an example. The defaults are the paper's pipeline; every other field is off.

    The paper: window 30 to 100 HU with fixed scaling, pieces under 100 px dropped, slices with blood only, one
    box around all of it grown by 3 px on each side (of the 256 x 256 mask, as in its code), 256 x 256.
    """

    box_per: Literal["slice", "piece", "both"] = "slice"
    """One box a slice; one an 8-connected piece; or the pieces and, where there are several, the slice too."""
    min_piece_px: float = 100.0
    """Pieces with less area at 512 x 512 are dropped; on another size it scales with the longer side squared."""
    box_margin_px: float = 3.0
    """Added on each side of the box, in pixels of the whole slice's 256 x 256 frame."""

    box_jitter_px: float = 0.0
    """Each side of the box moves by up to this many pixels at 512 x 512."""
    flip_left_right: bool = False
    flip_up_down: bool = False
    """Mirror one example in two."""
    rotation_degrees: float = 0.0
    """Turn by up to this angle either way; the box is taken from the turned mask."""
    hu_shift: float = 0.0
    """Add up to this many HU, up or down."""
    hu_scale: float = 0.0
    """Stretch contrast about 35 HU (brain) by up to this fraction, up or down."""
    noise_hu: float = 0.0
    """Add Gaussian noise with a standard deviation of up to this many HU, at native resolution."""
    blur_px: float = 0.0
    """Blur with a Gaussian of up to this sigma, in pixels at 512 x 512."""
    median_px: int = 0
    """Denoise with a median of this many pixels a side (3 or 5), at native resolution; 0 is off."""
    skull_strip: bool = False
    """Blacken what is outside the skull and the skull itself, on slices where the skull is closed."""

    crop_sides: tuple[float, float] | None = None
    """See a square crop around the box, its side drawn from this range in units of the box's longer side."""
    crop_share: float = 1.0
    """The share of examples that are cropped, where ``crop_sides`` is given; the rest show the whole slice."""
    crop_least_px: int = 64
    """A crop's least side in native pixels: the predictor's."""

    implant_share: float = 0.0
    """Further examples with blood implanted into a bloodless slice, for each real one."""
    negative_share: float = 0.0
    """Further examples with a box on a bloodless slice and nothing to find, for each real one."""

    def __post_init__(self) -> None:
        amounts = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if isinstance(getattr(self, field.name), (int, float))
        }
        for name, value in amounts.items():
            if not 0 <= value < np.inf:
                raise DataError(f"{name} is a number from 0; got {value}; 0 turns it off.")
        if self.crop_share > 1 or self.hu_scale >= 1:
            raise DataError(
                f"crop_share is at most 1 and hu_scale below 1; got {self.crop_share} and {self.hu_scale}; give "
                "fractions."
            )
        if self.median_px and self.median_px % 2 == 0:
            raise DataError(
                f"A median has an odd side; got median_px={self.median_px}; give 3 or 5."
            )
        if self.box_per not in ("slice", "piece", "both"):
            raise DataError(
                f"box_per is slice, piece or both; got '{self.box_per}'; give one of them."
            )
        if self.crop_sides is not None and not 1 <= self.crop_sides[0] <= self.crop_sides[1]:
            raise DataError(
                f"crop_sides is a range from 1 box side up; got {self.crop_sides}; give e.g. (2, 4)."
            )

    @property
    def has_fixed_images(self) -> bool:
        """Whether a slice's image is the same in every epoch, but for mirroring."""
        return not (
            self.rotation_degrees
            or self.hu_shift
            or self.hu_scale
            or self.noise_hu
            or self.blur_px
            or self.crop_sides
        )


@dataclass(frozen=True, eq=False)
class Example:
    """What a model is shown, in its own frame: LiteMedSAM's of 256 x 256 unless TrainingSlices was given another.

    ``image`` float32 [256, 256] in 0..1, of which the upper left ``content_yx`` are no padding; ``box_xyxy``
    float32 [4]; ``target`` bool, as large as what the model predicts: [256, 256].
    ``key`` names the image: the same key, the same pixels; None for an image drawn afresh, which is not worth keeping.
    """

    image: npt.NDArray[np.float32]
    box_xyxy: npt.NDArray[np.float32]
    target: Mask
    patient_id: str
    scan_id: str
    slice_index: int
    key: str | None
    content_yx: tuple[int, int] = (MODEL_SIZE, MODEL_SIZE)


@dataclass(frozen=True)
class _Item:
    """A slice and the pieces (labels from 1) that its box is drawn around."""

    scan_id: str
    slice_index: int
    pieces: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Scene:
    """A slice before it is framed: HU and labelled pieces, both [y, x], and the labels that a box is drawn around.

    Where ``is_empty`` the prompted label is only a place to look at: there is nothing to find in it.
    """

    slice_hu: Slice
    labels: Labels
    prompted: tuple[int, ...]
    is_empty: bool = False


class TrainingSlices:
    """The training examples of some patients of a prepared data set.

    ``len`` of them make an epoch: first the real ones, then implants, then negatives. ``example(i, epoch)`` makes one;
    ``order(epoch)`` is that epoch's shuffled order. Blood and bloodless slices alike come from
    ``patients`` alone. Several processes may share one of these.

    ``frame_of`` gives a model's frame of a slice of (rows, columns) and a region of it (BoxNetwork.frame),
    ``target_size`` the side of what it predicts; without them both are LiteMedSAM's. What is drawn at random is the
    same for any.
    """

    def __init__(
        self,
        prepared: Prepared,
        patients: Iterable[str],
        config: ExampleConfig | None = None,
        *,
        seed: int = 0,
        frame_of: Callable[[tuple[int, int], Box], SliceFrame] = SliceFrame,
        target_size: int = MODEL_SIZE,
    ) -> None:
        self.prepared = prepared
        self.config = config or ExampleConfig()
        self.seed = seed
        self._frame_of = frame_of
        self._target_size = target_size
        self._scans = prepared.scans_of(patients)
        self._items = [item for scan in self._scans for item in self._items_of(scan)]
        if not self._items:
            raise DataError(
                f"Training needs a slice with blood; the {len(self._scans)} scans given have no piece of "
                f"{self.config.min_piece_px:g} px at 512 x 512; add patients or lower min_piece_px."
            )
        self._bloodless = [pair for scan in self._scans for pair in _bloodless_slices(scan)]
        self._implants = round(self.config.implant_share * len(self._items))
        self._negatives = round(self.config.negative_share * len(self._items))
        if self._implants + self._negatives and not self._bloodless:
            raise DataError(
                "Implants and negatives need slices without blood; these patients have none; turn "
                "implant_share and negative_share off or add patients."
            )

    def __len__(self) -> int:
        return len(self._items) + self._implants + self._negatives

    @property
    def n_real(self) -> int:
        """How many examples come from a slice as it is; the first so many."""
        return len(self._items)

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """The indices of an epoch in the order to train on them."""
        return np.random.default_rng([self.seed, epoch]).permutation(len(self))

    def example(self, index: int, epoch: int = 0) -> Example:
        """Example ``index`` as it is in ``epoch``; IndexError beyond ``len``."""
        if not 0 <= index < len(self):
            raise IndexError(f"examples are numbered 0 to {len(self) - 1}; got {index}")
        rng = np.random.default_rng([self.seed, epoch, index])
        key: str | None = None
        if index < len(self._items):
            item = self._items[index]
            labels = self._labels(item.scan_id, item.slice_index)
            hu = self.prepared.slice_hu(item.scan_id, item.slice_index)
            scene = _Scene(hu, labels, item.pieces)
            key = f"{item.scan_id}/{item.slice_index}" if self.config.has_fixed_images else None
            where = (item.scan_id, item.slice_index)
        elif index < len(self._items) + self._implants:
            where, scene = self._implant(rng)
        else:
            where, scene = self._negative(rng)
        if self.config.skull_strip:
            inside = self._intracranial(*where)
            if inside.any():
                scene = dataclasses.replace(
                    scene, slice_hu=np.where(inside, scene.slice_hu, np.float32(-100))
                )
        scene, mirrored = self._mirrored(scene, rng)
        frame, image, box, target = self._framed(
            scene, self.prepared.scans[where[0]].reference_scale, rng
        )
        return Example(
            image=image,
            box_xyxy=box,
            target=target,
            patient_id=self.prepared.scans[where[0]].patient_id,
            scan_id=where[0],
            slice_index=where[1],
            key=key and key + mirrored,
            content_yx=frame.content_yx,
        )

    def _items_of(self, scan: ScanEntry) -> Iterator[_Item]:
        for k, entry in enumerate(scan.slices):
            if entry.mask_row is None:
                continue
            pieces = tuple(range(1, int(self._labels(scan.scan_id, k).max()) + 1))
            if (
                pieces
                and self.config.box_per != "piece"
                and not (self.config.box_per == "both" and len(pieces) == 1)
            ):
                yield _Item(scan.scan_id, k, pieces)
            if self.config.box_per != "slice":
                yield from (_Item(scan.scan_id, k, (piece,)) for piece in pieces)

    def _labels(self, scan_id: str, k: int) -> Labels:
        scan = self.prepared.scans[scan_id]
        least = self.config.min_piece_px * scan.reference_scale**2
        return _pieces(self.prepared.mask(scan_id, k), scan.slices[k], least)

    def _mirrored(self, scene: _Scene, rng: np.random.Generator) -> tuple[_Scene, str]:
        """The scene, mirrored or not as the dice say, and a suffix that names how."""
        axes: tuple[int, ...] = ()
        suffix = ""
        if self.config.flip_up_down and rng.random() < 0.5:
            axes, suffix = (0,), "/ud"
        if self.config.flip_left_right and rng.random() < 0.5:
            axes, suffix = (*axes, 1), suffix + "/lr"
        flipped = dataclasses.replace(
            scene, slice_hu=np.flip(scene.slice_hu, axes), labels=np.flip(scene.labels, axes)
        )
        return flipped, suffix

    def _framed(
        self, scene: _Scene, scale: float, rng: np.random.Generator
    ) -> tuple[SliceFrame, npt.NDArray[np.float32], npt.NDArray[np.float32], Mask]:
        """The model's frame of a scene, of the whole slice or of a crop, and image, box and target in it."""
        config = self.config
        rows, columns = scene.slice_hu.shape
        labels, degrees = scene.labels, 0.0
        if config.rotation_degrees:
            degrees = rng.uniform(-config.rotation_degrees, config.rotation_degrees)
            labels = _rotate_labels(scene.labels, degrees)
            if not np.isin(scene.prompted, labels).any():  # turned off the slice
                labels, degrees = scene.labels, 0.0
        box = box_from_mask(
            np.isin(labels, scene.prompted), config.box_margin_px * max(rows, columns) / MODEL_SIZE
        )
        assert box is not None
        target = np.zeros(labels.shape, dtype=bool)
        if not scene.is_empty:
            target = _prompted(labels, scene.prompted, box)
        if config.box_jitter_px:
            box = jitter(box, config.box_jitter_px * scale, rng, (rows, columns))
        region = Box(0, 0, columns, rows)
        if config.crop_sides is not None and rng.random() < config.crop_share:
            region = _random_crop(
                box, (rows, columns), config.crop_sides, config.crop_least_px, rng
            )
        seen = region.clip((rows, columns))
        hu = _rotate(scene.slice_hu, degrees, seen) if degrees else scene.slice_hu[seen.slices()]
        frame = self._frame_of((hu.shape[0], hu.shape[1]), _moved(region, seen))
        image = frame.image(self._weathered(hu, scale, rng))
        wanted = dataclasses.replace(frame, size=self._target_size).mask(target[seen.slices()])
        return frame, image, frame.box(_moved(box, seen)), wanted

    def _weathered(self, hu: Slice, scale: float, rng: np.random.Generator) -> Slice:
        """HU with the configured denoising, blur, noise, contrast and shift."""
        config = self.config
        if config.median_px:
            hu = ndimage.median_filter(hu, size=config.median_px)
        if config.blur_px:
            hu = ndimage.gaussian_filter(hu, rng.uniform(0, config.blur_px * scale))
        if config.noise_hu or config.hu_scale or config.hu_shift:
            # 8-bit data end at 100 HU, where bone is flat: it must stay white, whatever is added.
            hu = np.where(hu >= PAPER.high - 1, hu + 200, hu)
        if config.noise_hu:
            sd = np.float32(rng.uniform(0, config.noise_hu))
            hu = hu + sd * rng.standard_normal(hu.shape, dtype=np.float32)
        if config.hu_scale:
            hu = (hu - 35) * np.float32(1 + rng.uniform(-config.hu_scale, config.hu_scale)) + 35
        if config.hu_shift:
            hu = hu + np.float32(rng.uniform(-config.hu_shift, config.hu_shift))
        return hu

    def _intracranial(self, scan_id: str, k: int) -> Mask:
        rows, columns = self.prepared.scans[scan_id].shape_zyx[1:]
        bits = np.unpackbits(self._intracranial_bits(scan_id, k), count=rows * columns)
        return bits.reshape(rows, columns).view(bool)

    @lru_cache(maxsize=4096)  # noqa: B019 - 50 kB a slice, and it lives as long as training does
    def _intracranial_bits(self, scan_id: str, k: int) -> npt.NDArray[np.uint8]:
        return np.packbits(intracranial(self.prepared.slice_hu(scan_id, k)))

    def _implant(self, rng: np.random.Generator) -> tuple[tuple[str, int], _Scene]:
        """A bloodless slice with a real piece of blood from another training slice laid into it.

        The piece goes to the like place of the other head (or its mirror image), scaled from one skull's
        inside to the other's, and is cut off at the bone. Blood keeps its own texture and brightness, but for the
        difference between the two brains' medians, and its edge is blended. After 20 pairs that do
        not fit, a negative stands in.
        """
        for _ in range(20):
            item = self._items[rng.integers(len(self._items))]
            where = self._bloodless[rng.integers(len(self._bloodless))]
            donor = (item.scan_id, item.slice_index)
            inside_donor, inside = self._intracranial(*donor), self._intracranial(*where)
            share, share_donor = (np.count_nonzero(m) / m.size for m in (inside, inside_donor))
            if not 0 < 0.6 * share_donor <= share <= 1.6 * share_donor:
                continue
            piece = self._labels(*donor) == rng.choice(item.pieces)
            hu = self.prepared.slice_hu(*where)
            pasted = _paste(self.prepared.slice_hu(*donor), piece, inside_donor, hu, inside, rng)
            if pasted is None:
                continue
            hu, blood = pasted
            labels = keep_large(
                blood,
                self.config.min_piece_px * self.prepared.scans[where[0]].reference_scale ** 2,
            )
            if labels.any():
                return where, _Scene(hu, labels, tuple(range(1, int(labels.max()) + 1)))
        return self._negative(rng)

    def _negative(self, rng: np.random.Generator) -> tuple[tuple[str, int], _Scene]:
        """A bloodless slice with a box of a real piece's size somewhere inside the skull; nothing to find."""
        for _ in range(100):
            where = self._bloodless[rng.integers(len(self._bloodless))]
            inside = self._intracranial(*where)
            if inside.any():
                break
        else:
            inside = np.ones(self.prepared.scans[where[0]].shape_zyx[1:], dtype=bool)
        rows, columns = np.nonzero(inside[::4, ::4])
        place = np.zeros(inside.shape, dtype=np.int32)
        for _ in range(20):
            item = self._items[rng.integers(len(self._items))]
            size = box_from_mask(np.isin(self._labels(item.scan_id, item.slice_index), item.pieces))
            assert size is not None
            scale = max(inside.shape) / max(self.prepared.scans[item.scan_id].shape_zyx[1:])
            i = rng.integers(len(rows))
            y0 = max(0, int(4 * rows[i] - size.height * scale / 2))
            x0 = max(0, int(4 * columns[i] - size.width * scale / 2))
            area = np.s_[
                y0 : y0 + max(1, int(size.height * scale)),
                x0 : x0 + max(1, int(size.width * scale)),
            ]
            if inside[area].mean() >= 0.7:
                break
        place[area] = 1
        return where, _Scene(self.prepared.slice_hu(*where), place, (1,), is_empty=True)


def _pieces(mask: Mask, entry: SliceEntry, least_px: float) -> Labels:
    """The 8-connected pieces of at least ``least_px`` pixels, numbered from 1 in scan order: int32 [y, x]."""
    extent = Box(*entry.mask_xyxy) if entry.mask_xyxy is not None else None
    return keep_large(mask, least_px, extent)


def keep_large(mask: Mask, least_px: float, extent: Box | None = None) -> Labels:
    """Label a mask's 8-connected pieces from 1, without those under ``least_px`` pixels: int32 [y, x].

    ``extent`` is a box known to hold the mask, which saves looking for it.
    """
    out = np.zeros(mask.shape, dtype=np.int32)
    extent = extent or box_from_mask(mask)
    if extent is None:
        return out
    labels, count = ndimage.label(mask[extent.slices()], EIGHT_CONNECTED)
    kept = np.bincount(labels.ravel(), minlength=count + 1) >= least_px
    kept[0] = False
    out[extent.slices()] = np.where(kept, np.cumsum(kept), 0)[labels]
    return out


def _largest_piece(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask, EIGHT_CONNECTED)
    if count == 0:
        return np.zeros(mask.shape, dtype=bool)
    largest: Mask = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    return largest


def _prompted(labels: Labels, prompted: Sequence[int], box: Box) -> Mask:
    """The pieces that a box asks for: those it was drawn around, and any with half of its area in the box."""
    areas = np.bincount(labels[labels > 0], minlength=max(prompted) + 1)
    inside = labels[box.slices()]
    wanted = 2 * np.bincount(inside[inside > 0], minlength=areas.size) >= np.maximum(areas, 1)
    wanted[list(prompted)] = True
    wanted[0] = False
    target: Mask = wanted[labels]
    return target


def _bloodless_slices(scan: ScanEntry) -> Iterator[tuple[str, int]]:
    """Slices without blood whose neighbours have none either, where a thin rim may have gone unmarked."""
    free = [entry.is_bloodless for entry in scan.slices]
    for k in range(len(free)):
        if all(free[max(k - 1, 0) : k + 2]):
            yield scan.scan_id, k


def _random_crop(
    box: Box,
    shape_yx: tuple[int, int],
    sides: tuple[float, float],
    least_px: int,
    rng: np.random.Generator,
) -> Box:
    """A square of whole pixels that holds the box at a random place in it, on the slice as far as it can lie.

    At most as large as the slice's longer side, as in the predictor's second look.
    """
    longest = max(box.width, box.height)
    side = int(np.ceil(min(max(rng.uniform(*sides) * longest, least_px), max(shape_yx))))
    starts = []
    for low, high, size in ((box.x0, box.x1, shape_yx[1]), (box.y0, box.y1, shape_yx[0])):
        first, last = int(np.ceil(high)) - side, int(np.floor(low))
        start = int(rng.integers(min(first, last), max(first, last) + 1))
        starts.append(min(max(start, 0), size - side) if side <= size else 0)
    return Box(starts[0], starts[1], starts[0] + side, starts[1] + side)


def _moved(box: Box, origin: Box) -> Box:
    """A box in the coordinates of another's upper left corner."""
    return Box(box.x0 - origin.x0, box.y0 - origin.y0, box.x1 - origin.x0, box.y1 - origin.y0)


def _turn(shape_yx: tuple[int, ...], degrees: float) -> tuple[npt.NDArray[np.float64], Any]:
    """The matrix and the offset, for a turn about the slice's centre, from turned to native (y, x)."""
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = (np.array(shape_yx) - 1) / 2
    return matrix, centre - matrix @ centre


def _rotate(slice_hu: Slice, degrees: float, seen: Box) -> Slice:
    """The ``seen`` part of a slice turned about its centre, by linear interpolation; air comes in at the corners."""
    matrix, offset = _turn(slice_hu.shape, degrees)
    turned: Slice = ndimage.affine_transform(
        slice_hu,
        matrix,
        offset + matrix @ (seen.y0, seen.x0),
        output_shape=(int(seen.height), int(seen.width)),
        order=1,
        cval=-100.0,
    )
    return turned


def _rotate_labels(labels: Labels, degrees: float) -> Labels:
    """Labels turned about the slice's centre, by the nearest neighbour; only where they can land is looked at."""
    matrix, offset = _turn(labels.shape, degrees)
    out = np.zeros_like(labels)
    held = box_from_mask(labels > 0)
    assert held is not None
    corners = np.array([[y, x] for y in (held.y0, held.y1) for x in (held.x0, held.x1)])
    landing = np.linalg.solve(matrix, (corners - offset).T).T  # native -> turned
    (y0, x0), (y1, x1) = landing.min(axis=0) - 1, landing.max(axis=0) + 1
    area = Box(np.floor(x0), np.floor(y0), np.ceil(x1), np.ceil(y1)).clip(
        (out.shape[0], out.shape[1])
    )
    if area.width <= 0 or area.height <= 0:
        return out
    out[area.slices()] = ndimage.affine_transform(
        labels,
        matrix,
        offset + matrix @ (area.y0, area.x0),
        output_shape=(int(area.height), int(area.width)),
        order=0,
    )
    return out


def _paste(
    donor_hu: Slice,
    piece: Mask,
    inside_donor: Mask,
    hu: Slice,
    inside: Mask,
    rng: np.random.Generator,
) -> tuple[Slice, Mask] | None:
    """Lay a donor's piece of blood into another head: (HU, mask of the blood), or None where it does not fit."""
    head_donor, head, extent = (box_from_mask(mask) for mask in (inside_donor, inside, piece))
    if head_donor is None or head is None or extent is None:
        return None
    size_donor, size = (np.array([box.height, box.width]) for box in (head_donor, head))
    gap_donor, _ = _nearest(piece[::_STEP, ::_STEP], inside_donor[::_STEP, ::_STEP])
    # What lies along the bone stays along it; what lies free may turn and move more.
    most_degrees, most_shift = (5, 0.02) if gap_donor <= 1.5 else (15, 0.04)
    mirror = np.array([1.0, rng.choice([-1.0, 1.0])])
    scale = size / size_donor * rng.uniform(0.8, 1.25)
    from_centre = (_centre(extent) - _centre(head_donor)) / size_donor * mirror
    centre = _centre(head) + (from_centre + rng.uniform(-most_shift, most_shift, size=2)) * size
    turn, _ = _turn((1, 1), rng.uniform(-most_degrees, most_degrees))
    patch = _Patch(np.diag(mirror / scale) @ turn, _centre(extent), _reach(extent, scale), hu.shape)

    centre = centre + _way_to_bone(patch, centre, piece, inside, gap_donor)
    window = patch.window(centre)
    if min(hu[window].shape) < 3:
        return None
    donor = patch.warp(donor_hu, centre)
    room = inside[window] & (hu[window] < BONE_HU) & (donor < BONE_HU)
    soft = patch.warp(piece, centre) * room
    blood = np.zeros(hu.shape, dtype=bool)
    blood[window] = soft >= 0.5
    if blood.sum() < 0.5 * piece.sum() * scale.prod():
        return None
    edge_px = 1.2 * max(hu.shape) / REFERENCE_SIDE
    weight = np.clip(ndimage.gaussian_filter(soft, edge_px), 0, 1) * room
    shift = _brain_median(hu, inside) - _brain_median(donor_hu, inside_donor)
    mixed = hu.copy()
    mixed[window] += weight * (donor + np.float32(shift) - hu[window])
    return mixed, blood


@dataclass(frozen=True)
class _Patch:
    """A part of one slice to be drawn on another, about a centre: ``matrix`` leads from (y, x) there to (y, x) here."""

    matrix: npt.NDArray[np.float64]
    centre_here: npt.NDArray[np.float64]
    reach_px: int
    shape_there: tuple[int, ...]

    def window(self, centre: npt.NDArray[np.float64]) -> tuple[slice, slice]:
        """The (rows, columns) there that the patch covers."""
        rows, columns = (
            slice(
                max(0, int(middle) - self.reach_px), min(size, max(0, int(middle) + self.reach_px))
            )
            for middle, size in zip(centre, self.shape_there, strict=True)
        )
        return rows, columns

    def warp(self, array: npt.NDArray[Any], centre: npt.NDArray[np.float64]) -> Slice:
        """An array from here in the window there, by linear interpolation; 0 beyond its edge."""
        rows, columns = self.window(centre)
        offset = self.centre_here + self.matrix @ (np.array([rows.start, columns.start]) - centre)
        warped: Slice = ndimage.affine_transform(
            array.astype(np.float32),
            self.matrix,
            offset,
            output_shape=(max(0, rows.stop - rows.start), max(0, columns.stop - columns.start)),
            order=1,
        )
        return warped


def _way_to_bone(
    patch: _Patch,
    centre: npt.NDArray[np.float64],
    piece: Mask,
    inside: Mask,
    gap_donor: float,
) -> npt.NDArray[np.float64]:
    """How far to move a patch, (y, x) in pixels, so that its blood is as close to bone as it was in the donor.

    Blood that would lie in the bone is moved half of the way out (the rest is cut off, for skulls bend
    unlike each other), and blood with a wider gap to the bone than in the donor towards it. ``gap_donor`` is in steps
    of ``_STEP`` pixels, in which all of this is measured; one step either way is left as it is.
    """
    landed = np.zeros(inside.shape, dtype=bool)
    landed[patch.window(centre)] = patch.warp(piece, centre) >= 0.5
    landed, inside = landed[::_STEP, ::_STEP], inside[::_STEP, ::_STEP]
    depth, inward = _farthest(landed, ~inside)
    if depth > 1:
        return _STEP * inward / 2
    gap, outward = _nearest(landed, inside)
    if gap > gap_donor + 1:
        return _STEP * outward * (1 - gap_donor / gap)
    return np.zeros(2)


def _farthest(blood: Mask, region: Mask) -> tuple[float, npt.NDArray[np.float64]]:
    """How deep blood lies in a region at most, in pixels, and the way (y, x) out of it from there."""
    return _way_out(blood & region, region, np.argmax, 0.0)


def _nearest(blood: Mask, region: Mask) -> tuple[float, npt.NDArray[np.float64]]:
    """How deep blood lies in a region at least, in pixels, and the way (y, x) out of it from there."""
    return _way_out(blood, region, np.argmin, np.inf)


def _way_out(
    blood: Mask, region: Mask, choose: Callable[..., Any], elsewhere: float
) -> tuple[float, npt.NDArray[np.float64]]:
    if not blood.any() or region.all():
        return 0.0, np.zeros(2)
    distance, nearest = ndimage.distance_transform_edt(region, return_indices=True)
    at = np.unravel_index(choose(np.where(blood, distance, elsewhere)), blood.shape)
    way = np.array([nearest[0][at] - at[0], nearest[1][at] - at[1]], dtype=np.float64)
    return float(distance[at]), way


def _centre(box: Box) -> npt.NDArray[np.float64]:
    return np.array([(box.y0 + box.y1) / 2, (box.x0 + box.x1) / 2])


def _reach(box: Box, scale: npt.NDArray[np.float64]) -> int:
    """Half the side of a square that holds a scaled box however it is turned, with room for a blended edge."""
    return int(np.hypot(box.height, box.width) / 2 * scale.max()) + 8


def _brain_median(slice_hu: Slice, inside: Mask) -> float:
    """The median HU inside the skull between water and blood, from every fourth row and column."""
    sample = slice_hu[::4, ::4][inside[::4, ::4]]
    sample = sample[(sample > 5) & (sample < 55)]
    return float(np.median(sample)) if sample.size else 35.0
