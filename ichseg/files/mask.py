"""Masks that were made before: one reader for the command line, the page, cohorts and the library.

A mask is read onto the scan that it belongs to, with what the file says of its labels. What comes of it never has
another grid than the scan's: nothing is resampled.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from ichseg.errors import InputError, VolumeError, refusal
from ichseg.files.archive import SLICE_NAME, read_slices
from ichseg.files.mask_header import MaskContent, checked_record, parse_record
from ichseg.files.names import lesions_path
from ichseg.files.nifti_mask import read_nifti_mask
from ichseg.files.sidecar import read_sidecar
from ichseg.json_fields import RecordError
from ichseg.marks.lesion import Lesion
from ichseg.marks.record import read_lesion_rows
from ichseg.measures.volume import volume_ml
from ichseg.scan.grid import grid_of
from ichseg.scan.hounsfield import check_size
from ichseg.scan.intake import kind_on_disk
from ichseg.scan.volume import CTVolume, ScanPath

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


@dataclass(frozen=True)
class MaskReader:
    """A row of the table: one format of masks.

    Args:
        key: of the format.
        knows: whether a file is of it, by its path and its first 132 bytes.
        read: the file onto the scan that it was drawn on; raises VolumeError where it is not such a mask.

    """

    key: str
    knows: Callable[[Path, bytes], bool]
    read: Callable[[Path, CTVolume], MaskContent]


# Each reader brings a library that is imported only when it is needed.


def _read_dicom(path: Path, volume: CTVolume) -> MaskContent:
    from ichseg.files.dicom_seg_read import read_segmentation

    return read_segmentation(path, volume)


def _read_nrrd(path: Path, volume: CTVolume) -> MaskContent:
    from ichseg.files.nrrd_mask import read_mask_image

    return read_mask_image(path, volume)


def _read_nifti(path: Path, volume: CTVolume) -> MaskContent:
    labels, comments = read_nifti_mask(path, volume)
    records = [record for text in comments if (record := parse_record(text)) is not None]
    return MaskContent(labels, records[-1] if records else {})


#: THE table of mask readers: the first that knows a file reads it. NIfTI's is last, for it says what is no mask at all.
READERS: tuple[MaskReader, ...] = (
    MaskReader(
        "dicom-seg",
        lambda path, head: head[128:132] == b"DICM" or path.suffix.lower() == ".dcm",
        _read_dicom,
    ),
    MaskReader("nrrd", lambda path, head: kind_on_disk(path) == "nrrd", _read_nrrd),
    MaskReader("nifti", lambda path, head: True, _read_nifti),
)


def read_labelled_mask(path: ScanPath, volume: CTVolume) -> LabelledMask:
    """Read a mask that was drawn on ``volume``, with what its labels stand for.

    What the file itself says goes before the sidecar beside it (``names.lesions_path``), and the two must agree.

    Raises:
        VolumeError: no mask, a mask of another scan or another grid, labels other than whole numbers 0..255, or a
            file and a sidecar that contradict each other.
        InputError: the sidecar cannot be read.

    """
    path = Path(path)
    return _read(path, path.name, volume)


def read_mask_alone(path: Path, grid: CTVolume | None = None) -> tuple[LabelledMask, CTVolume]:
    """Read a mask without the scan that it was drawn on: NIfTI, NRRD or MetaImage.

    Args:
        path: the mask.
        grid: the grid of another mask of the same scan, onto which it is laid; its own unless given (``grid_of``).

    Returns:
        The mask, and the grid, a scan without values. Raises as ``read_labelled_mask`` does.

    """
    volume = grid_of(path) if grid is None else grid
    with path.open("rb") as stream:
        head = stream.read(132)
    reader = next(one for one in READERS if one.knows(path, head))
    content, sidecar = reader.read(path, volume), read_sidecar(path)
    return _labelled(path.name, content, sidecar, volume, with_scan=False), volume


def _read(path: Path, name: str, volume: CTVolume) -> LabelledMask:
    """``read_labelled_mask`` of a file that people know as ``name``."""
    if not path.is_file():
        raise refusal(name, "a mask is a file", "this is not one that is there", "check the path")
    with path.open("rb") as stream:
        head = stream.read(132)
    if head[:2] == b"PK":
        return _read_zip(path, volume)
    return _labelled_by_format(path, name, head, volume)


def _labelled_by_format(path: Path, name: str, head: bytes, volume: CTVolume) -> LabelledMask:
    """A mask by the reader of its format."""
    reader = next(one for one in READERS if one.knows(path, head))
    return _labelled(name, reader.read(path, volume), read_sidecar(path), volume)


def _labelled(
    name: str,
    content: MaskContent,
    sidecar: Mapping[str, Any],
    volume: CTVolume,
    *,
    with_scan: bool = True,
) -> LabelledMask:
    """A mask with what it and its sidecar say; refused where that is of another scan, or a contradiction."""
    record = _checked(name, content.record)
    for said in (record, sidecar) if with_scan else ():
        _check_scan(name, said.get("scan_sha256"), volume)
    own = content.lesions or _lesions(name, record)
    beside = sidecar.get("lesions", ())
    if own and beside:
        _check_agreement(name, own, beside)
    _check_labels(name, content.labels_zyx, beside or own)
    changed = _changed_since(name, content.labels_zyx, volume, sidecar.get("volumes_ml", {}))
    sha256 = record.get("scan_sha256") or sidecar.get("scan_sha256") or None
    known = sha256 or content.refers_to_scan or not with_scan
    return LabelledMask(
        content.labels_zyx,
        # The sidecar also says which lesion is locked or hidden.
        beside or own,
        sha256,
        (*content.notes, *(() if known else (UNKNOWN_SCAN.format(name=name),)), *changed),
        method=record.get("method") or sidecar.get("method"),
        identity=record.get("identity") or sidecar.get("identity") or "",
    )


def _check_scan(name: str, sha256: Any, volume: CTVolume) -> None:
    if sha256 and sha256 != volume.sha256:
        raise refusal(
            name,
            "a mask belongs to the scan that it was made on",
            f"it was made on one whose voxels have SHA-256 {str(sha256)[:12]}, and those of this scan have"
            f" {volume.sha256[:12]}",
            "give that scan, with the same series and offset, or this scan's own mask",
        )


def _check_labels(name: str, labels_zyx: npt.NDArray[np.uint8], lesions: Sequence[Lesion]) -> None:
    """Refuse a label that the mask's own list of lesions, where it has one, does not name."""
    known = [lesion.id for lesion in lesions]
    strange = sorted({*np.unique(labels_zyx).tolist()} - {0, *known})
    if known and strange:
        raise refusal(
            name,
            f"a mask's labels are those that its own list of lesions names, {', '.join(map(str, known))}",
            f"it also has {', '.join(map(str, strange))}",
            "save the mask again, or take the list away",
        )


