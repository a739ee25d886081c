"""Masks as NRRD (``.seg.nrrd`` too) and MetaImage, with what they say of their segments.

A ``.seg.nrrd`` says of its segments what 3D Slicer writes and shows; a MetaImage, of which no program reads such
fields, has the lesions as JSON. https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ichseg.errors import refusal
from ichseg.files.mask_grid import place_labels, whole_labels
from ichseg.files.mask_header import MADE_BY, MaskContent
from ichseg.files.segments import (
    ABNORMAL,
    code_in,
    codes_of,
    overlap_notes,
    segment_lesion,
    type_of,
    unfit_notes,
)
from ichseg.marks.lesion import Lesion
from ichseg.scan.nrrd import REMEDY, image_bytes, open_image, stored
from ichseg.scan.volume import CTVolume

#: Endings of the names that this writes.
WRITTEN = (".seg.nrrd", ".nrrd", ".mha")

_RECORD, _LESION = "ichseg_", "ichseg_lesion_"


def read_mask_image(path: Path, volume: CTVolume) -> MaskContent:
    """Read a mask drawn on ``volume``, whole or cropped, with the segments that 3D Slicer describes in it.

    A segment's label is its own value where those differ, else (in several layers) its number from 1.

    Raises:
        VolumeError: no such file, another grid than the scan's, labels other than whole numbers 0..255, or several
            values a voxel without a description of the segments.

    """
    image = open_image(path, least=1)
    name, values, fields = path.name, np.array(image.values), image.fields
    layers = whole_labels(name, values if values.ndim == 4 else values[..., None])
    segments = _segments(fields, layers.shape[3])
    if not segments and layers.shape[3] > 1:
        raise refusal(
            name,
            "a mask has one label a voxel, or segments that are described",
            f"this file has {layers.shape[3]} values a voxel and no description",
            "save it as a labelmap",
        )
    labels, lesions, notes = _merged(name, layers, segments)
    record = _record(fields)
    return MaskContent(
        place_labels(name, labels, image.geometry, volume), record, lesions, notes=notes
    )


def mask_bytes(
    suffix: str,
    labels_zyx: NDArray[np.uint8],
    volume: CTVolume,
    lesions: Sequence[Lesion],
    record: Mapping[str, Any],
) -> bytes:
    """A mask as a file's content: on the scan's own grid, in double precision, with its segments for 3D Slicer.

    Args:
        suffix: one of WRITTEN.
        labels_zyx: uint8 [z, y, x] of the scan's shape; each lesion's voxels have its number.
        volume: the scan.
        lesions: what the numbers stand for.
        record: what the file says of itself (``mask_header.mask_record``), written field by field.

    Raises:
        VolumeError: unevenly spaced slices, which no affine holds.

    """
    if not volume.geometry.is_even:
        raise refusal(
            volume.name,
            f"a {suffix} mask needs evenly spaced slices",
            "this series has not",
            "write a DICOM-SEG (.dcm) or the archive of slices (.zip)",
        )
    fields = _record_fields(record)
    if suffix == ".mha":
        # A field each: MetaImage's readers have a longest line.
        fields += [(f"{_LESION}{one['id']}", json.dumps(one)) for one in record["lesions"]]
    else:
        fields += _segment_fields(stored(volume, labels_zyx), lesions)
    return image_bytes(suffix, labels_zyx, volume, fields)


def _segments(fields: Mapping[str, str], layers: int) -> list[dict[str, str]]:
    """The described segments in their order, each with ``Name``, ``LabelValue``, ``Layer`` and what else is said."""
    found: dict[int, dict[str, str]] = {}
    for key, text in fields.items():
        if named := re.fullmatch(r"Segment(\d+)_(\w+)", key):
            found.setdefault(int(named[1]), {})[named[2]] = text
    segments = [found[number] for number in sorted(found)]
    for number, segment in enumerate(segments):
        segment.setdefault("LabelValue", "1")
        # Before there were layers, each segment had one of its own.
        segment.setdefault("Layer", str(number if layers > 1 else 0))
    return segments


def _merged(
    name: str, layers: NDArray[np.uint8], segments: Sequence[Mapping[str, str]]
) -> tuple[NDArray[np.uint8], tuple[Lesion, ...], tuple[str, ...]]:
    """One label a voxel from layers [z, y, x, layer], what the labels are, and what to say of it."""
    if not segments:
        return layers[..., 0], (), ()
    try:
        places = [(int(one["Layer"]), int(one["LabelValue"])) for one in segments]
    except ValueError as error:
        raise refusal(
            name, "a segment's layer and value are numbers", str(error), REMEDY
        ) from error
    values = [value for _, value in places]
    own = len(set(values)) == len(values)
    if len(set(places)) < len(places) or not all(
        0 <= layer < layers.shape[3] and 0 < value < 256 for layer, value in places
    ):
        raise refusal(
            name,
            f"a segment has a value from 1 to 255 of its own in one of the {layers.shape[3]} layers",
            f"these have (layer, value) {', '.join(map(str, places[:5]))}",
            "save the segmentation again",
        )
    labels = np.zeros(layers.shape[:3], dtype=np.uint8)
    overlapping, lesions, strange = 0, [], []
    for number, (segment, (layer, value)) in enumerate(zip(segments, places, strict=True), 1):
        mask, label = layers[..., layer] == value, value if own else number
        overlapping += int(np.count_nonzero(mask & (labels != 0)))
        labels[mask] = label
        title = segment.get("Name", "")
        kind = _type_in_tags(segment.get("Tags", ""), title)
        if kind is None:
            strange.append(title or f"Segment {label}")
        lesions.append(segment_lesion(label, title, kind, _rgb(segment.get("Color", ""))))
    described = np.zeros(layers.shape[:3], dtype=bool)
    for layer in range(layers.shape[3]):
        known = [value for at, value in places if at == layer]
        described |= (layers[..., layer] != 0) & ~np.isin(layers[..., layer], known)
    if described.any():
        raise refusal(
            name,
            "every label of a segmentation is one of its segments",
            f"{np.count_nonzero(described):,} voxels have a value of none",
            "save the segmentation again",
        )
    return labels, tuple(lesions), (*overlap_notes(name, overlapping), *unfit_notes(name, strange))


def _type_in_tags(tags: str, name: str) -> str | None:
    """The lesion type that 3D Slicer's terminology entry names, or else the segment's name (``dicom_seg.type_of``)."""
    entry = next((tag for tag in tags.split("|") if tag.startswith("TerminologyEntry:")), "")
    # TerminologyEntry:context~category~type~its modifier~anatomic context~region~its modifier
    parts = (*entry.partition(":")[2].split("~"), *[""] * 7)
    region = code_in(parts[5])
    return type_of(code_in(parts[2]), [region] if region else [], name)


def _rgb(text: str) -> tuple[int, int, int] | None:
    """A segment's colour, three shares of 1, as three numbers from 0 to 255; None where it is none."""
    try:
        red, green, blue = (round(255 * min(max(float(part), 0.0), 1.0)) for part in text.split())
    except (ValueError, OverflowError):
        return None
    return red, green, blue


