"""What a run over many scans says of one scan in its tables: a row for each lesion and method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from ichseg import NOTICE, __version__
from ichseg.commit import commit
from ichseg.files.tables import how_cells, lesion_cells
from ichseg.marks.lesion import TYPES, Lesion
from ichseg.marks.reading import Part
from ichseg.marks.state import ORIGINS
from ichseg.measures import fields
from ichseg.measures.assessment import Assessment
from ichseg.measures.dictionary import Column, measure_columns

#: How much of the scan a mask is of, and by whom.
Extent = Literal["boxed slices", "propagated", "automatic", "record", "mask file"]

#: What a slice's mask came from (``marks.state.ORIGINS``), as the columns call it.
_ORIGINS = {"box": "boxed", "propagated": "propagated", "edited": "edited"}
assert set(_ORIGINS) == set(ORIGINS)

#: A box that the program itself drew is nobody's.
_HOW = (*_ORIGINS.values(), "automatic")

_STATES = ("done", "kept", "passed over")


def _text(name: str, about: str, title: str = "", values: Sequence[str] = ()) -> Column:
    return Column(name, "string", title, about, tuple(values))


def _whole(name: str, about: str, title: str = "") -> Column:
    return Column(name, "integer", title, about)


#: Of results.csv, in their order.
RESULT_COLUMNS: tuple[Column, ...] = (
    _whole("number", "The scan's row in the manifest, from 1.", "Scan"),
    _text("scan", "The scan as the manifest writes it.", "Scan, as written"),
    _text("state", "Whether it was done now, kept from before, or passed over.", "", _STATES),
    _text("model", "The method whose mask it is.", "Method"),
    _text(
        "extent",
        "What the mask is of: the slices with a box alone; the whole hematoma, propagated from boxes; what the program "
        "itself proposed; a saved record; a mask file.",
        "Extent",
        ("boxed slices", "propagated", "automatic", "record", "mask file"),
    ),
    _whole("lesion", "The lesion's number in the mask; empty where nothing is marked.", "Lesion"),
    _text("name", "The lesion's name.", "Name"),
    _text("type", "What the lesion is.", "Type", tuple(TYPES)),
    Column("is_blood", "boolean", "Is blood", "Whether it counts as blood; oedema does not."),
    _whole("slices_marked", "Slices with some of the lesion's mask.", "Slices"),
    *(
        _whole(f"slices_{name}", f"Of these, slices whose mask is {name}.", f"Slices, {name}")
        for name in _HOW
    ),
    *measure_columns(),
    Column("blood_ml", title="All blood", about="All lesions of the scan that are blood."),
    Column("truth_ml", title="Reference", about="All blood of the reference mask."),
    Column("difference_ml", title="Difference", about="blood_ml less truth_ml."),
    Column(
        "dice", title="Dice", about="Of all blood with the reference mask, over the whole scan."
    ),
    Column("boxed_dice", title="Dice, boxed slices", about="The same on slices with a box alone."),
    Column("seconds", title="Seconds", about="What the scan took, from reading to writing."),
    Column("seconds_a_slice", title="Seconds per slice", about="What the method took per slice."),
    _text("not_computed", "What the row lacks, and why."),
    _text("range_covers", "What was varied for the range."),
    _text("boxes", "The boxes that a person drew, as a manifest takes them."),
    _text("stops", "Where propagation ended, and why."),
    _text("notes", "What has to be read with the volume."),
    _text("scan_notes", "What is special about the scan, such as its tilt."),
    _text("warnings", "What makes the scan's millilitres doubtful."),
    _text("mask", "The mask's file, in the folder of this table."),
    _text("error_kind", "Of what kind the error is."),
    _text("error", "Why the scan was passed over."),
    _text("baseline", "The scan that this one is the follow-up of, as the manifest writes it."),
    Column("hours", title="Hours", about="From that scan to this one."),
    _text("scan_sha256", "The hash of the scan's voxels."),
    _text("identity", "The hash of all that decided the mask, besides the scan and its boxes."),
    _text("weights_sha256", "The method's weight files and their hashes."),
    _text("ichseg_version", "This program's version."),
    _text("commit", "Its commit, where that is known."),
    _text("notice", NOTICE),
)


def scan_rows(
    found: Assessment,
    *,
    extent: Extent,
    lesions: Sequence[Lesion] = (),
    parts: Iterable[Part] = (),
    notes: Iterable[str] = (),
) -> list[dict[str, Any]]:
    """An assessment as rows for JSON and CSV, by RESULT_COLUMNS: one for each lesion; one where nothing is marked.

    Args:
        found: what was measured.
        extent: how much of the scan it is of.
        lesions: those that were asked for; one of which nothing was found has a row of 0 mL.
        parts: the masks of slices, to be counted by what they came from.
        notes: sentences to read with the volume.

    """
    counted: dict[int | None, Counter[str]] = {}
    for part in parts:
        if part.mask_yx.any():
            by_itself = part.origin == "box" and found.automatic is not None
            how = "automatic" if by_itself else _ORIGINS[part.origin]
            counted.setdefault(part.lesion, Counter())[how] += 1
    present = {one.id: one for one in found.lesions}
    asked = {one.id: one for one in lesions} | present
    same = {
        "model": found.model or found.file_method,
        "extent": extent,
        "blood_ml": float(found.total.volume_ml),
        "notes": " ".join((*notes, *found.notes)),
        "identity": None if found.identity is None else found.identity.sha256,
        "weights_sha256": " ".join(f"{file}:{sha}" for file, sha in found.weights_sha256.items()),
        "ichseg_version": __version__,
        "commit": commit() or None,
    }
    rows = [
        {
            **same,
            **lesion_cells(asked[number]),
            **_slice_cells(found, number, counted.get(number, Counter())),
            **(_cells(found, number) if number in present else {"voxels": 0, "volume_ml": 0.0}),
        }
        for number in sorted(asked)
    ]
    return rows or [{**same, **_slice_cells(found, None, Counter()), **_cells(found, None)}]


def _slice_cells(
    found: Assessment, lesion: int | None, counted: Mapping[str, int]
) -> dict[str, int | None]:
    """How many slices are marked, and how; None of each how where a mask file does not say."""
    known = bool(found.slices_by)
    marked = 0 if lesion is None else int((found.labels_zyx == lesion).any(axis=(1, 2)).sum())
    how = {f"slices_{name}": counted.get(name, 0) if known else None for name in _HOW}
    return {"slices_marked": marked, **how}


def _cells(found: Assessment, lesion: int | None) -> dict[str, Any]:
    cells = {**fields.csv_cells(found.measures_of(lesion)), **how_cells(found, lesion)}
    return {name: getattr(value, "item", lambda v=value: v)() for name, value in cells.items()}
