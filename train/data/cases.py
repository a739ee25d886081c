"""One adapter a data set: its files, as they were published, to cases of slices and masks.

``read_cases("ct-ich-1.0.0", root)`` goes through a set one scan at a time, so that no more than one is in
memory. ``DATASETS`` lists the names. An adapter corrects nothing and drops nothing silently: what is left
out by default stands in its docstring and can be asked for.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ichseg.errors import InputError
from ichseg.files.nifti_mask import read_mask
from ichseg.marks.lesion import TYPES as LESION_TYPES
from ichseg.marks.lesion import UNSPECIFIED
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume

#: The types of hemorrhage, as short names: intraparenchymal, intraventricular, subdural, epidural,
#: subarachnoid; and "unknown" where a set marks blood without saying of which type.
TYPES = (
    *(
        row.name.lower()
        for row in LESION_TYPES.values()
        if row.is_blood and row.name != UNSPECIFIED
    ),
    "unknown",
)

#: The columns of CT-ICH's table of slices.
_CT_ICH_COLUMNS = {
    "Intraventricular": "ivh",
    "Intraparenchymal": "iph",
    "Subarachnoid": "sah",
    "Epidural": "edh",
    "Subdural": "sdh",
}

#: BHSD's labels, from the set's own dataset.json.
_BHSD_LABELS = {1: "edh", 2: "iph", 3: "ivh", 4: "sah", 5: "sdh"}


#: Millimetres a pixel that CT-ICH 1.0.0 (650 x 650) is taken to have where a rule is in millimetres: the release gives
#: none. The heads in it are 539 pixels long and 447 wide (medians over its patients, skin to skin on the widest slice),
#: and adults' are about 190 and 155 mm. Only for margins and jitter; never for a volume.
CT_ICH_ASSUMED_PIXEL_MM = 0.35

Labels = npt.NDArray[np.uint8]
SliceTypes = tuple[tuple[str, ...], ...]


class DataError(InputError):
    """A data set that is not laid out, sized or labelled as its adapter expects."""


@dataclass(frozen=True, eq=False)
class Case:
    """One head CT with its reference mask, in memory. Arrays are [z, y, x], foot to head, front to back, right to left.

    ``stored`` [z, y, x] holds the values as published (uint8, int16 or float32): HU = stored * hu_slope
    + hu_intercept. ``masks`` bool [z, y, x] is any hemorrhage. ``slice_types`` has the types on each
    slice (empty: none is recorded); a slice can have a type and no mask, which is then not a slice
    without blood. ``kind`` is the type with the largest marked area, "none" without any blood.
    ``slice_numbers`` are the data set's own. Spacing and heights are None where the set does not give them.
    Several scans may share a ``patient_id``; ``scan_id`` is unique in its set.
    """

    patient_id: str
    scan_id: str
    kind: str
    stored: npt.NDArray[np.generic]
    masks: npt.NDArray[np.bool_]
    slice_types: SliceTypes
    slice_numbers: tuple[int, ...]
    hu_slope: float = 1.0
    hu_intercept: float = 0.0
    pixel_spacing_mm: tuple[float, float] | None = None
    slice_heights_mm: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.stored.shape != self.masks.shape or self.stored.ndim != 3:
            raise DataError(
                f"A mask has its image's own slices, rows and columns; {self.scan_id} has an image of "
                f"{self.stored.shape} and a mask of {self.masks.shape}; restore the published files, and "
                "resize neither."
            )
        lengths = {len(self.slice_types), len(self.slice_numbers), len(self.stored)}
        if self.slice_heights_mm is not None:
            lengths.add(len(self.slice_heights_mm))
        if len(lengths) > 1:
            raise DataError(
                f"Every slice of {self.scan_id} has a number, a list of types and a height; got lengths "
                f"{sorted(lengths)}; restore the published files."
            )

    def slice_hu(self, index: int) -> npt.NDArray[np.float32]:
        """Slice ``index``, from 0, in HU: float32 [y, x]."""
        return to_hu(self.stored[index], self.hu_slope, self.hu_intercept)


def to_hu(
    stored: npt.NDArray[np.generic], slope: float, intercept: float
) -> npt.NDArray[np.float32]:
    """Published values to HU: float32 of the same shape."""
    hu: npt.NDArray[np.float32] = stored.astype(np.float32)
    hu *= np.float32(slope)
    hu += np.float32(intercept)
    return hu


@dataclass(frozen=True)
class DataSet:
    """An adapter with what a person must know before using the set."""

    read: Callable[[Path], Iterator[Case]]
    title: str
    licence: str


def read_cases(dataset: str, root: str | Path) -> Iterator[Case]:
    """Go through the scans of a data set under ``root``, sorted by name, one in memory at a time.

    Raises DataError for a name that is not in ``DATASETS``, a folder that is not there, or files that do not
    fit the set's layout.
    """
    if dataset not in DATASETS:
        raise DataError(
            f"A data set is one of {', '.join(DATASETS)}; got '{dataset}'; use 'folder' for your own scans."
        )
    root = Path(root)
    if not root.is_dir():
        raise DataError(
            f"A data set is read from a folder; '{root.name}' is not one; give the folder that holds the "
            "published files."
        )
    return DATASETS[dataset].read(root)


def read_ct_ich_1_0_0(root: Path, *, with_patient_070: bool = False) -> Iterator[Case]:
    """CT-ICH 1.0.0, the JPG release: ``Patients_CT/NNN/brain/S.jpg`` and ``S_HGE_Seg.jpg``.

    Hssayeni et al., "Computed Tomography Images for Intracranial Hemorrhage Detection and Segmentation",
    PhysioNet, doi:10.13026/w8q8-ky94. Licence CC BY 4.0: attribution is required, also for what is trained on it.
    Slices are numbered from 1 at the skull base. Images are 8-bit grey at window level 40, width 120, so
    HU = grey * 120 / 255 - 20, clipped to [-20, 100]. Masks are cut at grey 128. Types are those of
    ``hemorrhage_diagnosis.csv``. The in-plane spacing was not published.

    Patient 070 is left out: its collection is chronic and darker than the brain around it, which is not
    what a model for acute blood must learn. ``with_patient_070`` brings it back.
    """
    types = _ct_ich_types(_one_file(root, "hemorrhage_diagnosis.csv"))
    for folder in _folders(root / "Patients_CT"):
        if folder.name == "070" and not with_patient_070:
            continue
        numbers = sorted(
            int(path.stem) for path in (folder / "brain").glob("*.jpg") if path.stem.isdecimal()
        )
        if not numbers:
            raise DataError(
                f"A patient has slices brain/1.jpg, 2.jpg, ...; patient {folder.name} has none; restore "
                "the published files."
            )
        grey, masks = zip(*(_ct_ich_slice(folder / "brain", n) for n in numbers), strict=True)
        slice_types = _types_of(types, folder.name, numbers)
        marked = np.stack(masks)
        yield Case(
            patient_id=folder.name,
            scan_id=folder.name,
            kind=_kind(slice_types, marked),
            stored=np.stack(grey),
            masks=marked,
            slice_types=slice_types,
            slice_numbers=tuple(numbers),
            hu_slope=120 / 255,
            hu_intercept=-20.0,
        )


def read_ct_ich_1_3(root: Path, *, with_patient_070: bool = False) -> Iterator[Case]:
    """CT-ICH 1.3.x, the NIfTI release: ``ct_scans/NNN.nii``, ``masks/NNN.nii``, ``hemorrhage_diagnosis_raw_ct.csv``.

    The same patients as 1.0.0, in full HU and with spacing: never mix the two. Version 1.3.1 is under the
    PhysioNet Restricted Health Data License 1.5.0: it may not be redistributed or shared, nor may anyone try to
    identify a patient, and every user signs for access. Do not commit, upload or publish images of it.
    Slice S of the table is the S-th from the skull base. Patient 070 is left out as in 1.0.0.
    """
    types = _ct_ich_types(
        _one_file(root, "hemorrhage_diagnosis_raw_ct.csv", "hemorrhage_diagnosis.csv")
    )
    for scan in _nifti_files(root / "ct_scans"):
        name = _stem(scan)
        if name == "070" and not with_patient_070:
            continue
        rows = sum(patient == int(name) for patient, _ in types)

        def types_of(labels: Labels, name: str = name, rows: int = rows) -> SliceTypes:
            return _types_of(types, name, list(range(1, rows + 1)), len(labels))

        yield _nifti_case(name, scan, _matching(root / "masks", name), types_of)


def read_instance22(root: Path) -> Iterator[Case]:
    """INSTANCE 2022, training part: ``data/NNN.nii.gz`` and ``label/NNN.nii.gz`` (0 background, 1 blood).

    Li et al., arXiv:2301.03281. The set is given out to people who sign the challenge's agreement
    (instance.grand-challenge.org): it may not be passed on, so do not commit, upload or publish images of it,
    and read that agreement before publishing weights that were trained on it. One scan a patient; the
    type of the blood is not recorded.
    """
    for scan in _nifti_files(root / "data"):
        name = _stem(scan)
        yield _nifti_case(name, scan, _matching(root / "label", name), _unknown_types)


def read_bhsd(root: Path) -> Iterator[Case]:
    """BHSD: ``images/ID_<patient>_ID_<study>.nii.gz`` and ``ground truths/`` with the same names.

    Labels: 1 epidural, 2 intraparenchymal, 3 intraventricular, 4 subarachnoid, 5 subdural. Wu et al., MLMI
    2023; masks under the MIT licence. The scans are from the RSNA 2019 hemorrhage challenge, whose terms
    allow academic research and education and other non-commercial use only. The file name's first
    ID is RSNA's patient, who may have several studies: it, not the file, is the patient to split by.
    """
    for scan in _nifti_files(root / "images"):
        name = _stem(scan)
        patient = re.match(r"(ID_[0-9a-f]+)_ID_", name)
        yield _nifti_case(
            name,
            scan,
            _matching(root / "ground truths", name),
            _bhsd_types,
            patient_id=patient.group(1) if patient else name,
        )


def read_folder(root: Path) -> Iterator[Case]:
    """Your own scans, in the paper's layout: ``images/NAME.nii.gz`` with ``masks/NAME.nii.gz`` or ``.npy``.

    A ``.npy`` mask has the array order of its NIfTI image on disk (x, y, z as nibabel returns it), which is
    what the paper's preprocessing expects. Any value above 0 is blood. A name is one patient;
    where a patient has several scans, name them ``PATIENT__SCAN.nii.gz`` so that a split keeps them together.
    """
    for scan in _nifti_files(root / "images"):
        name = _stem(scan)
        yield _nifti_case(
            name,
            scan,
            _matching(root / "masks", name),
            _unknown_types,
            patient_id=name.split("__")[0],
        )


#: Every data set that ``python -m train prepare --dataset`` takes.
DATASETS: Mapping[str, DataSet] = {
    "ct-ich-1.0.0": DataSet(
        read_ct_ich_1_0_0,
        "CT-ICH 1.0.0 (PhysioNet, JPG)",
        "CC BY 4.0; Hssayeni et al., doi:10.13026/w8q8-ky94",
    ),
    "ct-ich-1.3": DataSet(
        read_ct_ich_1_3,
        "CT-ICH 1.3.x (PhysioNet, NIfTI)",
        "PhysioNet Restricted Health Data License 1.5.0; may not be shared; doi:10.13026/4nae-zg36",
    ),
    "instance22": DataSet(
        read_instance22,
        "INSTANCE 2022 (MICCAI challenge, training part)",
        "challenge agreement, signed by each user; may not be passed on; arXiv:2301.03281",
    ),
    "bhsd": DataSet(
        read_bhsd,
        "BHSD (MLMI 2023, scans from the RSNA 2019 challenge)",
        "masks MIT; scans for non-commercial use only under the RSNA terms; arXiv:2308.11298",
    ),
    "folder": DataSet(read_folder, "a folder of NIfTI scans", "yours to know"),
}


def _ct_ich_slice(folder: Path, number: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """The grey values and the mask of one JPG slice; without a mask file there is no blood."""
    grey = _grey(folder / f"{number}.jpg")
    path = folder / f"{number}_HGE_Seg.jpg"
    mask = _grey(path) >= 128 if path.exists() else np.zeros(grey.shape, dtype=bool)
    if mask.shape != grey.shape:
        raise DataError(
            f"A mask has its image's own rows and columns; {path.name} of patient {folder.parent.name} is "
            f"{mask.shape} for an image of {grey.shape}; restore the published file."
        )
    return grey, mask


def _grey(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def _ct_ich_types(table: Path) -> dict[tuple[int, int], tuple[str, ...]]:
    """CT-ICH's table of slices: (patient, slice) -> the types of blood on it."""
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.DictReader(file) if (row.get("PatientNumber") or "").strip()]
    missing = {"PatientNumber", "SliceNumber", *_CT_ICH_COLUMNS} - set(rows[0] if rows else ())
    if missing:
        raise DataError(
            f"The table of slices has one column a type; {table.name} lacks {', '.join(sorted(missing))}; "
            "restore the published file."
        )
    return {
        (int(float(row["PatientNumber"])), int(float(row["SliceNumber"]))): tuple(
            short
            for column, short in _CT_ICH_COLUMNS.items()
            if row[column].strip() in ("1", "1.0")
        )
        for row in rows
    }


