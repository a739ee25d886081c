"""What leaves the program: mask, table, picture, and the record from which the same mask is made again.

Nothing here carries a patient's name: files have neutral names, a scan is known by the SHA-256 of its voxels, and no
header, label or time of the source is copied. Every file states the notice.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import operator
import platform
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ichseg import __version__
from ichseg.errors import BoxError, InputError, VolumeError
from ichseg.measure import slice_table, volume_ml
from ichseg.preprocess import BRAIN, Window
from ichseg.prompt import Box
from ichseg.render import render_slice
from ichseg.volume import CTVolume, write_mask

NOTICE = "Research software. Not a medical device. Not for clinical use."

#: Neutral names for downloads.
MASK_NAME = "hematoma-mask.nii.gz"
SLICES_NAME = "hematoma-mask-slices.zip"
TABLE_NAME = "hematoma-volume.csv"
SESSION_NAME = "hematoma-session.json"


def picture_name(k: int) -> str:
    """The file name of a picture of slice k (from 0); people count from 1."""
    return f"hematoma-slice-{k + 1:03d}.png"


def mask_name(volume: CTVolume) -> str:
    """The file name of a scan's mask: NIfTI where that can hold it, else the archive of slices."""
    return MASK_NAME if volume.geometry.is_even else SLICES_NAME


def save_mask(path: str | Path, mask_zyx: npt.ArrayLike, volume: CTVolume) -> None:
    """Write a scan's mask in the format of the file's name: .nii, .nii.gz or .zip.

    ``mask_zyx`` is [z, y, x]; not 0 is in. NIfTI is written on the scan's own grid and affine, and
    refused with a VolumeError for an unevenly spaced series; the archive (``slices_zip``) holds any. Raises
    InputError where the folder is not there or the file cannot be written.
    """
    path = Path(path)
    check_mask_path(path, volume)
    if path.suffix.lower() == ".zip":
        write_file(path, slices_zip(mask_zyx, volume))
        return
    try:
        write_mask(path, np.asarray(mask_zyx) != 0, volume)
    except OSError as error:
        raise _unwritable(path, error) from error


def check_mask_path(path: Path, volume: CTVolume) -> None:
    """Refuse, before any work is done, a place or a format that cannot take a scan's mask."""
    if not path.name.lower().endswith((".nii", ".nii.gz", ".zip")):
        raise InputError(
            f"A mask is written as .nii.gz, .nii or .zip (a PNG a slice); got {path.name}; "
            f"name it e.g. {mask_name(volume)}."
        )
    if not path.parent.is_dir():
        raise InputError(
            f"A file is written into a folder that is there; for {path.name} there is no folder "
            f"{path.parent.name}; make it first."
        )
    if not (path.suffix.lower() == ".zip" or volume.geometry.is_even):
        raise VolumeError(
            f"NIfTI holds evenly spaced slices only; this scan's are not, so {path.name} would put voxels "
            f"where they are not; write {SLICES_NAME} instead."
        )


def write_file(path: Path, content: bytes) -> None:
    """Write bytes to a file, or raise InputError with the reason why it cannot be."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"An output file must be writable; {path.name} is not ({error.strerror or error}); "
        "choose another place."
    )


def table_csv(mask_zyx: npt.ArrayLike, volume: CTVolume) -> bytes:
    """A mask's table as CSV in UTF-8: a row for each slice that holds some of it, the total, the notice.

    Columns: ``slice`` (from 1, as people count), ``index`` (from 0), ``area_mm2``, ``height_mm`` (the slice's own),
    ``volume_ml``.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["slice", "index", "area_mm2", "height_mm", "volume_ml"])
    for row in slice_table(mask_zyx, volume):
        numbers = (row.area_mm2, row.height_mm, row.volume_ml)
        writer.writerow(
            [row.slice_index + 1, row.slice_index, *(f"{value:.4f}" for value in numbers)]
        )
    writer.writerow(["total", "", "", "", f"{volume_ml(mask_zyx, volume):.4f}"])
    writer.writerow([NOTICE])
    return text.getvalue().encode()


def slice_png(
    volume: CTVolume,
    k: int,
    *,
    mask_yx: npt.ArrayLike | None = None,
    boxes: Sequence[Box] = (),
    window: Window = BRAIN,
    scale: float = 2.0,
    opacity: float = 0.25,
    caption: str = "",
) -> bytes:
    """A picture of slice k with mask and boxes (``render.render_slice``) as PNG, the notice below it."""
    rgb = render_slice(
        volume,
        k,
        mask_yx=mask_yx,
        boxes=boxes,
        window=window,
        scale=scale,
        opacity=opacity,
        caption=f"{caption}   {NOTICE}" if caption else NOTICE,
    )
    return _png(Image.fromarray(rgb))


