"""THE table of writers: every format in which a scan's mask, and what was measured of it, leaves the program.

``WRITERS`` has a row for each format. The command line (by the ending of ``--out``), the page's downloads and cohorts
all write by it, so that a new format is one function and one row (docs/recipes/writer.md). Files bear no patient's data
(see ``dicom_seg.segmentation_bytes`` for the one exception, which must be asked for), the scan's warnings, and the
notice. Lesions' names are written as people typed them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ichseg.errors import InputError, VolumeError
from ichseg.files import tables
from ichseg.files.archive import slices_zip
from ichseg.files.mask_header import mask_record
from ichseg.files.names import ending_of, mask_name
from ichseg.files.records import json_bytes
from ichseg.files.sidecar import is_sidecar, sidecar_bytes
from ichseg.marks.document import Segmentation
from ichseg.marks.lesion import Lesion
from ichseg.measures.assessment import Assessment
from ichseg.measures.timeline import ONE_SCAN
from ichseg.replace_file import check_outputs, write_whole
from ichseg.scan.volume import CTVolume, ScanPath

#: Where a format is offered: for a mask alone, and for one that was measured (``--out`` of measure, the page's menu).
Offer = Literal["mask", "measures"]

#: What a format needs: evenly spaced slices, a scan read from DICOM, the range under jittered boxes, a second scan.
Need = Literal["even slices", "dicom", "range", "follow-up"]

#: For people, where they get a DICOM-SEG without the patient's identity, and with it.
DICOM_PRIVACY = (
    "DICOM files refer to the scan by its UIDs. The patient's name and number are left empty: an archive files them "
    "with the patient only if they are asked for."
)
IDENTIFIED = "DICOM files carry the patient's name, number and birth date, as the scan does: treat them likewise."


@dataclass(frozen=True, eq=False)
class Content:
    """What a file is made of: a labelled mask of a scan, how it came about, and what was measured of it.

    ``labels_zyx`` [z, y, x] holds the numbers of ``lesions``; without them, not 0 is the one lesion. ``method`` is the
    name of the method whose mask it is, None where a person drew it; ``made`` says what else decided it
    (``mask_header.mask_record``). ``found`` is None where nothing was measured. ``identity_from`` are the scan's files,
    where a DICOM-SEG is asked to copy the patient's identity.
    """

    labels_zyx: npt.NDArray[Any]
    volume: CTVolume
    lesions: tuple[Lesion, ...] = ()
    method: str | None = None
    made: str = ""
    weights_sha256: Mapping[str, str] = field(default_factory=dict)
    found: Assessment | None = None
    identity_from: ScanPath | Sequence[ScanPath] | None = None
    name: str = ""
    """The file's, for the text of an error."""

    @classmethod
    def of(
        cls,
        found: Assessment,
        identity_from: ScanPath | Sequence[ScanPath] | None = None,
        name: str = "",
    ) -> Content:
        """That of an assessment."""
        return cls(
            found.labels_zyx,
            found.volume,
            found.lesions,
            found.model,
            "" if found.identity is None else found.identity.short,
            found.weights_sha256,
            found,
            identity_from,
            name,
        )

    @property
    def record(self) -> dict[str, Any]:
        """What the file says of itself."""
        return mask_record(self.volume, self.lesions, method=self.method, made=self.made)

    @property
    def named_lesions(self) -> tuple[Lesion, ...]:
        """The lesions, or the one that a mask of 0 and 1 has."""
        return self.lesions or (Lesion(1),)

    @cached_property
    def dicom_seg(self) -> bytes:
        """The mask as DICOM-SEG: made once, for a structured report refers to its segments by their UIDs."""
        from ichseg.files.dicom_seg import segmentation_bytes

        return segmentation_bytes(
            self.labels_zyx,
            self.volume,
            self.named_lesions,
            model=self.method,
            weights_sha256=self.weights_sha256,
            made=self.made,
            identity_from=self.identity_from,
        )

    @property
    def measured(self) -> Assessment:
        """What was measured; a format is offered only where there is what it is made of."""
        assert self.found is not None
        return self.found