def _types_of(
    types: Mapping[tuple[int, int], tuple[str, ...]],
    patient: str,
    numbers: list[int],
    slices: int | None = None,
) -> SliceTypes:
    """The types on each of a patient's slices; every slice must be in the table, and no other."""
    absent = [number for number in numbers if (int(patient), number) not in types]
    if absent or (slices is not None and slices != len(numbers)):
        raise DataError(
            f"The table of slices has one row a slice; patient {patient} has "
            f"{len(numbers) if slices is None else slices} slices and {len(numbers) - len(absent)} rows that "
            "fit; restore the published table."
        )
    return tuple(types[int(patient), number] for number in numbers)


def _nifti_case(
    scan_id: str,
    scan: Path,
    mask: Path,
    types_of: Callable[[Labels], SliceTypes],
    patient_id: str | None = None,
) -> Case:
    """A NIfTI scan with the mask on its grid; ``types_of`` takes the labels [z, y, x]."""
    volume = read_volume(scan)
    labels = _npy_labels(mask, scan, volume) if mask.suffix == ".npy" else read_mask(mask, volume)
    slice_types = types_of(labels)
    return Case(
        patient_id=patient_id or scan_id,
        scan_id=scan_id,
        kind=_kind(slice_types, labels > 0),
        stored=volume.hu_zyx,
        masks=labels > 0,
        slice_types=slice_types,
        slice_numbers=tuple(range(1, len(labels) + 1)),
        pixel_spacing_mm=tuple(float(mm) for mm in volume.geometry.spacing_yx_mm),  # type: ignore[arg-type]
        slice_heights_mm=tuple(float(mm) for mm in volume.slice_heights_mm),
    )


