"""What a mask file says of itself in its header: the scan that it belongs to, the method, and what its labels are.

One record, as JSON on one line, for every format that has a place for it: NIfTI's comment extension, a private element
of a DICOM-SEG, a field of NRRD and MetaImage, the file beside a mask. No patient's data is in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ichseg import NOTICE, __version__
from ichseg.json_fields import RecordError, json_field, parse_json

if TYPE_CHECKING:
    from ichseg.marks.lesion import Lesion
    from ichseg.scan.volume import CTVolume

#: The key by which a record is told from other people's comments.
MADE_BY = "ichseg_mask"


@dataclass(frozen=True, eq=False)
class MaskContent:
    """What one format's reader takes from a mask file, on the scan's grid.

    Attributes:
        labels_zyx: uint8 [z, y, x] of the scan's shape.
        record: what the program that wrote it said (``mask_record``); empty for other people's files.
        lesions: what the format's own fields say of the labels.
        refers_to_scan: whether the file names the scan by other means than a record, as DICOM does.
        notes: sentences to say to the user.

    """

    labels_zyx: npt.NDArray[np.uint8]
    record: Mapping[str, Any] = field(default_factory=dict)
    lesions: tuple[Lesion, ...] = ()
    refers_to_scan: bool = False
    notes: tuple[str, ...] = ()


def mask_record(
    volume: CTVolume, lesions: Iterable[Lesion] = (), *, method: str | None = None, made: str = ""
) -> dict[str, Any]:
    """What a mask of ``volume`` says of itself.

    Args:
        volume: the scan.
        lesions: what the labels stand for; none for a mask of 0 and 1.
        method: the name of the method whose mask it is; None where a person drew it, or nobody knows.
        made: the identity of all that decided the mask (``Identity.short``); empty where that is not known.

    Returns:
        Keys: ``ichseg_mask`` (the version that wrote it), ``scan_sha256`` (``CTVolume.sha256``), ``scan_label``,
        ``method``, ``identity`` (``made``), ``lesions`` (id, name, type, colour), ``warnings`` (what makes a
        millilitre of the scan doubtful), ``notice``.

    """
    return {
        MADE_BY: __version__,
        "scan_sha256": volume.sha256,
        "scan_label": volume.label,
        "method": method,
        "identity": made,
        "lesions": [
            {"id": one.id, "name": one.name, "type": one.type, "colour": one.colour}
            for one in lesions
        ],
        "warnings": list(volume.warnings),
        "notice": NOTICE,
    }


def record_text(record: Mapping[str, Any]) -> str:
    """A record as JSON on one line."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


def parse_record(text: str) -> dict[str, Any] | None:
    """The record in a text; None where the text is another one."""
    try:
        record = parse_json(text.encode())
    except RecordError:
        return None
    return record if isinstance(record, dict) and MADE_BY in record else None


def checked_record(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same record, whose scan, method and identity are texts. Raises RecordError where one is not."""
    for key in ("scan_sha256", "scan_label", "method", "identity"):
        json_field(record, key, "text", default=None, or_null=True)
    return record


def short_text(record: Mapping[str, Any], most: int = 79) -> str:
    """Scan, method and identity of a record in at most ``most`` ASCII characters, such as NIfTI's ``descrip`` takes.

    >>> record = {"scan_sha256": "0123456789abcdef" * 4, "method": "litemedsam-rslora", "identity": "89abcdef0123"}
    >>> short_text(record)
    'scan 0123456789ab, litemedsam-rslora 89abcdef0123; not for clinical use'
    """
    method, identity = record.get("method") or "", record.get("identity") or ""
    resampled = "resampled to a regular grid, " if record.get("resampled_from") else ""
    said = f"{resampled}scan {record['scan_sha256'][:12]}"
    by = " ".join(part for part in (method, identity) if part)
    end = "; not for clinical use"
    room = most - len(said) - len(", ") - len(end)
    text = f"{said}, {by[:room]}{end}" if by else f"{said}{end}"
    return text.encode("ascii", "replace").decode()
