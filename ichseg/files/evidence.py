"""What a colleague needs to check a measurement: one assessment of one scan, and the files made of it.

``assess`` measures a labelled mask; ``encode`` makes of that the bytes of any of FORMATS, and ``save`` a file of a name
that ends in one. Files bear no patient's data (see ``dicom_seg.segmentation_bytes`` for the one exception,
which must be asked for), the scan's warnings, and the notice. Lesions' names are written as people typed them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ichseg import NOTICE
from ichseg.errors import InputError
from ichseg.files import export
from ichseg.files.mask_header import mask_record
from ichseg.measures import fields
from ichseg.measures.assessment import Assessment
from ichseg.measures.growth import growth_record
from ichseg.measures.scores import Score
from ichseg.methods.model_error import ModelError
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
    written: of .csv a file for each kind of row, NAME.csv the first of them, the others beside it. A table of that name
    which an earlier run left there and this one has no rows for is taken away, for it would pass for one of this run.
    """
    path, inputs = Path(path), tuple(inputs)
    check_path(path, found.volume, inputs)
    suffix, written = ending(path), []
    stem = path.name[: -len(suffix)]
    for end, content in encode(suffix, found, identity_from=identity_from).items():
        written.append(path.with_name(stem + end))
        write_whole(written[-1], content, inputs=(*found.volume.files, *inputs))
    for left in set(outputs(path)) - set(written):
        if export.is_scan_csv(left):
            left.unlink(missing_ok=True)
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
        "total": _measures_record(found, None),
        "lesions": [
            {
                "id": lesion.id,
                "name": lesion.name,
                "type": lesion.type,
                "colour": lesion.colour,
                "is_blood": lesion.is_blood,
                **_measures_record(found, lesion.id),
            }
            for lesion in found.lesions
        ],
        "reading_error": asdict(found.reading_error),
        "model_error": error_record(found.model_error),
    }


def error_record(error: ModelError | None) -> dict[str, Any] | None:
    """A model's cross-validated error for a JSON document: its fields, and ``figure``, for people."""
    return None if error is None else {**asdict(error), "figure": error.figure}


def _measures_record(found: Assessment, lesion: int | None) -> dict[str, Any]:
    one = found.measures_of(lesion)
    return {**fields.measures_record(one), "not_computed": fields.not_computed(one)}


# --- CSV -------------------------------------------------------------------------------------------

#: Of a growth, of a score, and of how a lesion's mask came about.
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
    total = {**fields.csv_cells(found.measures_of(None)), **_how_cells(found, None)}
    lesions = [
        {
            **export.lesion_cells(lesion),
            **fields.csv_cells(found.measures_of(lesion.id)),
            **_how_cells(found, lesion.id),
        }
        for lesion in found.lesions
    ]
    measured = (*fields.csv_columns(), *_HOW_COLUMNS)

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
        "not_computed": "; ".join(
            f"{k}: {why}" for k, why in fields.not_computed(found.measures_of(lesion)).items()
        ),
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
