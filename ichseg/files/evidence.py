"""What a colleague needs to check a measurement: one assessment of one scan, and the files made of it.

``assess`` measures a labelled mask; ``encode`` makes of that the bytes of any of FORMATS, and ``save`` a file of a name
that ends in one. Files bear no patient's data (see ``dicom_seg.segmentation_bytes`` for the one exception,
which must be asked for), the scan's warnings, and the notice. Lesions' names are written as people typed them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ichseg import NOTICE
from ichseg.errors import InputError
from ichseg.files import export
from ichseg.files.mask_header import mask_record
from ichseg.marks.box import Box
from ichseg.marks.document import Lesion, Segmentation
from ichseg.measures.abc2 import ABC2
from ichseg.measures.assessment import Measures, measure
from ichseg.measures.followup import Blood
from ichseg.measures.growth import Growth, ModelError, ReadingError, growth_record, reading_error
from ichseg.measures.landmarks import Landmarks
from ichseg.measures.scores import Score
from ichseg.measures.spread import VolumeRange
from ichseg.methods.catalogue import model_error, title_of
from ichseg.methods.identity import Identity
from ichseg.replace_file import check_outputs, write_whole
from ichseg.scan.volume import CTVolume, ScanPath

Labels = npt.NDArray[np.uint8]

#: How a file's name ends (``export.file_name``), by its format.
ENDINGS = {
    ".pdf": "report.pdf",
    ".csv": "measures.csv",
    ".json": "measures.json",
    ".stl": "surface.stl",
    ".glb": "surface.glb",
    ".dcm": "seg.dcm",
    ".seg.nrrd": "mask.seg.nrrd",
    ".mha": "mask.mha",
}
#: How the names of all tables end that a .csv can be (``tables``).
TABLES = (".csv", "-total.csv", "-slices.csv", "-growth.csv", "-scores.csv")
FORMATS = tuple(ENDINGS)

#: For people, where they get a DICOM-SEG without the patient's identity, and with it.
DICOM_PRIVACY = (
    "The DICOM-SEG refers to the scan by its UIDs. The patient's name and number are left empty: an archive files it "
    "with the patient only if they are asked for."
)
IDENTIFIED = "The DICOM-SEG carries the patient's name, number and birth date, as the scan does: treat it likewise."


@dataclass(frozen=True, eq=False)
class OtherScan:
    """The other of a growth's two scans: enough for a reader to see that it is the right one."""

    volume: CTVolume
    labels_zyx: Labels
    lesions: tuple[Lesion, ...]
    method: str

    @classmethod
    def of(cls, found: Assessment) -> OtherScan:
        """That of an assessment of it."""
        return cls(found.volume, found.labels_zyx, found.lesions, found.model_title)