@dataclass(frozen=True)
class Writer:
    """A row of the table: one format.

    Args:
        key: by which the page asks for it.
        title: what people call it.
        ending: of the file's name, in small letters.
        name: what the name ends in where the program gives it (``names.file_name``).
        write: the function that makes the file's content.
        offered: where it can be asked for.
        needs: what has to be there, checked before any work is done.
        beside: other files that come with it, by how their names end in place of ``ending``; None is written as none.
        note: what the page's menu of downloads says of it beside the title; not in that menu where it is empty.

    """

    key: str
    title: str
    ending: str
    name: str
    write: Callable[[Content], bytes]
    offered: frozenset[Offer]
    needs: frozenset[Need] = frozenset()
    beside: Mapping[str, Callable[[Content], bytes | None]] = field(default_factory=dict)
    note: str = ""


# --- The functions, each with its library imported only when it is asked for -----------------------


def _nifti(it: Content) -> bytes:
    from ichseg.files.nifti_mask import mask_bytes

    return mask_bytes(it.name or "mask.nii.gz", it.labels_zyx, it.volume, it.record)


def _nrrd(suffix: str) -> Callable[[Content], bytes]:
    def write(it: Content) -> bytes:
        from ichseg.files.nrrd_mask import mask_bytes

        labels = it.labels_zyx.astype(np.uint8)
        return mask_bytes(suffix, labels, it.volume, it.named_lesions, it.record)

    return write


def _structured_report(it: Content) -> bytes:
    from ichseg.files.dicom_sr import report_bytes

    return report_bytes(it.measured, it.dicom_seg, it.identity_from)


def _archive(it: Content) -> bytes:
    return slices_zip(it.labels_zyx, it.volume, it.lesions, method=it.method, made=it.made)


def _labels_beside(it: Content) -> bytes | None:
    return sidecar_bytes(it.labels_zyx, it.volume, it.lesions, it.record) if it.lesions else None


def _report(it: Content) -> bytes:
    from ichseg.files.report import report_pdf

    return report_pdf(it.measured)


def _timeline_plot(it: Content) -> bytes:
    from ichseg.files.report_timeline import timeline_svg

    return timeline_svg(it.measured.timeline)


def _stl(it: Content) -> bytes:
    from ichseg.files.mesh import stl_bytes

    return stl_bytes(it.labels_zyx, it.volume, it.named_lesions)


def _glb(it: Content) -> bytes:
    from ichseg.files.mesh import glb_bytes

    return glb_bytes(it.labels_zyx, it.volume, it.named_lesions)


# --- The table -------------------------------------------------------------------------------------

_MASK: frozenset[Offer] = frozenset({"mask"})
_MEASURES: frozenset[Offer] = frozenset({"measures"})
_RANGE: frozenset[Need] = frozenset({"range"})
_EVEN: frozenset[Need] = frozenset({"even slices"})
_DICOM: frozenset[Need] = frozenset({"dicom"})

WRITERS: tuple[Writer, ...] = (
    Writer(
        "nii.gz",
        "Mask",
        ".nii.gz",
        "mask.nii.gz",
        _nifti,
        _MASK,
        _EVEN,
        {"-lesions.json": _labels_beside},
    ),
    Writer(
        "nii", "Mask", ".nii", "mask.nii", _nifti, _MASK, _EVEN, {"-lesions.json": _labels_beside}
    ),
    Writer(
        "pdf",
        "Report",
        ".pdf",
        "report.pdf",
        _report,
        _MEASURES,
        _RANGE,
        note="PDF, two pages at most",
    ),
    Writer(
        "csv",
        "Measures, table",
        ".csv",
        "measures.csv",
        lambda it: tables.lesions_csv(it.measured),
        _MEASURES,
        _RANGE,
        {
            "-total.csv": lambda it: tables.total_csv(it.measured),
            "-slices.csv": lambda it: tables.slices_of(it.measured),
            "-growth.csv": lambda it: tables.growth_csv(it.measured),
            "-timeline.csv": lambda it: tables.timeline_csv(it.measured),
            "-scores.csv": lambda it: tables.scores_csv(it.measured),
        },
        note="CSV",
    ),
    Writer(
        "json",
        "Measures, record",
        ".json",
        "measures.json",
        lambda it: json_bytes(tables.measures_record(it.measured)),
        _MEASURES,
        _RANGE,
        note="JSON",
    ),
    Writer(
        "svg",
        "Volume against time",
        ".svg",
        "timeline.svg",
        _timeline_plot,
        _MEASURES,
        frozenset({"follow-up"}),
    ),
    Writer("stl", "Mesh", ".stl", "surface.stl", _stl, _MEASURES, note="STL, in millimetres"),
    Writer("glb", "Mesh", ".glb", "surface.glb", _glb, _MEASURES, note="GLB, in metres"),
    Writer("dcm", "DICOM-SEG", ".dcm", "seg.dcm", lambda it: it.dicom_seg, _MEASURES, _DICOM),
    Writer(
        "sr.dcm",
        "DICOM structured report",
        ".sr.dcm",
        "measures.sr.dcm",
        _structured_report,
        _MEASURES,
        _DICOM,
        {".seg.dcm": lambda it: it.dicom_seg},
    ),
    Writer(
        "seg.nrrd",
        "Segmentation for 3D Slicer",
        ".seg.nrrd",
        "mask.seg.nrrd",
        _nrrd(".seg.nrrd"),
        _MASK | _MEASURES,
        _EVEN,
    ),
    Writer("nrrd", "Mask", ".nrrd", "mask.nrrd", _nrrd(".nrrd"), _MASK, _EVEN),
    Writer("mha", "Mask", ".mha", "mask.mha", _nrrd(".mha"), _MASK | _MEASURES, _EVEN),
    Writer("zip", "Mask, a picture per slice", ".zip", "mask-slices.zip", _archive, _MASK),
)


