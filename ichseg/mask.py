"""Masks that were made before: one reader for the command line, the page, cohorts and the library.

A mask is read onto the scan that it belongs to, with what the file says of its labels. What comes of it never has
another grid than the scan's: nothing is resampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ichseg.export import lesions_path, read_lesion_rows, read_sidecar
from ichseg.mask_header import parse_record
from ichseg.segmentation import Lesion
from ichseg.volume import CTVolume, ScanPath, read_nifti_mask, refusal

#: What is said of a mask that does not tell which scan it belongs to.
UNKNOWN_SCAN = (
    "Nothing in {name} says which scan it belongs to: its voxels lie where this scan's lie, and that is all that could"
    " be checked."
)


@dataclass(frozen=True, eq=False)
class LabelledMask:
    """A mask on a scan's grid, and what its file says of it.

    Attributes:
        labels_zyx: uint8 [z, y, x] of the scan's shape; 0 is background.
        lesions: what the labels stand for, as the file itself or the sidecar beside it says; empty where neither does.
        scan_sha256: ``CTVolume.sha256`` of the scan that it was made on, where the file says so.
        notes: sentences to say to the user.
        method: the name of the method whose mask it is, where the file says so.
        identity: what decided the mask besides (weights, versions), where the file says so.

    """

    labels_zyx: npt.NDArray[np.uint8]
    lesions: tuple[Lesion, ...] = ()
    scan_sha256: str | None = None
    notes: tuple[str, ...] = ()
    method: str | None = None
    identity: str = ""

    @property
    def blood_zyx(self) -> npt.NDArray[np.bool_]:
        """The mask of all blood, bool [z, y, x]: of every label but oedema's."""
        oedema = [lesion.id for lesion in self.lesions if not lesion.is_blood]
        return (self.labels_zyx != 0) & ~np.isin(self.labels_zyx, oedema)


def read_labelled_mask(path: ScanPath, volume: CTVolume) -> LabelledMask:
    """Read a mask that was drawn on ``volume``, with what its labels stand for.

    What the file itself says goes before the sidecar beside it (``export.lesions_path``), and the two must agree.

    Raises:
        VolumeError: no mask, a mask of another scan or another grid, labels other than whole numbers 0..255, or a
            file and a sidecar that contradict each other.
        InputError: the sidecar cannot be read.

    """
    path = Path(path)
    labels, comments = read_nifti_mask(path, volume)
    records = [record for text in comments if (record := parse_record(text)) is not None]
    said = _said(path.name, volume, records[-1] if records else {}, read_sidecar(path))
    return LabelledMask(labels, **said)


def _said(
    name: str,
    volume: CTVolume,
    record: Mapping[str, Any],
    sidecar: Mapping[str, Any],
    lesions: Sequence[Lesion] = (),
) -> dict[str, Any]:
    """The fields of ``LabelledMask`` but the labels, from what a file and its sidecar say of them.

    Refused where that does not fit the scan, or one contradicts the other. ``lesions`` are what the format's own
    fields say of the labels.
    """
    for said in (record, sidecar):
        _check_scan(name, said.get("scan_sha256"), volume)
    own = tuple(lesions) or _lesions(name, record)
    beside = sidecar.get("lesions", ())
    if own and beside:
        _check_agreement(name, own, beside)
    sha256 = record.get("scan_sha256") or sidecar.get("scan_sha256") or None
    return {
        # The sidecar also says which lesion is locked or hidden.
        "lesions": beside or own,
        "scan_sha256": sha256,
        "method": record.get("method") or sidecar.get("method"),
        "identity": record.get("identity") or sidecar.get("identity") or "",
        "notes": () if sha256 else (UNKNOWN_SCAN.format(name=name),),
    }


def _check_scan(name: str, sha256: Any, volume: CTVolume) -> None:
    if sha256 and sha256 != volume.sha256:
        raise refusal(
            name,
            "a mask belongs to the scan that it was made on",
            f"it was made on one whose voxels have SHA-256 {str(sha256)[:12]}, and those of this scan have"
            f" {volume.sha256[:12]}",
            "give that scan, with the same series and offset, or this scan's own mask",
        )


def _lesions(name: str, record: Mapping[str, Any]) -> tuple[Lesion, ...]:
    """The lesions in a header's record."""
    try:
        return read_lesion_rows(record["lesions"]) if record.get("lesions") else ()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise refusal(
            name,
            "what a mask's labels stand for is a list of lesions",
            f"the one in its header cannot be read ({error})",
            "save the mask again",
        ) from error


def _check_agreement(name: str, own: Sequence[Lesion], beside: Sequence[Lesion]) -> None:
    """Refuse a sidecar that calls a label otherwise than the mask's own header does."""
    there = {lesion.id: lesion for lesion in beside}
    for lesion in own:
        other = there.get(lesion.id)
        if other is None or (lesion.name, lesion.type) != (other.name, other.type):
            said = f"'{other.name}' of type {other.type}" if other else "nothing"
            raise refusal(
                name,
                "a mask and the file beside it say the same of its labels",
                f"label {lesion.id} is '{lesion.name}' of type {lesion.type} in the mask and {said} in "
                f"{lesions_path(Path(name)).name}",
                "delete the file that is wrong, or save the mask again",
            )
