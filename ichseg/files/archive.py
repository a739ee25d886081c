"""A mask as an archive of slices, which holds any series: written, and read."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ichseg import NOTICE
from ichseg.errors import refusal
from ichseg.files.mask_header import MaskContent, mask_record
from ichseg.files.names import LESIONS_NAME, SLICES
from ichseg.files.picture import png_bytes
from ichseg.files.sidecar import sidecar_bytes
from ichseg.files.tables import slices_csv
from ichseg.json_fields import RecordError, of_kind, parse_json
from ichseg.marks.lesion import Lesion
from ichseg.scan.hounsfield import check_size
from ichseg.scan.volume import CTVolume

#: The pictures in it: which kind, and the number of the slice from 1.
SLICE_NAME = re.compile(r"(mask|labels)-(\d{3,})\.png")


def slices_zip(
    mask_zyx: npt.ArrayLike,
    volume: CTVolume,
    lesions: Sequence[Lesion] = (),
    *,
    method: str | None = None,
    made: str = "",
) -> bytes:
    """A mask as an archive that any series fits in: mask-001.png ... for all slices, and the table.

    Each PNG is 8-bit grey, 0 or 255, one pixel for each of the slice's, rows anterior to posterior, columns from
    the patient's right to left; slices from 1 at the foot end. The same mask gives the same bytes. With ``lesions``
    the mask holds their numbers: the mask is of the blood, labels-001.png ... have each pixel's lesion. lesions.json
    says what they are, which scan they belong to, and how they were made (``mask_header.mask_record``).
    """
    labels = np.asarray(mask_zyx)
    blood = [lesion.id for lesion in lesions if lesion.is_blood]
    mask = np.isin(labels, blood) if lesions else labels != 0
    table = slices_csv(labels, volume, lesions)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(name: str, data: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)

        add(SLICES, table)
        for k, mask_yx in enumerate(mask):
            add(f"mask-{k + 1:03d}.png", png_bytes(Image.fromarray(mask_yx.astype(np.uint8) * 255)))
        if lesions:
            for k, labels_yx in enumerate(labels.astype(np.uint8)):
                add(f"labels-{k + 1:03d}.png", png_bytes(Image.fromarray(labels_yx)))
        record = mask_record(volume, lesions, method=method, made=made)
        add(LESIONS_NAME, sidecar_bytes(labels, volume, lesions, record))
        add("README.txt", "\n".join([_SLICES_README, *volume.warned, NOTICE, ""]).encode())
    return content.getvalue()


_SLICES_README = f"""A hematoma mask, one picture a slice: mask-001.png is the scan's lowest slice.
White pixels are blood. One picture pixel is one pixel of the scan; the patient's right is on the left.
{SLICES} has each slice's area, its own height, and millilitres, lesion by lesion.
Where there are several lesions, labels-001.png has each pixel's lesion by number, and {LESIONS_NAME} says what it is.
{LESIONS_NAME} also has the SHA-256 of the scan's voxels, by which the archive is told from one of another scan.
"""


def read_slices(
    name: str, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], volume: CTVolume
) -> MaskContent:
    """The labels in an archive of slices, else its mask, and what it says of them."""
    depth, rows, columns = volume.shape_zyx
    kinds = {found[1] for each in members if (found := SLICE_NAME.fullmatch(each))}
    kind = "labels" if "labels" in kinds else "mask"
    there = sorted(
        int(found[2])
        for each in members
        if (found := SLICE_NAME.fullmatch(each)) and found[1] == kind
    )
    if there != list(range(1, depth + 1)):
        raise refusal(
            name,
            f"an archive of slices has a picture of each of the scan's {depth} slices",
            f"this one has {len(there)}",
            "give the archive that was made on this scan",
        )
    labels = np.zeros(volume.shape_zyx, dtype=np.uint8)
    for k in range(depth):
        member = members[f"{kind}-{k + 1:03d}.png"]
        check_size(name, member.file_size, 1)
        picture = Image.open(io.BytesIO(archive.read(member)), formats=["PNG"])
        if picture.size != (columns, rows) or picture.mode != "L":
            raise refusal(
                name,
                f"a picture of a slice is {columns} x {rows} in grey",
                f"that of slice {k + 1} is {picture.width} x {picture.height}",
                "give the archive that was made on this scan",
            )
        labels[k] = np.asarray(picture)
    record: dict[str, Any] = {}
    if said := members.get(LESIONS_NAME):
        check_size(name, said.file_size, 1)
        try:
            record = of_kind(parse_json(archive.read(said)), "an object", "it")
        except RecordError as error:
            raise refusal(
                name,
                f"the {LESIONS_NAME} in an archive of slices says what its labels stand for",
                f"in this one {error}",
                "save the archive again",
            ) from error
    if kind == "mask":
        labels = (labels != 0).astype(np.uint8)
    return MaskContent(labels, record)
