"""What every JSON document of this program says alike: of a scan, of a mask's slices and lesions, of versions."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib import metadata
from typing import Any

import numpy.typing as npt

from ichseg import NOTICE, __version__
from ichseg.commit import commit
from ichseg.marks.lesion import Lesion
from ichseg.measures.volume import slice_table, volume_ml
from ichseg.scan.volume import CTVolume


def lesions_record(
    labels_zyx: npt.NDArray[Any], volume: CTVolume, lesions: Sequence[Lesion]
) -> list[dict[str, Any]]:
    """Lesions for a JSON document: the fields of ``Lesion`` and volume_ml, from a mask of their numbers [z, y, x]."""
    return [
        {**asdict(lesion), "volume_ml": volume_ml(labels_zyx == lesion.id, volume)}
        for lesion in lesions
    ]


def scan_record(volume: CTVolume) -> dict[str, Any]:
    """What a document says of a scan, without a name: content hash, grid, spacing, what was odd about it.

    Keys: ``sha256`` (``content_sha256`` of the HU), ``label`` (what a person calls it, or null), ``shape_zyx``,
    ``spacing_mm`` (z, y, x; z is the median height), ``slice_heights_mm``, ``tilt_degrees``, ``evenly_spaced``,
    ``notes`` (without the names of files), ``warnings`` (sentences that make a millilitre doubtful).
    """
    return {
        "sha256": volume.sha256,
        "label": volume.label or None,
        "shape_zyx": [int(size) for size in volume.shape_zyx],
        "spacing_mm": [float(size) for size in volume.spacing_mm],
        "slice_heights_mm": [float(height) for height in volume.slice_heights_mm],
        "tilt_degrees": float(volume.geometry.tilt_degrees),
        "evenly_spaced": bool(volume.geometry.is_even),
        "notes": [getattr(note, "nameless", note) for note in volume.notes],
        "warnings": list(volume.warnings),
    }


def table_record(mask_zyx: npt.ArrayLike, volume: CTVolume) -> list[dict[str, Any]]:
    """``volume.slice_table`` for a JSON document: {slice from 0, area_mm2, height_mm, volume_ml} a row."""
    return [
        {
            "slice": row.slice_index,
            "area_mm2": row.area_mm2,
            "height_mm": row.height_mm,
            "volume_ml": row.volume_ml,
        }
        for row in slice_table(mask_zyx, volume)
    ]


#: Kept, for each reading parses a file, and a study writes a record for each of its scans.
_version_of = cache(metadata.version)


def versions() -> dict[str, str]:
    """Versions of what a mask depends on, and this program's commit; what is not installed or not known is left out."""
    found = {"ichseg": __version__, "python": platform.python_version()}
    if commit():
        found["commit"] = commit()
    for package in ("numpy", "scipy", "torch", "openvino", "nibabel", "pydicom"):
        try:
            found[package] = _version_of(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def complete(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as it is handed out: with the versions of what made it, and the notice."""
    return {**record, "versions": versions(), "notice": NOTICE}


def json_bytes(record: Mapping[str, Any]) -> bytes:
    """A record as JSON in UTF-8, indented for people. NaN is refused: a record says null."""
    return (json.dumps(record, indent=2, allow_nan=False) + "\n").encode()