def _npy_labels(mask: Path, scan: Path, volume: CTVolume) -> Labels:
    """A .npy mask, in its NIfTI image's array order on disk, as labels [z, y, x]."""
    try:
        array = np.load(mask, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"A .npy mask is a plain array of numbers; {mask.name} is not ({error}); save it with numpy.save."
        ) from error
    grid = volume.source
    if grid is None or array.ndim != 3 or grid.to_display(array).shape != volume.shape_zyx:
        raise DataError(
            f"A .npy mask has the shape of its image's array on disk; {mask.name} is {array.shape} and "
            f"{scan.name} is {volume.shape_zyx} as slices, rows, columns; save the mask in the image's own order."
        )
    labels: Labels = np.ascontiguousarray(grid.to_display(array) > 0).astype(np.uint8)
    return labels


def _unknown_types(labels: Labels) -> SliceTypes:
    return tuple(("unknown",) if plane.any() else () for plane in labels)


def _bhsd_types(labels: Labels) -> SliceTypes:
    """The types on each slice, the largest first."""
    counts = [np.bincount(plane.ravel(), minlength=6) for plane in labels]
    if any(count[6:].any() for count in counts):
        raise DataError(
            f"BHSD's labels are 0 to 5; got {int(labels.max())}; restore the published mask."
        )
    return tuple(
        tuple(_BHSD_LABELS[i] for i in sorted(_BHSD_LABELS, key=lambda i: -count[i]) if count[i])
        for count in counts
    )


