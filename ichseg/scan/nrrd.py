"""NRRD (``.seg.nrrd`` too) and MetaImage through SimpleITK: scans and masks in, masks out.

Both hold an affine in double precision, so that a mask lies exactly where its scan lies. ITK's LPS coordinates are met
only here. What a ``.seg.nrrd`` says of its segments is what 3D Slicer writes and shows; a MetaImage, of which no
program reads such fields, has the lesions as JSON. https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html
"""

# mypy: disallow-untyped-calls=False
# SimpleITK ships types for the arguments of its functions, but not for what they return.
from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ichseg.files.mask_header import MADE_BY, MaskContent
from ichseg.marks.document import Lesion
from ichseg.scan.hounsfield import Plane, offset_notes, stack_hounsfield
from ichseg.scan.intake import NRRD_ENDINGS, InputFile
from ichseg.scan.volume import (
    CTVolume,
    FileAxes,
    Float,
    Geometry,
    check_size,
    check_spacing,
    display_axes,
    grid_geometry,
    place_labels,
    refusal,
    spacing_notes,
    whole_labels,
)

if TYPE_CHECKING:
    import SimpleITK as sitk

#: Endings of the names that this writes.
WRITTEN = (".seg.nrrd", ".nrrd", ".mha")

_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_MAX_HEADER_BYTES = 1 << 20
_REMEDY = "save it again as one .nrrd or .mha file"
_RECORD, _LESION = "ichseg_", "ichseg_lesion_"
_NO_SIDE = "The file does not say which side is which: left and right may be swapped."


def read_scan(file: InputFile, add_offset: int = 0) -> CTVolume:
    """Open a scan; see ``ichseg.scan.volume.read_volume``. Raises VolumeError where it is none."""
    with TemporaryDirectory() as folder, file.open() as stream:
        path = Path(folder) / file.name  # ITK reads nothing but a file on a disk
        with path.open("wb") as copy:
            shutil.copyfileobj(stream, copy)
        return _scan(path, add_offset)


def _scan(path: Path, add_offset: int) -> CTVolume:
    _, geometry, hu, notes, axes = _opened(path, least=2)
    if hu.ndim > 3:
        raise refusal(
            path.name,
            "a CT voxel is one grey value",
            f"this file has {hu.shape[3]} a voxel",
            "export the scan itself, not a picture or a segmentation of it",
        )
    check_spacing(path.name, geometry)
    planes = (Plane(plane, 1.0, float(add_offset)) for plane in hu)
    hu_zyx, value_notes = stack_hounsfield(path.name, (len(hu), *hu.shape[1:]), planes)
    hu_zyx.setflags(write=False)
    name = path.name
    for ending in (*NRRD_ENDINGS, ".seg"):
        name = name.removesuffix(ending)
    return CTVolume(
        hu_zyx,
        geometry,
        name,
        (*spacing_notes(geometry), *notes, *value_notes, *offset_notes(add_offset)),
        file_axes=axes,
    )