# --- What is asked of it ---------------------------------------------------------------------------


def endings(offer: Offer) -> tuple[str, ...]:
    """How the name of a file may end that is offered so."""
    return tuple(row.ending for row in WRITERS if offer in row.offered)


def by_key(key: str) -> Writer | None:
    """The format of a key among those for what was measured; None for none."""
    return next((row for row in WRITERS if row.key == key and "measures" in row.offered), None)


def writer_of(path: Path, offer: Offer | None = None) -> Writer | None:
    """The format that a file's name asks for, the longest ending that fits, among all or those offered so.

    >>> found = writer_of(Path("a.b.SEG.nrrd"), "mask")
    >>> found.ending if found else None, writer_of(Path("mask.gz"))
    ('.seg.nrrd', None)
    """
    rows = {row.ending: row for row in WRITERS if offer is None or offer in row.offered}
    return rows.get(ending_of(path, rows))


def is_measured(path: Path) -> bool:
    """Whether a file of this name is one of those for a mask that was measured."""
    return writer_of(path, "measures") is not None


def outputs(path: Path, offer: Offer | None = None) -> list[Path]:
    """All files that may be written for a name."""
    row = writer_of(path, offer)
    return [path] if row is None else [path, *(_beside(path, row, end) for end in row.beside)]


def check_path(
    path: Path,
    volume: CTVolume,
    inputs: Iterable[Path] = (),
    offer: Offer | None = None,
    *,
    has_followup: bool = False,
) -> None:
    """Refuse, before any work is done, a name, a place or a scan that a file cannot be made of, and what is read.

    Raises:
        InputError: another ending than those offered; a folder that is not there; one of the scan's own files or of
            ``inputs``, what else the run reads; a DICOM-SEG of a scan that is not DICOM; a plot over time without a
            follow-up.
        VolumeError: a format that needs evenly spaced slices, of a scan without.

    """
    row = writer_of(path, offer)
    if row is None:
        raise _unknown(path.name, volume, offer)
    check_outputs(outputs(path, offer), (*volume.files, *inputs))
    if "even slices" in row.needs and not volume.geometry.is_even:
        raise VolumeError(
            f"{row.ending} holds evenly spaced slices only; this scan's are not, so {path.name} would put "
            f"voxels where they are not; write {mask_name(volume)} instead."
        )
    if "dicom" in row.needs and volume.dicom is None:
        raise InputError(
            f"A {row.title} refers to the DICOM images of its scan; {volume.name} is NIfTI; "
            f"write {mask_name(volume)} in place of {path.name}."
        )
    if "follow-up" in row.needs and not has_followup:
        raise InputError(ONE_SCAN)


def contents(row: Writer, content: Content) -> dict[str, bytes]:
    """The files of a format: how their names end, and their content; the one asked for first."""
    made = {row.ending: row.write(content)}
    made |= {end: data for end, write in row.beside.items() if (data := write(content)) is not None}
    return made