def _kind(slice_types: SliceTypes, masks: npt.NDArray[np.bool_]) -> str:
    """The type with the largest marked area; a slice of several types counts for each in equal parts."""
    areas = dict.fromkeys(TYPES, 0.0)
    for types, mask in zip(slice_types, masks, strict=True):
        for name in types:
            areas[name] += np.count_nonzero(mask) / len(types)
    best = max(areas, key=lambda name: areas[name])
    if areas[best] > 0:
        return best
    return "unknown" if masks.any() or any(slice_types) else "none"


def _folders(parent: Path) -> list[Path]:
    folders = sorted(path for path in parent.glob("*") if path.is_dir()) if parent.is_dir() else []
    if not folders:
        raise DataError(
            f"This data set has one folder a patient in '{parent.name}'; there is none; give the folder "
            f"that holds '{parent.name}'."
        )
    return folders


def _nifti_files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.glob("*") if _is_nifti(path)) if folder.is_dir() else []
    if not files:
        raise DataError(
            f"This data set has its scans as .nii or .nii.gz in '{folder.name}'; there is none; give the "
            f"folder that holds '{folder.name}'."
        )
    return files


def _matching(folder: Path, name: str) -> Path:
    """The mask that goes with a scan's name."""
    for suffix in (".nii.gz", ".nii", ".npy"):
        if (path := folder / f"{name}{suffix}").exists():
            return path
    raise DataError(
        f"Every scan has a mask of its own name in '{folder.name}'; {name} has none; add one (all zero where "
        "there is no blood) or take the scan out."
    )


def _one_file(root: Path, *names: str) -> Path:
    for name in names:
        if (root / name).exists():
            return root / name
    raise DataError(
        f"This data set comes with {' or '.join(names)}; '{root.name}' has none; give the folder that holds it."
    )


def _is_nifti(path: Path) -> bool:
    return path.name.endswith((".nii", ".nii.gz")) and not path.name.startswith(".")


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