def read_mask_image(path: Path, volume: CTVolume) -> MaskContent:
    """Read a mask drawn on ``volume``, whole or cropped, with the segments that 3D Slicer describes in it.

    A segment's label is its own value where those differ, else (in several layers) its number from 1.

    Raises:
        VolumeError: no such file, another grid than the scan's, labels other than whole numbers 0..255, or several
            values a voxel without a description of the segments.

    """
    image, geometry, values, _, _ = _opened(path, least=1)
    name = path.name
    # The name of a damaged field may be none that ITK takes back.
    keys = [key for key in image.GetMetaDataKeys() if key.isascii()]
    fields = {key: str(image.GetMetaData(key)) for key in keys}
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
    return MaskContent(place_labels(name, labels, geometry, volume), record, lesions, notes=notes)


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
    import SimpleITK as sitk

    geometry = volume.geometry
    if not geometry.is_even:
        raise refusal(
            volume.name,
            f"a {suffix} mask needs evenly spaced slices",
            "this series has not",
            "write a DICOM-SEG (.dcm) or the archive of slices (.zip)",
        )
    axes, flips = _stored_axes(volume)
    flipped = tuple(axis for axis, flip in enumerate(flips) if flip)
    stored_ijk = np.flip(labels_zyx, flipped).transpose(np.argsort(axes))
    image = sitk.GetImageFromArray(np.ascontiguousarray(stored_ijk.transpose(2, 1, 0)))
    matrix, origin = _stored_affine(geometry, volume.shape_zyx, axes, flips)
    spacing = np.linalg.norm(matrix, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix / spacing * _LPS_TO_RAS[:, None]).ravel().tolist())
    image.SetOrigin((origin * _LPS_TO_RAS).tolist())
    fields = _record_fields(record)
    if suffix == ".mha":
        # A field each: MetaImage's readers have a longest line.
        fields += [(f"{_LESION}{one['id']}", json.dumps(one)) for one in record["lesions"]]
    else:
        fields += _segment_fields(stored_ijk, lesions)
    for key, text in fields:
        image.SetMetaData(key, text)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"mask{suffix}"
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        sitk.WriteImage(image, str(path), True)
        return path.read_bytes()


# --- Reading -----------------------------------------------------------------------------------------


def _is_nrrd(head: bytes) -> bool:
    return head[:4] == b"NRRD"


def _is_meta_image(head: bytes) -> bool:
    return re.match(rb"\s*(ObjectType|NDims)\s*=", head) is not None


def _opened(
    path: Path, least: int
) -> tuple[sitk.Image, Geometry, NDArray[Any], tuple[str, ...], FileAxes]:
    """The image, the geometry of its display frame, its values [z, y, x(, layer)] there, notes, and the file's axes."""
    import SimpleITK as sitk

    name, rule = path.name, "a scan or a mask in NRRD or MetaImage is one whole file"
    nrrd = _check_header(path)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # it would name the file on the console
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if nrrd else "MetaImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size = reader.GetSize()
        if len(size) != 3 or min(size) < least:
            shape = " x ".join(map(str, size))
            received = f"this file has {shape}"
            at_least = f"{least} slices of {least} x {least} pixels or more"
            raise refusal(name, f"a scan is one 3-D volume of {at_least}", received, _REMEDY)
        voxels = int(np.prod(size, dtype=np.int64)) * reader.GetNumberOfComponents()
        check_size(name, voxels, _bytes_each(reader))
        image = reader.Execute()
        values = sitk.GetArrayFromImage(image)
    except RuntimeError as error:
        raise refusal(name, rule, "this one is damaged or cannot be read", _REMEDY) from error
    if values.dtype.kind not in "iuf":
        raise refusal(name, "a voxel is one number", f"this file has {values.dtype.name}", _REMEDY)
    directions = np.array(image.GetDirection(), dtype=np.float64).reshape(3, 3)
    matrix = directions * np.array(image.GetSpacing()) * _LPS_TO_RAS[:, None]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, np.array(image.GetOrigin()) * _LPS_TO_RAS
    lengths = np.linalg.norm(matrix, axis=0)
    if (
        not np.isfinite(affine).all()
        or lengths.min() == 0
        or abs(np.linalg.det(matrix / lengths)) < 0.1
    ):
        received = "they hold NaN, or axes that are not independent"
        raise refusal(name, "its directions must give every voxel its place", received, _REMEDY)
    axes, flips = display_axes(matrix)
    shape_ijk = (int(size[0]), int(size[1]), int(size[2]))
    geometry = grid_geometry(affine, shape_ijk, axes, flips)
    # numpy has the file's axes in reverse: k, j, i, and then the values of a voxel
    rest = tuple(range(3, values.ndim))
    turned = values.transpose(*(2 - axis for axis in axes), *rest)
    view = np.flip(turned, tuple(axis for axis, flip in enumerate(flips) if flip))
    unsaid = nrrd and "NRRD_space" not in image.GetMetaDataKeys()
    return image, geometry, view, (_NO_SIDE,) if unsaid else (), (axes, flips)