def save(
    path: Path, content: Content, inputs: Iterable[Path] = (), offer: Offer | None = None
) -> list[Path]:
    """Write a file in the format of its name, with what comes beside it; returns what was written.

    What an earlier run left beside a file of this name, and this one has no content for, is taken away, for it would
    pass for one of this run. Raises as ``check_path``, and InputError for an empty mask where a file needs one.
    """
    inputs = tuple(inputs)
    several = content.found is not None and content.found.timeline is not None
    check_path(path, content.volume, inputs, offer, has_followup=several)
    row = writer_of(path, offer)
    assert row is not None
    read, written = (*content.volume.files, *inputs), []
    for end, data in contents(row, content).items():
        written.append(_beside(path, row, end))
        write_whole(written[-1], data, inputs=read)
    for left in outputs(path, offer):
        if left not in written and (is_sidecar(left) or tables.is_scan_csv(left)):
            left.unlink(missing_ok=True)
    return written


def encode(
    ending: str, found: Assessment, *, identity_from: ScanPath | Sequence[ScanPath] | None = None
) -> dict[str, bytes]:
    """An assessment as files of a format (``contents``), by its ending. Raises InputError for another ending."""
    row = writer_of(Path(f"x{ending}"), "measures")
    if row is None or row.ending != ending:
        raise _unknown(ending or "no ending", found.volume, "measures")
    return contents(row, Content.of(found, identity_from))


def for_archive(found: Assessment, files: ScanPath | Sequence[ScanPath]) -> tuple[bytes, ...]:
    """What goes back to the archive that a scan came from: a DICOM-SEG, and the structured report on it.

    The patient's identity is that of the scan's ``files``, so that the archive files both in their study.
    """
    made = encode(".sr.dcm", found, identity_from=files)
    return made[".seg.dcm"], made[".sr.dcm"]


def save_measures(
    path: str | Path,
    found: Assessment,
    *,
    identity_from: ScanPath | Sequence[ScanPath] | None = None,
    inputs: Iterable[Path] = (),
) -> list[Path]:
    """Write an assessment in the format of the file's name (``save``)."""
    path = Path(path)
    return save(path, Content.of(found, identity_from, path.name), inputs, "measures")


def save_mask(
    path: str | Path,
    mask_zyx: npt.ArrayLike,
    volume: CTVolume,
    lesions: Sequence[Lesion] = (),
    *,
    method: str | None = None,
    made: str = "",
    inputs: Iterable[Path] = (),
) -> None:
    """Write a scan's mask in the format of the file's name (``endings("mask")``), on the scan's own grid and affine.

    ``mask_zyx`` is [z, y, x]; not 0 is in. With ``lesions`` it holds their numbers, which are written as labels, and
    what they stand for goes into the header and, of NIfTI, for people and other programs also into a file beside it
    (``names.lesions_path``). The header also says which scan it belongs to, by which ``method`` it was made, and what
    else decided it (``made``: ``mask_header.mask_record``). Raises as ``save``.
    """
    path, labels = Path(path), np.asarray(mask_zyx)
    content = Content(
        labels if lesions else labels != 0,
        volume,
        tuple(lesions),
        method=method,
        made=made,
        name=path.name,
    )
    save(path, content, inputs, "mask")


def save_marked(
    path: str | Path,
    marked: Segmentation,
    model: str,
    volume: CTVolume,
    *,
    made: str = "",
    inputs: Iterable[Path] = (),
) -> None:
    """``save_mask`` of one model's mask, with the lesions that there are to tell of."""
    save_mask(
        path,
        marked.labels_zyx(model),
        volume,
        marked.named_lesions,
        method=model,
        made=made,
        inputs=inputs,
    )


def _beside(path: Path, row: Writer, end: str) -> Path:
    """A file of the same name but for its ending."""
    if end == row.ending:
        return path
    return path.with_name(path.name[: len(path.name) - len(row.ending)] + end)


def _unknown(name: str, volume: CTVolume, offer: Offer | None) -> InputError:
    if offer == "measures":
        report = next(row.name for row in WRITERS if row.key == "pdf")
        return InputError(
            f"Evidence is written as one of {', '.join(endings('measures'))}; got {name}; name it e.g. {report}."
        )
    masks = endings("mask")
    return InputError(
        f"A mask is written as {', '.join(masks[:-1])} or {masks[-1]} (a PNG for each slice); "
        f"got {name}; name it e.g. {mask_name(volume)}."
    )