def _changed_since(
    name: str,
    labels_zyx: npt.NDArray[np.uint8],
    volume: CTVolume,
    saved_ml: Mapping[int, float],
) -> tuple[str, ...]:
    """A note where a mask's labels have other volumes than when the list beside it was saved.

    Refused where that list is not this mask's: a label is gone or is new, or two have changed places.
    """
    now_ml = {k: volume_ml(labels_zyx == k, volume) for k in saved_ml}
    changed = [k for k, ml in saved_ml.items() if abs(now_ml[k] - ml) > 0.005 + 0.001 * ml]
    if not changed:
        return ()
    what = ", ".join(f"label {k} {saved_ml[k]:.2f} mL, now {now_ml[k]:.2f} mL" for k in changed)
    swapped = np.allclose(sorted(saved_ml.values()), sorted(now_ml.values()), rtol=1e-3, atol=0.005)
    if swapped or any(min(saved_ml[k], now_ml[k]) == 0 for k in changed):
        raise refusal(
            name,
            "a mask holds the labels that the list of lesions beside it was saved with",
            f"it does not: {what}",
            f"save the mask again, or take {lesions_path(Path(name)).name} away",
        )
    return (f"The mask was changed after the list of lesions beside it was saved: {what}.",)


def _lesions(name: str, record: Mapping[str, Any]) -> tuple[Lesion, ...]:
    """The lesions in a header's record."""
    try:
        return read_lesion_rows(record["lesions"]) if record.get("lesions") else ()
    except RecordError as error:
        raise _unreadable(name, error) from error


def _checked(name: str, record: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return checked_record(record)
    except RecordError as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: RecordError) -> VolumeError:
    return refusal(
        name,
        "a mask's header says of which scan it is and what its labels stand for",
        f"what this one says cannot be read ({error})",
        "save the mask again",
    )


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


# --- Archives ----------------------------------------------------------------------------------------

_JUNK = re.compile(r"(^|/)(__MACOSX/|\.)")
_ZIP_RULE = "a mask in a zip is the archive of slices that this program writes, or one mask file"


def _read_zip(path: Path, volume: CTVolume) -> LabelledMask:
    """The archive of ``archive.slices_zip``, or one mask that somebody zipped, with its sidecar if it has one."""
    try:
        with zipfile.ZipFile(path) as archive, TemporaryDirectory() as folder:
            members = {
                member.filename.rsplit("/", 1)[-1]: member
                for member in archive.infolist()
                if not (member.is_dir() or _JUNK.search(member.filename))
            }
            if any(SLICE_NAME.fullmatch(name) for name in members):
                return _labelled(
                    path.name, read_slices(path.name, archive, members, volume), {}, volume
                )
            masks = [name for name in members if not name.lower().endswith(".json")]
            if len(masks) != 1:
                received = f"this one has {len(masks)} other files"
                raise refusal(path.name, _ZIP_RULE, received, "give the mask itself")
            for name, member in members.items():
                check_size(path.name, member.file_size, 1)
                (Path(folder) / name).write_bytes(archive.read(member))
            if zipfile.is_zipfile(Path(folder) / masks[0]):
                raise refusal(path.name, _ZIP_RULE, "this one has another zip in it", "unpack it")
            return _read(Path(folder) / masks[0], path.name, volume)
    except InputError:
        raise
    except (
        Exception
    ) as error:  # zlib, lzma, bz2, zipfile and the pictures' reader each raise their own
        received = "this one is damaged or cannot be unpacked"
        raise refusal(path.name, _ZIP_RULE, received, "copy or download it again") from error