def _bytes_each(reader: sitk.ImageFileReader) -> int:
    import SimpleITK as sitk

    text = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    bits = re.search(r"(\d+)-bit", text)
    return int(bits[1]) // 8 if bits else 8


def _check_header(path: Path) -> bool:
    """Whether the file is NRRD, else MetaImage; refused where its voxels are in another file than this.

    A header can name any file of the machine, so none but the file itself is read.
    """
    name = path.name
    with path.open("rb") as stream:
        head = stream.read(_MAX_HEADER_BYTES)
    if _is_nrrd(head):
        header = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0]
        apart = re.search(rb"data ?file\s*:", header, re.IGNORECASE) is not None
    elif _is_meta_image(head):
        # MetaImage's readers take : for =. The first mention counts, and only as a line of its own.
        first = re.search(rb"(^[ \t]*)?ElementDataFile(\s*[=:]\s*LOCAL\s)?", head, re.MULTILINE)
        if first is None:
            received = "this one does not"
            raise refusal(name, "a MetaImage says where its voxels are", received, _REMEDY)
        apart = first[1] is None or first[2] is None
    else:
        rule = f"a file named {path.suffix.lower()} is NRRD or MetaImage"
        raise refusal(name, rule, "this one is something else", _REMEDY)
    if apart:
        raise refusal(
            name,
            "a scan or a mask is one file with its voxels in it",
            "this is a header whose voxels are in another file",
            _REMEDY,
        )
    return _is_nrrd(head)


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
    from ichseg.files.dicom_seg import overlap_notes, segment_lesion, unfit_notes

    if not segments:
        return layers[..., 0], (), ()
    try:
        places = [(int(one["Layer"]), int(one["LabelValue"])) for one in segments]
    except ValueError as error:
        raise refusal(
            name, "a segment's layer and value are numbers", str(error), _REMEDY
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
    from ichseg.files.dicom_seg import code_in, type_of

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


# --- Writing -----------------------------------------------------------------------------------------


def _stored_axes(volume: CTVolume) -> FileAxes:
    """Which of the axes i, j, k of the scan's own file is z, y and x on screen, and whether it runs the other way.

    As ITK reads that file: of a DICOM series it orders the slices along the cross product of row and column.
    """
    if volume.file_axes is not None:
        return volume.file_axes
    if volume.source is not None:
        return volume.source.axes, volume.source.flips
    if volume.dicom is None:
        return (2, 1, 0), (False, False, False)
    row, column = np.array(volume.dicom.orientation[:3]), np.array(volume.dicom.orientation[3:])
    _, y, x = volume.dicom.axes
    _, flip_y, flip_x = volume.dicom.flips
    return (2, 2 - y, 2 - x), (bool(np.cross(row, column)[2] < 0), flip_y, flip_x)


def _stored_affine(
    geometry: Geometry,
    shape_zyx: tuple[int, int, int],
    axes: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
) -> tuple[Float, Float]:
    """Steps along the file's axes i, j, k as columns [3, 3], and the place of its first voxel, RAS+ mm."""
    display = geometry.affine
    steps_zyx = display[:3, [2, 1, 0]]
    signs = np.where(flips, -1.0, 1.0)
    matrix = np.empty((3, 3))
    matrix[:, list(axes)] = steps_zyx * signs
    origin = display[:3, 3].copy()
    for axis, flip in enumerate(flips):
        if flip and axis == 0:
            origin += geometry.origins_mm[-1] - geometry.origins_mm[0]
        elif flip:
            origin += steps_zyx[:, axis] * (shape_zyx[axis] - 1)
    return matrix, origin


def _segment_fields(
    labels_ijk: NDArray[np.uint8], lesions: Sequence[Lesion]
) -> list[tuple[str, str]]:
    """What 3D Slicer reads of the segments that have a voxel."""
    from ichseg.files.dicom_seg import ABNORMAL, TYPE_CODES

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
        kind, region = TYPE_CODES[lesion.type]
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
