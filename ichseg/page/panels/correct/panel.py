"""Corrections of the left pane's mask by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from ichseg.errors import InputError
from ichseg.marks import edit
from ichseg.page.case import BoolArray, Case
from ichseg.page.panel import Operation
from ichseg.page.protocol import HURange, LesionId, Point, SliceIndex
from ichseg.page.sessions import Session
from ichseg.page.work import Reply, Work
from ichseg.scan.volume import CTVolume

#: What smoothing takes for the size of a dent, in mm: about two pixels of a usual head CT.
SMOOTH_MM = 1.0


@dataclass(frozen=True)
class Correct:
    """Change the first model's mask of a lesion on a slice by a tool.

    "brush" and "erase" go along ``points`` with a round tip of ``radius_mm``; "component" takes away the connected
    component at a point; "fill" fills holes; "smooth" calms the outline; "copy" puts the mask ``onto`` another slice;
    "between" fills in the slices between the lesion's edited ones.
    """

    slice: SliceIndex
    lesion: LesionId
    tool: Literal["brush", "erase", "component", "fill", "smooth", "copy", "between"]
    points: Annotated[list[Point], Field(max_length=100_000)] = field(default_factory=list)
    radius_mm: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 2.0
    hu_range: HURange | None = None
    """Brush and copy keep to voxels of these HU."""
    onto: SliceIndex | None = None


def _correct(work: Work, session: Session, op: Correct, reply: Reply) -> Iterable[Reply]:
    with session.lock, work.showing_changes(session, reply) as (case, volume):
        case.segmentation.check_writable(op.slice, op.lesion)
        after = _TOOLS[op.tool](case, volume, op)
        case.segmentation.apply_edits(after, op.lesion, case.models[0])
        if op.tool == "copy":
            reply["show"] = op.onto
    return ()


def _mask(case: Case, op: Correct) -> BoolArray:
    return case.segmentation.slice_mask(case.models[0], op.slice, op.lesion)


def _limits(op: Correct) -> tuple[float, float] | None:
    return None if op.hu_range is None else (op.hu_range[0], op.hu_range[1])


def _spacing_yx_mm(volume: CTVolume) -> tuple[float, float]:
    return float(volume.spacing_mm[1]), float(volume.spacing_mm[2])


def _brush(case: Case, volume: CTVolume, op: Correct) -> dict[int, BoolArray]:
    made = edit.brush(
        _mask(case, op),
        op.points,
        op.radius_mm,
        _spacing_yx_mm(volume),
        slice_hu=volume.hu_zyx[op.slice] if op.hu_range else None,
        hu_range=_limits(op),
    )
    return {op.slice: made}


def _erase(case: Case, volume: CTVolume, op: Correct) -> dict[int, BoolArray]:
    return {op.slice: edit.erase(_mask(case, op), op.points, op.radius_mm, _spacing_yx_mm(volume))}


def _component(case: Case, volume: CTVolume, op: Correct) -> dict[int, BoolArray]:
    if not op.points:
        raise InputError(
            "A connected component is taken away at a point; got none; point inside it."
        )
    x, y = op.points[0]
    return {op.slice: edit.erase_component(_mask(case, op), (math.floor(y), math.floor(x)))}


def _fill(case: Case, volume: CTVolume, op: Correct) -> dict[int, BoolArray]:
    return {op.slice: edit.fill_holes(_mask(case, op))}


def _smooth(case: Case, volume: CTVolume, op: Correct) -> dict[int, BoolArray]:
    return {op.slice: edit.smooth(_mask(case, op), SMOOTH_MM, _spacing_yx_mm(volume))}


def _copy(case: Case, volume: CTVolume, op: Correct) -> dict[int, BoolArray]:
    marked, onto = case.segmentation, op.onto
    if onto is None:
        raise InputError("A mask is copied onto a slice; got none; choose one.")
    marked.check_writable(onto, op.lesion)
    slice_hu = volume.hu_zyx[onto] if op.hu_range else None
    copied = edit.copy_to_slice(_mask(case, op), slice_hu, _limits(op))
    return {onto: marked.slice_mask(case.models[0], onto, op.lesion) | copied}


def _between(case: Case, volume: CTVolume, op: Correct) -> dict[int, BoolArray]:
    """Masks for the slices between a lesion's edited ones; InputError where there is no such slice."""
    marked, model = case.segmentation, case.models[0]
    edited = [
        k
        for k in marked.marked_slices(model, op.lesion)
        if marked.origin(k, op.lesion, model) == "edited"
    ]
    made = edit.interpolate(
        {k: marked.slice_mask(model, k, op.lesion) for k in edited},
        volume.geometry.slice_positions_mm,
        _spacing_yx_mm(volume),
    )
    if not made:
        names = ", ".join(str(k + 1) for k in edited) or "none"
        raise InputError(
            f"Slices are filled in between two that were corrected by hand and are not neighbours; got {names}; "
            "correct one more."
        )
    return made


_TOOLS: dict[str, Callable[[Case, CTVolume, Correct], dict[int, BoolArray]]] = {
    "brush": _brush,
    "erase": _erase,
    "component": _component,
    "fill": _fill,
    "smooth": _smooth,
    "copy": _copy,
    "between": _between,
}

OPERATIONS = (Operation("correct", Correct, _correct),)