def _segment_fields(
    labels_ijk: NDArray[np.uint8], lesions: Sequence[Lesion]
) -> list[tuple[str, str]]:
    """What 3D Slicer reads of the segments that have a voxel."""
    fields = [
        ("Segmentation_ContainedRepresentationNames", "Binary labelmap|"),
        ("Segmentation_ConversionParameters", ""),
        ("Segmentation_MasterRepresentation", "Binary labelmap"),
        ("Segmentation_SourceRepresentation", "Binary labelmap"),
        ("Segmentation_ReferenceImageExtentOffset", "0 0 0"),
    ]
    number = 0
    for lesion in lesions:
        there = np.nonzero(labels_ijk == lesion.id)
        if not there[0].size:
            continue
        kind, region = codes_of(lesion.type)
        entry = "~".join(
            [
                "Segmentation category and type - DICOM master list",
                *(
                    f"{code.scheme_designator}^{code.value}^{code.meaning}"
                    for code in (ABNORMAL, kind)
                ),
                "^^",
                "Anatomic codes - DICOM master list",
                f"{region.scheme_designator}^{region.value}^{region.meaning}",
                "^^",
            ]
        )
        extent = " ".join(f"{axis.min()} {axis.max()}" for axis in there)
        for key, text in {
            "ID": f"Segment_{lesion.id}",
            "Name": lesion.name,
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{part / 255:.6g}" for part in lesion.rgb),
            "ColorAutoGenerated": "0",
            "LabelValue": str(lesion.id),
            "Layer": "0",
            "Extent": extent,
            "Tags": f"Segmentation.Status:inprogress|TerminologyEntry:{entry}|",
        }.items():
            fields.append((f"Segment{number}_{key}", text))
        number += 1
    return fields


def _record(fields: Mapping[str, str]) -> dict[str, Any]:
    """The record in the fields of a file of this program; empty for other programs'."""
    if MADE_BY not in fields:
        return {}
    record: dict[str, Any] = {
        key.removeprefix(_RECORD): text for key, text in fields.items() if key.startswith(_RECORD)
    }
    try:
        record["lesions"] = [
            json.loads(text) for key, text in fields.items() if key.startswith(_LESION)
        ]
        record["lesions"].sort(key=lambda one: one["id"])
    except (ValueError, KeyError, TypeError, RecursionError):
        record["lesions"] = [None]  # for the caller to refuse
    return record


def _record_fields(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A record's fields but the lesions, which the segments are: each under a name of this program's."""
    fields = []
    for key, value in record.items():
        if key == "lesions":
            continue
        text = " ".join(value) if isinstance(value, list) else str(value or "")
        if text:  # ITK warns of an empty one
            fields.append((_RECORD + key.removeprefix(_RECORD), text.replace("\n", " ")))
    return fields
