"""What files are called. Every name that the program gives by itself is made here, without a patient's data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ichseg.errors import InputError
from ichseg.scan.volume import CTVolume

#: How the names of a scan's files end (``file_name``).
MASK, MASK_SLICES, SLICES, SESSION = (
    *("mask.nii.gz", "mask-slices.zip", "slices.csv", "session.json"),
)

#: In the name of the file that says which lesion each label of a mask is, and in an archive of slices.
LESIONS_NAME = "lesions.json"

#: What a scan may be called by a person: short, and safe in every file system, table and shell.
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,22}[A-Za-z0-9])?")


def file_name(volume: CTVolume, ending: str) -> str:
    """The name of a file of a scan: what the scan is called (``CTVolume.called``), and what the file is.

    Every name that the program gives by itself is made here.

    >>> from ichseg.sample import sample_paths
    >>> from ichseg.scan.read import read_volume
    >>> file_name(with_label(read_volume(sample_paths()[0]), "ward-3"), MASK)
    'hematoma-ward-3-mask.nii.gz'
    """
    return f"hematoma-{volume.called}-{ending}"


def picture_ending(k: int) -> str:
    """How the name of a picture of slice k (from 0) ends; people count from 1.

    >>> picture_ending(0)
    'slice-001.png'
    """
    return f"slice-{k + 1:03d}.png"


def mask_name(volume: CTVolume) -> str:
    """The file name of a scan's mask: NIfTI where that can hold it, else the archive of slices."""
    return file_name(volume, MASK if volume.geometry.is_even else MASK_SLICES)


def with_label(volume: CTVolume, label: str) -> CTVolume:
    """The same scan, called by a person's label in files; by its hash where the label is empty.

    Raises InputError for a label that is long or has other signs than A-Z, a-z, 0-9, - and _.
    """
    label = label.strip()
    if label and not _LABEL.fullmatch(label):
        raise InputError(
            "A scan's label is 1 to 24 letters A-Z, digits, - and _, with a letter or digit at each end; "
            f"got '{label[:40]}'; choose another, never a patient's name."
        )
    return replace(volume, label=label)


def lesions_path(mask_path: Path) -> Path:
    """Where ``save_mask`` says what a mask's labels stand for.

    >>> lesions_path(Path("hematoma-ward-3-mask.nii.gz")).name
    'hematoma-ward-3-mask-lesions.json'
    """
    stem = re.sub(r"\.nii(\.gz)?$", "", mask_path.name, flags=re.IGNORECASE)
    return mask_path.with_name(f"{stem}-{LESIONS_NAME}")


def ending_of(path: Path, endings: Iterable[str]) -> str:
    """Which of ``endings`` a file's name has, the longest that fits; empty for none. Capitals do not count."""
    name = path.name.lower()
    return max((ending for ending in endings if name.endswith(ending)), key=len, default="")


def of_scan(path: Path, number: int, endings: Iterable[str]) -> Path:
    """A file's name for another scan of the person, before the longest of the endings.

    >>> of_scan(Path("mask.nii.gz"), 3, [".gz", ".nii.gz"]).name
    'mask-scan3.nii.gz'
    """
    stem = path.name[: len(path.name) - len(ending_of(path, endings))]
    return path.with_name(f"{stem}-scan{number}{path.name[len(stem) :]}")