def slices_zip(mask_zyx: npt.ArrayLike, volume: CTVolume) -> bytes:
    """A mask as an archive that any series fits in: mask-001.png ... for all slices, and the table.

    Each PNG is 8-bit grey, 0 or 255, one pixel for each of the slice's, rows anterior to posterior, columns from
    the patient's right to left; slices from 1 at the foot end. The same mask gives the same bytes.
    """
    mask = np.asarray(mask_zyx) != 0
    table = table_csv(mask, volume)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(name: str, data: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)

        add(TABLE_NAME, table)
        for k, mask_yx in enumerate(mask):
            add(f"mask-{k + 1:03d}.png", _png(Image.fromarray(mask_yx.astype(np.uint8) * 255)))
        add("README.txt", _SLICES_README.encode())
    return content.getvalue()


_SLICES_README = f"""A hematoma mask, one picture a slice: mask-001.png is the scan's lowest slice.
White pixels are blood. One picture pixel is one pixel of the scan; the patient's right is on the left.
{TABLE_NAME} has each slice's area, its own height, and millilitres.

{NOTICE}
"""


def _png(image: Image.Image) -> bytes:
    text = PngInfo()
    text.add_text("Disclaimer", NOTICE)
    content = io.BytesIO()
    image.save(content, "PNG", pnginfo=text, optimize=True)
    return content.getvalue()


#: Of the session record. A reader refuses a later one.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Session:
    """The record of one model's mask on one scan: enough to make the same mask again.

    ``boxes`` maps a slice's index, from 0, to its boxes; ``weights_sha256`` a weight file to its hash;
    ``mask_sha256`` is ``content_sha256`` of the bool mask [z, y, x].
    """

    scan_sha256: str
    shape_zyx: tuple[int, int, int]
    boxes: Mapping[int, tuple[Box, ...]]
    model: str
    weights_sha256: Mapping[str, str] = field(default_factory=dict)
    second_look: bool | None = None
    mask_sha256: str | None = None

    def check_scan(self, volume: CTVolume) -> None:
        """Raise InputError where ``volume`` is not the scan that the record was made on."""
        got = content_sha256(volume.hu_zyx)
        if got != self.scan_sha256:
            raise InputError(
                f"A session belongs to the scan it was made on, with voxels of SHA-256 {self.scan_sha256[:12]}; "
                f"those of {volume.name} have {got[:12]}; open that scan, with the same series and offset."
            )

    def check_weights(self, weights_sha256: Mapping[str, str]) -> None:
        """Raise InputError where a model's weights are not those that the record was made with."""
        if dict(weights_sha256) != dict(self.weights_sha256):
            expected, got = (
                ", ".join(f"{file} {sha[:12]}" for file, sha in sorted(hashes.items())) or "none"
                for hashes in (self.weights_sha256, weights_sha256)
            )
            raise InputError(
                f"A session is run again with its own weights of {self.model}: expected {expected}, got {got}; "
                "fetch those weights, or segment anew from the boxes."
            )


