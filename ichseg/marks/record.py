"""Marks in the record of a session: written, and read with every field in its bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ichseg.errors import LesionError
from ichseg.json_fields import RecordError, json_field, of_kind
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.marks.lesion import Lesion
from ichseg.marks.reading import Part
from ichseg.marks.state import ORIGINS, Origin


def read_lesion_rows(rows: Any) -> tuple[Lesion, ...]:
    """Lesions from a JSON document. Raises RecordError where a field is missing or cannot be a lesion's.

    A mask's header has no ``locked`` and ``visible``: they are then as of a new lesion.
    """
    lesions = []
    for number, row in enumerate(of_kind(rows, "a list", "its list of lesions"), 1):
        which = f"lesion {number} of its list"
        given = {
            "id": json_field(row, "id", "a whole number", which),
            **{key: json_field(row, key, "text", which) for key in ("name", "type", "colour")},
            "locked": json_field(row, "locked", "true or false", which, default=False),
            "visible": json_field(row, "visible", "true or false", which, default=True),
        }
        try:
            lesions.append(Lesion(**given))
        except LesionError as error:
            raise RecordError(f"{which} is none: {str(error).rstrip('.')}") from error
    if not lesions or len({lesion.id for lesion in lesions}) < len(lesions):
        raise RecordError("lesions are at least one, each with a number of its own")
    return tuple(lesions)


@dataclass(frozen=True)
class Edit:
    """A mask that boxes do not give: a person's, one that lost voxels to another lesion, or one of a slab."""

    k: int
    lesion: int
    origin: Origin
    runs: tuple[int, ...]
    """How many pixels, row by row, are off, then on, then off, and so on; the last that are off are left out."""
    is_answer: bool = False
    """Whether it is a model's own answer, on which the edge is to be drawn where that is on."""

    @classmethod
    def of(cls, part: Part) -> Edit:
        """A mask as its runs.

        >>> mask = np.array([[0, 1, 1], [0, 0, 1]], dtype=bool)
        >>> Edit.of(Part(4, 1, "edited", mask)).runs
        (1, 2, 2, 1)
        """
        mask_yx = part.mask_yx if part.answer_yx is None else part.answer_yx
        flat = np.concatenate([[0], mask_yx.ravel().astype(np.int8), [0]])
        runs = tuple(np.diff(np.flatnonzero(np.diff(flat)), prepend=0).tolist())
        return cls(part.k, part.lesion, part.origin, runs, part.answer_yx is not None)

    def mask_yx(self, shape_yx: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """The mask, bool [y, x], on a slice of (rows, columns)."""
        out = np.zeros(shape_yx[0] * shape_yx[1], dtype=bool)
        flat = np.repeat(np.arange(len(self.runs)) % 2 == 1, self.runs)
        out[: flat.size] = flat
        return out.reshape(shape_yx)


def _propagated_boxes(parts: Sequence[Part], lesion: int) -> dict[int, tuple[Box, ...]]:
    """The boxes of a lesion's propagated masks, by slice, where those give the mask."""
    return {
        part.k: part.boxes
        for part in parts
        if part.lesion == lesion and part.origin == "propagated" and part.from_boxes
    }


def _has_slabs(parts: Sequence[Part], lesion: int) -> bool:
    """Whether a lesion was followed by slabs: its masks are a model's answers, and boxes do not give them."""
    return any(part.lesion == lesion and part.answer_yx is not None for part in parts)


def boxes_record(boxes: Mapping[int, Sequence[Box]]) -> list[dict[str, Any]]:
    """Boxes by slice index for a JSON document: {slice from 0, box_xyxy} a box."""
    return [
        {"slice": int(k), "box_xyxy": [float(value) for value in box.xyxy]}
        for k in sorted(boxes)
        for box in boxes[k]
    ]


#: Bounds on what a record may ask a model for, and on what it holds.
MAX_BOXES_A_SLICE, MAX_BOXES = 256, 20_000


@dataclass(frozen=True)
class MarksRecord:
    """What of a record of a session is marks: the lesions, and what was drawn of each.

    ``prompts`` maps (slice from 0, lesion) to the boxes that a person drew there, ``propagated`` to those that a
    propagation asked, ``parameters`` a lesion to what that went by; ``edits`` are masks that boxes do not give.
    """

    lesions: tuple[Lesion, ...]
    prompts: Mapping[tuple[int, int], tuple[Box, ...]]
    propagated: Mapping[tuple[int, int], tuple[Box, ...]]
    parameters: Mapping[int, Mapping[str, Any]]
    edits: tuple[Edit, ...]


def marks_record(marked: Segmentation, model: str) -> dict[str, Any]:
    """One model's marks for a JSON document, which ``read_marks`` reads: ``boxes``, ``propagated``, ``edits``.

    ``boxes`` is a list of {``slice`` from 0, ``lesion``, ``box_xyxy``}; ``propagated`` of {``lesion``, ``parameters``,
    ``boxes`` (slice, box_xyxy)}; ``edits`` of {``slice``, ``lesion``, ``origin``, ``runs``}, masks that boxes do not
    give, with the runs of ``Edit`` as one text, and ``answer``, true, where the edge is to be drawn on them.
    """
    parts = marked.parts(model)
    return {
        "boxes": [
            {"slice": k, "lesion": lesion, "box_xyxy": [float(value) for value in box.xyxy]}
            for (k, lesion), boxes in marked.prompts().items()
            for box in boxes
        ],
        "propagated": [
            {
                "lesion": lesion.id,
                "parameters": marked.parameters(model, lesion.id),
                "boxes": boxes_record(boxes),
            }
            for lesion in marked.lesions
            if (boxes := _propagated_boxes(parts, lesion.id)) or _has_slabs(parts, lesion.id)
        ],
        "edits": [
            {
                "slice": edit.k,
                "lesion": edit.lesion,
                "origin": edit.origin,
                "runs": " ".join(map(str, edit.runs)),
                **({"answer": True} if edit.is_answer else {}),
            }
            for edit in (Edit.of(part) for part in parts if not part.from_boxes)
        ],
    }


def read_marks(
    record: Mapping[str, Any], shape_zyx: tuple[int, int, int], *, plain: bool = False
) -> MarksRecord:
    """The marks in a record of a session, each bounded by the scan's shape.

    Args:
        record: the document; ``lesions``, ``boxes``, ``propagated`` and ``edits`` of it.
        shape_zyx: the scan's shape.
        plain: whether the boxes are of the one lesion that there always is, and no list of lesions is asked for.

    Raises:
        RecordError: a field that is missing, of another kind, or out of its bounds.
        InputError: a box that does not lie on its slice.

    """
    depth, rows, columns = shape_zyx
    lesions = (Lesion(1),) if plain else read_lesion_rows(json_field(record, "lesions", "a list"))
    known = {lesion.id for lesion in lesions}

    def place(entry: Any, lesion: Any, what: str) -> tuple[int, int]:
        k = json_field(entry, "slice", "a whole number", what)
        if not 0 <= k < depth:
            raise RecordError(f"{what} is on slice {k} of {depth}")
        return k, listed(lesion, what)

    def listed(lesion: Any, what: str) -> int:
        if of_kind(lesion, "a whole number", f"the lesion of {what}") not in known:
            raise RecordError(f"lesion {lesion} is not among its lesions")
        return int(lesion)

    def add(found: dict[tuple[int, int], list[Box]], entry: Any, lesion: Any) -> None:
        where = place(entry, lesion, "a box")
        corners = json_field(entry, "box_xyxy", "a list", "a box")
        if len(corners) != 4:
            raise RecordError(f"a box has {len(corners)} numbers, not x0, y0, x1 and y1")
        x0, y0, x1, y1 = (float(of_kind(one, "a number", "a side of a box")) for one in corners)
        box = Box(x0, y0, x1, y1).validate((rows, columns))
        boxes = found.setdefault(where, [])
        boxes.append(box)
        if len(boxes) > MAX_BOXES_A_SLICE:
            raise RecordError(
                f"slice {where[0]} has more than {MAX_BOXES_A_SLICE} boxes of a lesion"
            )

    prompts: dict[tuple[int, int], list[Box]] = {}
    propagated: dict[tuple[int, int], list[Box]] = {}
    parameters: dict[int, Mapping[str, Any]] = {}
    edits: dict[tuple[int, int], Edit] = {}
    drawn_boxes = json_field(record, "boxes", "a list")
    if len(drawn_boxes) > MAX_BOXES:
        raise RecordError(f"it has {len(drawn_boxes):,} boxes, more than {MAX_BOXES:,}")
    for entry in drawn_boxes:
        add(prompts, entry, json_field(entry, "lesion", "a whole number", "a box", default=1))
    for one in json_field(record, "propagated", "a list", default=()):
        what = "a propagation"
        lesion = listed(json_field(one, "lesion", "a whole number", what), what)
        if lesion in parameters:
            raise RecordError(f"lesion {lesion} was propagated twice")
        parameters[lesion] = json_field(one, "parameters", "an object", what)
        second_look_in(parameters[lesion], what)
        asked_boxes = json_field(one, "boxes", "a list", what)
        if len(asked_boxes) > MAX_BOXES:
            raise RecordError(f"{what} has {len(asked_boxes):,} boxes, more than {MAX_BOXES:,}")
        for entry in asked_boxes:
            add(propagated, entry, lesion)
    for entry in json_field(record, "edits", "a list", default=()):
        k, lesion = place(
            entry, json_field(entry, "lesion", "a whole number", "an edit"), "an edit"
        )
        runs = _runs(json_field(entry, "runs", "text", "an edit"), k, (rows, columns))
        origin = json_field(entry, "origin", "text", "an edit")
        if origin not in ORIGINS:
            raise RecordError(f"the origin of an edit is none of {', '.join(ORIGINS)}")
        if (k, lesion) in edits:
            raise RecordError(f"slice {k} has two edits of lesion {lesion}")
        is_answer = json_field(entry, "answer", "true or false", "an edit", default=False)
        edits[k, lesion] = Edit(k, lesion, origin, runs, is_answer)
    if twice := prompts.keys() & propagated.keys():
        raise RecordError(f"slice {min(twice)[0]} has drawn and propagated boxes of one lesion")
    drawn, asked = (
        {where: tuple(boxes) for where, boxes in found.items()} for found in (prompts, propagated)
    )
    return MarksRecord(lesions, drawn, asked, parameters, tuple(edits.values()))


def second_look_in(row: Any, where: str) -> bool | None:
    """Whether boxes were answered with a refinement, as a part of a record says; None where it does not."""
    found: bool | None = json_field(
        row, "second_look", "true or false", where, default=None, or_null=True
    )
    return found


def _runs(text: str, k: int, shape: tuple[int, int]) -> tuple[int, ...]:
    """The lengths in an edit's text, refused where they do not fit a slice's rows and columns."""
    words, pixels = text.split(), shape[0] * shape[1]
    short = all(word.isascii() and word.isdecimal() and len(word) < 10 for word in words)
    runs = tuple(map(int, words)) if short else ()
    if not short or sum(runs) > pixels:
        raise RecordError(f"the runs of slice {k} do not fit its {shape[1]} x {shape[0]} pixels")
    return runs