@dataclass(frozen=True, eq=False)
class Assessment:
    """A labelled mask of one scan with what was measured of it, and how it came about.

    ``total`` is of all blood together, which oedema is not; ``measures`` of each of ``lesions``, in their order.
    ``ranges`` has the volume under jittered boxes by lesion, None for the total, where it was asked for. ``slices_by``
    counts the slices of masks by origin, of all lesions. ``no_range`` says why a lesion has no range; ``stops``, by
    lesion, where its propagation ended and why (``propagate.Stop.record``). ``other`` is the other scan of ``growth``.
    """

    volume: CTVolume
    labels_zyx: Labels
    lesions: tuple[Lesion, ...]
    total: Measures
    measures: tuple[Measures, ...]
    model: str | None = None
    model_title: str = "Drawn by hand"
    weights_sha256: Mapping[str, str] = field(default_factory=dict)
    second_look: bool | None = None
    identity: Identity | None = None
    prompts: Mapping[tuple[int, int], Sequence[Box]] = field(default_factory=dict)
    slices_by: Mapping[str, int] = field(default_factory=dict)
    ranges: Mapping[int | None, VolumeRange] = field(default_factory=dict)
    no_range: Mapping[int | None, str] = field(default_factory=dict)
    growth: Growth | None = None
    role: Literal["baseline", "follow-up"] | None = None
    scores: tuple[Score, ...] = ()
    notes: tuple[str, ...] = ()
    stops: Mapping[int, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    other: OtherScan | None = None
    file_method: str | None = None
    """The method that a mask file says made it, where the masks were read from one."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes its millilitres doubtful, those of the other scan, too."""
        other = self.other
        of_other = () if other is None else other.volume.warnings
        return (
            *self.volume.warnings,
            *(
                f"Of the other scan ({other.volume.called if other else ''}): {one}"
                for one in of_other
            ),
        )

    @property
    def model_error(self) -> ModelError | None:
        """How far the method's volumes were off in cross-validation; None where that was not measured."""
        name = self.model or self.file_method
        return None if name is None else model_error(name)

    @property
    def blood(self) -> Blood:
        """Its blood in mL, by type."""
        ml = (one.volume_ml for one in self.measures)
        return Blood.of(zip(self.lesions, ml, strict=True), self.volume.sha256)

    @property
    def blood_zyx(self) -> npt.NDArray[np.bool_]:
        """The mask of all blood, bool [z, y, x]."""
        return np.isin(self.labels_zyx, [lesion.id for lesion in self.lesions if lesion.is_blood])

    @property
    def reading_error(self) -> ReadingError:
        """The published error of human raters for such blood."""
        return reading_error(self.blood.has_ivh)


def assess(
    labels_zyx: npt.NDArray[Any],
    volume: CTVolume,
    lesions: Sequence[Lesion],
    *,
    landmarks: Landmarks | None = None,
    model: str | None = None,
    model_title: str = "",
    weights_sha256: Mapping[str, str] | None = None,
    second_look: bool | None = None,
    identity: Identity | None = None,
    prompts: Mapping[tuple[int, int], Sequence[Box]] | None = None,
    slices_by: Mapping[str, int] | None = None,
    ranges: Mapping[int | None, VolumeRange] | None = None,
    no_range: Mapping[int | None, str] | None = None,
    growth: Growth | None = None,
    role: Literal["baseline", "follow-up"] | None = None,
    scores: Sequence[Score] = (),
    notes: Sequence[str] = (),
    stops: Mapping[int, Sequence[Mapping[str, Any]]] | None = None,
) -> Assessment:
    """Measure a labelled mask.

    Args:
        labels_zyx: whole numbers, [z, y, x] of the scan's shape; each lesion's voxels have its number.
        volume: the scan.
        lesions: what the numbers stand for; those without a voxel are left out.
        landmarks: ``Landmarks(volume)``, where a caller has it already; made anew otherwise.
        model: the name of the method whose masks they are; None where they were drawn by hand or came from a file.
        model_title: its name for people; where the masks come from, without one.
        weights_sha256: its weight files and their hashes.
        second_look: whether the boxes were answered with one.
        identity: of all that decided the masks; None where they were drawn by hand or came from a file.
        prompts: (slice from 0, lesion) -> the boxes that a person drew there.
        slices_by: how many masks of slices come from a box there, from propagation, from a person's hand.
        ranges: the volume under jittered boxes, by lesion number; None is the total.
        no_range: by the same, why there is none.
        growth: to or from another scan of the same person.
        role: which of the two scans this one is.
        scores: bedside scores, also those that lack a finding.
        notes: sentences to read with the numbers, such as what was assumed of the labels.
        stops: by lesion, where its propagation ended and why (``propagate.Stop.record``).

    Raises:
        VolumeError: another shape.
        InputError: a voxel of a lesion that is not among ``lesions``.

    """
    labels = np.asarray(labels_zyx).astype(np.uint8)
    by_number = {lesion.id: lesion for lesion in lesions}
    present = [int(value) for value in np.unique(labels) if value]
    if strange := [value for value in present if value not in by_number]:
        raise InputError(
            f"A mask's labels are those of its lesions, {', '.join(map(str, by_number))}; "
            f"it has {strange[0]}; say what that one is."
        )
    where = Landmarks(volume) if landmarks is None else landmarks
    oedema = np.isin(labels, [one.id for one in lesions if not one.is_blood])
    total, blood = measure(np.where(oedema, np.uint8(0), labels), volume, where)
    other = measure(np.where(oedema, labels, np.uint8(0)), volume, where)[1] if oedema.any() else ()
    measured = sorted((*blood, *other), key=lambda one: one.label or 0)
    return Assessment(
        volume=volume,
        labels_zyx=labels,
        lesions=tuple(by_number[value] for value in present),
        total=total,
        measures=tuple(measured),
        model=model,
        model_title=model_title or ("Drawn by hand" if model is None else model),
        weights_sha256=dict(weights_sha256 or {}),
        second_look=second_look,
        identity=identity,
        prompts=dict(prompts or {}),
        slices_by=dict(slices_by or {}),
        ranges=dict(ranges or {}),
        no_range=dict(no_range or {}),
        growth=growth,
        role=role,
        scores=tuple(scores),
        notes=tuple(notes),
        stops={lesion: tuple(ends) for lesion, ends in (stops or {}).items() if ends},
    )


def stops_of(marked: Segmentation, model: str) -> dict[int, Sequence[Mapping[str, Any]]]:
    """Where each lesion's propagation ended and why, as ``assess`` takes it."""
    return {
        lesion.id: marked.parameters(model, lesion.id).get("stops", ()) for lesion in marked.lesions
    }


def assess_marked(
    marked: Segmentation,
    volume: CTVolume,
    *,
    model: str,
    model_title: str,
    weights_sha256: Mapping[str, str],
    second_look: bool | None = None,
    identity: Identity | None = None,
    landmarks: Landmarks | None = None,
    ranges: Mapping[int | None, VolumeRange] | None = None,
    growth: Growth | None = None,
    role: Literal["baseline", "follow-up"] | None = None,
    scores: Sequence[Score] = (),
) -> Assessment:
    """``assess`` of one model's masks in a segmentation, with its lesions, boxes and origins."""
    return assess(
        marked.labels_zyx(model),
        volume,
        marked.lesions,
        landmarks=landmarks,
        model=model,
        model_title=model_title,
        weights_sha256=weights_sha256,
        second_look=second_look,
        identity=identity,
        prompts=marked.prompts(),
        slices_by=Counter(part.origin for part in marked.parts(model) if part.mask_yx.any()),
        ranges=ranges,
        growth=growth,
        role=role,
        scores=scores,
        stops=stops_of(marked, model),
    )


def read_from_file(found: Assessment, method: str | None) -> Assessment:
    """The same assessment, of masks that were read from a file, which may name the method that made them."""
    of = "" if method is None else f", which says that {title_of(method)} made it"
    return replace(found, model_title=f"Read from a mask file{of}", file_method=method)


def with_abc2(found: Assessment, lesion: int, abc: ABC2) -> Assessment:
    """The same assessment with another ABC/2 of a lesion, such as of lines that a person has moved.

    Where the lesion is the only one that is blood, the total's is the same.
    """
    measures = tuple(
        replace(one, abc2=abc) if one.label == lesion else one for one in found.measures
    )
    alone = [one.id for one in found.lesions if one.is_blood] == [lesion]
    total = replace(found.total, abc2=abc) if alone else found.total
    return replace(found, measures=measures, total=total)


# --- Files -----------------------------------------------------------------------------------------


def encode(
    suffix: str, found: Assessment, *, identity_from: ScanPath | Sequence[ScanPath] | None = None
) -> dict[str, bytes]:
    """An assessment as files: how their names end, and their content. ``suffix`` is one of FORMATS.

    All formats but .csv are one file, {suffix: content}; .csv is a table of each kind of row (``tables``).
    ``identity_from`` is for .dcm alone (``dicom_seg.segmentation_bytes``). Raises InputError for another suffix and for
    an empty mask where a file needs one, VolumeError for .dcm of a scan that is not DICOM.
    """
    if suffix == ".csv":
        return tables(found)
    return {suffix: _encode(suffix, found, identity_from)}


def _encode(
    suffix: str, found: Assessment, identity_from: ScanPath | Sequence[ScanPath] | None
) -> bytes:
    if suffix == ".json":
        return export.json_bytes(measures_record(found))
    # Each brings a library that is imported only when one is asked for.
    if suffix == ".pdf":
        from ichseg.files.report import report_pdf

        return report_pdf(found)
    if suffix in (".stl", ".glb"):
        from ichseg.files import mesh

        write = mesh.stl_bytes if suffix == ".stl" else mesh.glb_bytes
        return write(found.labels_zyx, found.volume, found.lesions)
    if suffix == ".dcm":
        from ichseg.files.dicom_seg import segmentation_bytes

        return segmentation_bytes(
            found.labels_zyx,
            found.volume,
            found.lesions,
            model=found.model,
            weights_sha256=found.weights_sha256,
            made=_made(found),
            identity_from=identity_from,
        )
    if suffix in (".seg.nrrd", ".mha"):
        from ichseg.files.nrrd_mask import mask_bytes

        record = mask_record(found.volume, found.lesions, method=found.model, made=_made(found))
        return mask_bytes(suffix, found.labels_zyx, found.volume, found.lesions, record)
    raise _unknown(suffix or "no ending")


def save(
    path: str | Path,
    found: Assessment,
    *,
    identity_from: ScanPath | Sequence[ScanPath] | None = None,
    inputs: Iterable[Path] = (),
) -> list[Path]:
    """Write an assessment in the format of the file's name (FORMATS); ``encode`` says what it raises.

    Never onto the scan's own files, nor onto ``inputs``, what else the run reads (InputError). Returns what was
    written: of .csv a file for each kind of row, NAME.csv the first of them, the others beside it.
    """
    path, inputs = Path(path), tuple(inputs)
    check_path(path, found.volume, inputs)
    suffix, written = ending(path), []
    stem = path.name[: -len(suffix)]
    for end, content in encode(suffix, found, identity_from=identity_from).items():
        written.append(path.with_name(stem + end))
        write_whole(written[-1], content, inputs=(*found.volume.files, *inputs))
    return written


def outputs(path: Path) -> list[Path]:
    """All files that ``save`` may write for a name."""
    if ending(path) != ".csv":
        return [path]
    return [path.with_name(path.stem + end) for end in TABLES]


def _made(found: Assessment) -> str:
    return "" if found.identity is None else found.identity.short


def ending(path: Path) -> str:
    """Which of FORMATS a file's name has; empty for none."""
    return export.ending_of(path, FORMATS)


def check_path(path: Path, volume: CTVolume, inputs: Iterable[Path] = ()) -> None:
    """Refuse, before any work is done, a name, a place or a scan that a file cannot be made of, and what is read."""
    if not ending(path):
        raise _unknown(path.name)
    if ending(path) in export.MASK_ENDINGS:
        export.check_mask_path(path, volume, inputs)
    check_outputs(outputs(path), (*volume.files, *inputs))
    if ending(path) == ".dcm" and volume.dicom is None:
        raise InputError(
            f"A DICOM-SEG refers to the DICOM images of its scan; {volume.name} is NIfTI; "
            f"write {export.mask_name(volume)} in place of {path.name}."
        )


def _unknown(name: str) -> InputError:
    return InputError(
        f"Evidence is written as one of {', '.join(FORMATS)}; got {name}; name it e.g. {ENDINGS['.pdf']}."
    )


# --- JSON ------------------------------------------------------------------------------------------


def measures_record(found: Assessment) -> dict[str, Any]:
    """All measures for a JSON document, lengths, areas and volumes with their units in the keys.

    Keys: ``schema_version``; ``scan`` and ``other_scan`` (``export.scan_record``; the second of a growth, or null);
    ``warnings``, of both; ``model``, ``model_title``, ``weights_sha256``, ``second_look``; ``identity``
    (``Identity.record``, null without a model); ``boxes`` (slice from 0, lesion, box_xyxy); ``slices_by``; ``stops``
    (lesion, and ``propagate.Stop.record``); ``total`` and ``lesions``, each the fields of ``Measures`` with ``range``
    and ``not_computed`` {what: why}, a lesion also id, name, type, colour and is_blood; ``reading_error``;
    ``model_error`` (cross-validated, or null); ``growth`` and ``role``, null without a second scan; ``scores``;
    ``notes``, sentences to read with the numbers; ``versions``; ``notice``. What was not computed is null.
    """
    return {
        "schema_version": 1,
        "scan": export.scan_record(found.volume),
        "other_scan": None if found.other is None else export.scan_record(found.other.volume),
        "warnings": list(found.warnings),
        "model": found.model,
        "model_title": found.model_title,
        "weights_sha256": dict(found.weights_sha256),
        "second_look": found.second_look,
        "identity": None if found.identity is None else found.identity.record(),
        "boxes": [
            {"slice": k, "lesion": lesion, "box_xyxy": [float(value) for value in box.xyxy]}
            for (k, lesion), boxes in sorted(found.prompts.items())
            for box in boxes
        ],
        "slices_by": dict(found.slices_by),
        "stops": [
            {"lesion": lesion, **stop} for lesion, ends in found.stops.items() for stop in ends
        ],
        **measured_record(found),
        "growth": None if found.growth is None else growth_record(found.growth),
        "role": found.role,
        "scores": [asdict(score) for score in found.scores],
        "notes": list(found.notes),
        "versions": export.versions(),
        "notice": NOTICE,
    }


def measured_record(found: Assessment) -> dict[str, Any]:
    """``total``, ``lesions``, ``reading_error`` and ``model_error`` of ``measures_record``: what was measured."""
    return {
        "total": _measures_record(found, found.total, None),
        "lesions": [
            {
                "id": lesion.id,
                "name": lesion.name,
                "type": lesion.type,
                "colour": lesion.colour,
                "is_blood": lesion.is_blood,
                **_measures_record(found, one, lesion.id),
            }
            for lesion, one in zip(found.lesions, found.measures, strict=True)
        ],
        "reading_error": asdict(found.reading_error),
        "model_error": error_record(found.model_error),
    }


def error_record(error: ModelError | None) -> dict[str, Any] | None:
    """A model's cross-validated error for a JSON document: its fields, and ``figure``, for people."""
    return None if error is None else {**asdict(error), "figure": error.figure}


def _measures_record(found: Assessment, one: Measures, lesion: int | None) -> dict[str, Any]:
    given = found.ranges.get(lesion)
    return {
        **asdict(one),
        "range": None if given is None else {**asdict(given), "covers": given.covers},
        "not_computed": not_computed(found, lesion),
    }


def not_computed(found: Assessment, lesion: int | None) -> dict[str, str]:
    """What is missing of a lesion's measures, or of the total's (None), and why, as a sentence each."""
    one = found.total if lesion is None else _measures_of(found, lesion)
    missing = {}
    if one.voxels == 0:
        return {"all": "There is no voxel of it."}
    if one.abc2 is None:
        missing["abc2"] = "ABC/2 is of one lesion; add those of the lesions."
    if lesion not in found.ranges:
        missing["range"] = found.no_range.get(
            lesion, "The range from other boxes was not asked for."
        )
    for name, reason in (
        ("side", one.side.reason if one.side else "It was not asked for."),
        ("inner_table", one.inner_table.reason if one.inner_table else "It was not asked for."),
    ):
        if reason:
            missing[name] = reason
    return missing


def _measures_of(found: Assessment, lesion: int) -> Measures:
    return next(one for one in found.measures if one.label == lesion)


# --- CSV -------------------------------------------------------------------------------------------

#: Of the total and of each lesion: the column, with its unit, and where its value is; None where there is none.
_MEASURE_COLUMNS = (
    *("voxels", "volume_ml", "range_low_ml", "range_median_ml", "range_high_ml"),
    *("pieces", "largest_piece_ml", "longest_in_plane_mm", "longest_in_plane_slice"),
    *("longest_in_plane_slice_index", "longest_in_3d_mm", "abc2_ml", "abc2_a_mm", "abc2_b_mm"),
    *("abc2_c_mm", "abc2_slice", "abc2_slice_index", "abc2_set_by_hand"),
    *("surface_mm2", "hu_mean", "hu_sd", "hu_minimum", "hu_lower_quartile", "hu_median"),
    *("hu_upper_quartile", "hu_maximum", "side", "left_share", "midline_uncertainty_mm"),
    *("inner_table_mm", "inner_table_slice", "inner_table_slice_index"),
)
_GROWTH_COLUMNS = (
    *("baseline_ml", "followup_ml", "growth_ml", "growth_percent", "hours", "growth_ml_per_hour"),
    *("ivh_growth_ml", "within_measurement_error", "counted", "error_sentence", "growth_notes"),
    *("definition", "expansion", "not_computed"),
)
_SCORE_COLUMNS = ("score", "score_total", "score_least", "score_most", "not_computed")
_HOW_COLUMNS = (
    *("not_computed", "range_covers", "boxes", "stops", "weights_sha256", "ichseg_version"),
)


def tables(found: Assessment) -> dict[str, bytes]:
    """All measures as CSV in UTF-8, a table for each kind of row, by how the file's name ends.

    ``.csv`` has a row a lesion, ``-total.csv`` the one row of all blood together, ``-slices.csv`` a row for each slice
    of each lesion (``export.slices_csv``), ``-growth.csv`` a row for each definition of expansion, ``-scores.csv``
    a row for each score; the last two only where there is a second scan, and where scores were asked for. Units are in
    the columns' names. A ``_slice`` counts from 1, a ``_slice_index`` from 0. ``boxes`` are as a manifest takes them.
    ``not_computed`` names what a row lacks and why; the scan's warnings and the notice are in every row.
    """
    method = found.model or found.model_title
    total = {**_measure_cells(found, found.total, None), **_how_cells(found, None)}
    lesions = [
        {
            **export.lesion_cells(lesion),
            **_measure_cells(found, one, lesion.id),
            **_how_cells(found, lesion.id),
        }
        for lesion, one in zip(found.lesions, found.measures, strict=True)
    ]
    measured = (*_MEASURE_COLUMNS, *_HOW_COLUMNS)

    def table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
        return export.scan_csv(found.volume, method, columns, rows, found.warnings)

    made = {
        ".csv": table((*export.LESION_COLUMNS, *measured), lesions),
        "-total.csv": table(measured, [total]),
        "-slices.csv": export.slices_csv(
            found.labels_zyx, found.volume, found.lesions, method=method
        ),
    }
    if found.growth is not None:
        columns = ("role", "other_scan", "other_scan_sha256", *_GROWTH_COLUMNS)
        made["-growth.csv"] = table(columns, _growth_rows(found))
    if found.scores:
        made["-scores.csv"] = table(_SCORE_COLUMNS, _score_rows(found.scores))
    return made


def _how_cells(found: Assessment, lesion: int | None) -> dict[str, Any]:
    """How a lesion's mask came about, or (None) all of them."""
    boxes = [
        f"{k}:{box.text}"
        for (k, of), drawn in sorted(found.prompts.items())
        for box in drawn
        if lesion in (None, of)
    ]
    return {
        "not_computed": "; ".join(f"{k}: {why}" for k, why in not_computed(found, lesion).items()),
        "range_covers": given.covers if (given := found.ranges.get(lesion)) else None,
        "boxes": " ".join(boxes),
        "stops": "; ".join(
            stop["sentence"]
            for of, ends in found.stops.items()
            if lesion in (None, of)
            for stop in ends
        ),
        "weights_sha256": " ".join(f"{file}:{sha}" for file, sha in found.weights_sha256.items()),
        "ichseg_version": export.versions()["ichseg"],
    }


def _measure_cells(found: Assessment, one: Measures, lesion: int | None) -> dict[str, Any]:
    cells: dict[str, Any] = {
        "voxels": one.voxels,
        "volume_ml": one.volume_ml,
        "pieces": one.pieces,
        "largest_piece_ml": one.largest_piece_ml,
        "surface_mm2": one.surface_area_mm2,
    }
    if given := found.ranges.get(lesion):
        cells |= {"range_low_ml": given.low_ml, "range_high_ml": given.high_ml}
        cells["range_median_ml"] = given.median_ml
    if line := one.longest_in_plane:
        cells["longest_in_plane_mm"] = line.length_mm
        cells |= _slice_cells("longest_in_plane", line.slice_index)
    if span := one.longest_in_3d:
        cells["longest_in_3d_mm"] = span.length_mm
    if abc := one.abc2:
        cells |= {"abc2_ml": abc.volume_ml, "abc2_a_mm": abc.a.length_mm, "abc2_c_mm": abc.c_mm}
        cells |= {"abc2_b_mm": abc.b.length_mm, **_slice_cells("abc2", abc.a.slice_index)}
        cells["abc2_set_by_hand"] = " ".join(abc.edited)
    if hu := one.hu:
        cells |= {f"hu_{name}": value for name, value in asdict(hu).items() if name != "voxels"}
    if side := one.side:
        cells |= {"side": side.side, "left_share": side.left_share}
        cells["midline_uncertainty_mm"] = side.midline_uncertainty_mm
    if table := one.inner_table:
        cells["inner_table_mm"] = table.distance_mm
        cells |= _slice_cells("inner_table", table.slice_index)
    return cells


def _slice_cells(what: str, k: int | None) -> dict[str, int | None]:
    """A slice as people count it, and as ``--slice`` takes it."""
    return {f"{what}_slice": None if k is None else k + 1, f"{what}_slice_index": k}


def _growth_rows(found: Assessment) -> Iterable[dict[str, Any]]:
    growth = found.growth
    assert growth is not None
    for verdict in growth.verdicts:
        cells = {name: getattr(growth, name) for name in _GROWTH_COLUMNS[:10]}
        cells["growth_notes"] = " ".join(growth.notes)
        missing = []
        if growth.growth_percent is None:
            missing.append("growth_percent: the baseline is empty")
        if growth.hours is None:
            missing.append("growth_ml_per_hour: the hours between the scans are not known")
        if verdict.expansion is None:
            missing.append(f"expansion: {verdict.because}")
        yield {
            "role": found.role,
            "other_scan": None if found.other is None else found.other.volume.called,
            "other_scan_sha256": None if found.other is None else found.other.volume.sha256,
            **cells,
            "definition": f"{verdict.name}: {verdict.rule} ({verdict.source})",
            "expansion": verdict.expansion,
            "not_computed": "; ".join(missing),
        }


def _score_rows(scores: Iterable[Score]) -> Iterable[dict[str, Any]]:
    for score in scores:
        yield {
            "score": f"{score.name} ({score.source})",
            "score_total": score.total,
            "score_least": score.least,
            "score_most": score.most,
            "not_computed": f"score_total: not known: {', '.join(score.missing)}"
            if score.missing
            else "",
        }