def content_sha256(array: npt.NDArray[Any]) -> str:
    """SHA-256 of an array's values and shape, the same on every machine and for every memory layout."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{little.dtype.str} {little.shape} ".encode())
    digest.update(little.data)
    return digest.hexdigest()


def scan_record(volume: CTVolume) -> dict[str, Any]:
    """What a document says of a scan, without a name: content hash, grid, spacing, what was odd about it.

    Keys: ``sha256`` (``content_sha256`` of the HU), ``shape_zyx``, ``spacing_mm`` (z, y, x; z is the median height),
    ``slice_heights_mm``, ``tilt_degrees``, ``evenly_spaced``, ``notes``.
    """
    return {
        "sha256": content_sha256(volume.hu_zyx),
        "shape_zyx": [int(size) for size in volume.shape_zyx],
        "spacing_mm": [float(size) for size in volume.spacing_mm],
        "slice_heights_mm": [float(height) for height in volume.slice_heights_mm],
        "tilt_degrees": float(volume.geometry.tilt_degrees),
        "evenly_spaced": bool(volume.geometry.is_even),
        "notes": list(volume.notes),
    }


def session_record(
    volume: CTVolume,
    boxes: Mapping[int, Sequence[Box]],
    mask_zyx: npt.ArrayLike,
    *,
    model: str,
    weights_sha256: Mapping[str, str],
    second_look: bool | None = None,
) -> dict[str, Any]:
    """One model's mask of a scan as a JSON document, which ``load_session`` reads.

    ``boxes`` maps a slice's index to its boxes, ``mask_zyx`` is the mask [z, y, x] they gave. Keys:
    ``schema_version``; ``scan`` (``scan_record``); ``boxes``, a list of {``slice`` from 0, ``box_xyxy``}; ``model``;
    ``weights_sha256``, {file: hash}; ``second_look``; ``mask_sha256``; ``slices``, a list of {``slice``, ``area_mm2``,
    ``height_mm``, ``volume_ml``}; ``volume_ml``, the total; ``versions``; ``notice``.
    """
    mask = np.asarray(mask_zyx) != 0
    return {
        "schema_version": SCHEMA_VERSION,
        "scan": scan_record(volume),
        "boxes": boxes_record(boxes),
        "model": model,
        "weights_sha256": dict(weights_sha256),
        "second_look": second_look,
        "mask_sha256": content_sha256(mask),
        "slices": table_record(mask, volume),
        "volume_ml": volume_ml(mask, volume),
        "versions": versions(),
        "notice": NOTICE,
    }


def boxes_record(boxes: Mapping[int, Sequence[Box]]) -> list[dict[str, Any]]:
    """Boxes by slice index for a JSON document: {slice from 0, box_xyxy} a box."""
    return [
        {"slice": int(k), "box_xyxy": [float(value) for value in box.xyxy]}
        for k in sorted(boxes)
        for box in boxes[k]
    ]


def table_record(mask_zyx: npt.ArrayLike, volume: CTVolume) -> list[dict[str, Any]]:
    """``measure.slice_table`` for a JSON document: {slice from 0, area_mm2, height_mm, volume_ml} a row."""
    return [
        {
            "slice": row.slice_index,
            "area_mm2": row.area_mm2,
            "height_mm": row.height_mm,
            "volume_ml": row.volume_ml,
        }
        for row in slice_table(mask_zyx, volume)
    ]


def versions() -> dict[str, str]:
    """Versions of what a mask depends on; a package that is not installed is left out."""
    found = {"ichseg": __version__, "python": platform.python_version()}
    for package in ("numpy", "scipy", "torch", "nibabel", "pydicom"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def json_bytes(record: Mapping[str, Any]) -> bytes:
    """A record as JSON in UTF-8, indented for people. NaN is refused: a record says null."""
    return (json.dumps(record, indent=2, allow_nan=False) + "\n").encode()


def load_session(path: str | Path) -> Session:
    """Read a session record. Raises InputError where the file is not one, or is of a later schema."""
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"A session is a JSON file that can be read; {path.name} cannot ({error.strerror}); "
            "check its path."
        ) from error
    except ValueError as error:
        raise _not_a_session(path, f"it is not JSON ({error})") from error
    version = record.get("schema_version") if isinstance(record, dict) else None
    if not isinstance(version, int):
        raise _not_a_session(path, "it has no schema_version")
    if version > SCHEMA_VERSION:
        raise InputError(
            f"This version reads session records up to schema {SCHEMA_VERSION}; {path.name} has {version}; "
            "update ichseg."
        )
    try:
        return _session(record)
    except BoxError as error:
        raise _not_a_session(path, str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _not_a_session(path, f"a field is missing or of the wrong kind ({error})") from error


def _session(record: Mapping[str, Any]) -> Session:
    depth, rows, columns = (int(size) for size in record["scan"]["shape_zyx"])
    boxes: dict[int, tuple[Box, ...]] = {}
    for entry in record["boxes"]:
        k, box = operator.index(entry["slice"]), Box(*(float(value) for value in entry["box_xyxy"]))
        if not 0 <= k < depth:
            raise ValueError(f"slice {k} of {depth}")
        boxes[k] = (*boxes.get(k, ()), box.validate((rows, columns)))
    return Session(
        scan_sha256=str(record["scan"]["sha256"]),
        shape_zyx=(depth, rows, columns),
        boxes=boxes,
        model=_of_kind(str, record["model"], "model"),
        weights_sha256={str(file): str(sha) for file, sha in record["weights_sha256"].items()},
        second_look=_of_kind(bool | None, record.get("second_look"), "second_look"),
        mask_sha256=_of_kind(str | None, record.get("mask_sha256"), "mask_sha256"),
    )


def _of_kind(kind: Any, value: Any, key: str) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{key} is {value!r}")
    return value


def _not_a_session(path: Path, why: str) -> InputError:
    return InputError(
        f"A session is a record that this program saved; {path.name} is not: {why}; "
        "save the session again, or choose the right file."
    )
