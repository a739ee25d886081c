"""Boxes and what the methods make of them, the whole hematoma from a box, undo, redo and clearing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from ichseg.errors import BoxError
from ichseg.marks.box import Box
from ichseg.page.case import Case
from ichseg.page.following import follow_lesions
from ichseg.page.panel import Operation
from ichseg.page.protocol import LesionId, Nothing, SliceIndex
from ichseg.page.sessions import Session
from ichseg.page.work import Reply, Work


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """Make these a lesion's boxes on a slice; ``marks.box.as_boxes`` says what a box is."""

    slice: SliceIndex
    lesion: LesionId = 1
    boxes: Annotated[list[Annotated[list[float], Field(max_length=16)]], Field(max_length=10_000)]
    first: bool = False
    """Whether the left pane's method alone may answer, where another would have to embed the slice first."""


@dataclass(frozen=True)
class Complete:
    """Bring the masks of a slice that the answer to a box left for later."""

    slice: SliceIndex


@dataclass(frozen=True)
class Propagate:
    """Follow a lesion from its boxes through the scan."""

    lesion: LesionId


@dataclass(frozen=True)
class Edge:
    """Draw the edge at half height on what boxes gave, or take it off."""

    on: bool


@dataclass(frozen=True)
class ClearSlice:
    """Remove what is marked on a slice."""

    slice: SliceIndex


def _boxes(work: Work, session: Session, op: Boxes, reply: Reply) -> Iterable[Reply]:
    with session.lock:
        case, volume = work.case(session)
        try:
            if work.masks.set_boxes(
                case, volume, op.slice, op.lesion, op.boxes, reply["trouble"], first=op.first
            ):
                reply["later"] = [*reply.get("later", ()), op.slice]
        finally:
            if op.slice < len(volume.hu_zyx):
                work.show(case, volume, op.slice, reply)
    return ()


def _complete(work: Work, session: Session, op: Complete, reply: Reply) -> Iterable[Reply]:
    with session.lock:
        case, volume = work.case(session)
        work.show_complete(case, volume, op.slice, reply)
    return ()


def _propagate(work: Work, session: Session, op: Propagate, reply: Reply) -> Iterable[Reply]:
    """Follow by every method shown, as one step; the session is free meanwhile, for a person may look on."""
    with session.lock:
        case, volume = work.case(session)
        prompts = _prompts(case, op.lesion)
        models = tuple(dict.fromkeys(case.models))
    found = yield from follow_lesions(work, session, case, volume, models, {op.lesion: prompts})
    with (
        session.lock,
        work.showing_changes(session, reply) as (case, _),
        case.segmentation.one_step(),
    ):
        for model, one in found.items():
            one.mark(case.segmentation, op.lesion, model, op.lesion)


def _prompts(case: Case, lesion: int) -> dict[int, tuple[Box, ...]]:
    """A lesion's boxes by slice; BoxError where it has none, LesionError where it is locked."""
    case.segmentation.check_writable(0, lesion)
    boxes = {k: drawn for (k, id), drawn in case.segmentation.prompts().items() if id == lesion}
    if not boxes:
        raise BoxError(
            f"The whole hematoma is found from a box; {case.segmentation.lesion(lesion).name} has none; "
            "draw one on the slice where it is largest."
        )
    return boxes


def _undo(work: Work, session: Session, op: Nothing, reply: Reply) -> Iterable[Reply]:
    with session.lock, work.showing_changes(session, reply) as (case, _):
        case.segmentation.undo()
    return ()


def _redo(work: Work, session: Session, op: Nothing, reply: Reply) -> Iterable[Reply]:
    with session.lock, work.showing_changes(session, reply) as (case, _):
        case.segmentation.redo()
    return ()


def _edge(work: Work, session: Session, op: Edge, reply: Reply) -> Iterable[Reply]:
    with session.lock, work.showing_changes(session, reply) as (case, _):
        case.segmentation.set_edge(op.on)
    with session.lock:
        work.tell_method(work.case(session)[0], reply)
    return ()


def _clear_slice(work: Work, session: Session, op: ClearSlice, reply: Reply) -> Iterable[Reply]:
    with session.lock, work.showing_changes(session, reply) as (case, _):
        case.segmentation.clear_slice(op.slice)
    return ()


def _clear(work: Work, session: Session, op: Nothing, reply: Reply) -> Iterable[Reply]:
    with session.lock, work.showing_changes(session, reply) as (case, _):
        case.segmentation.clear()
    return ()


OPERATIONS = (
    Operation("boxes", Boxes, _boxes),
    Operation("complete", Complete, _complete),
    Operation("propagate", Propagate, _propagate),
    Operation("undo", Nothing, _undo),
    Operation("redo", Nothing, _redo),
    Operation("edge", Edge, _edge),
    Operation("clear_slice", ClearSlice, _clear_slice),
    Operation("clear", Nothing, _clear),
)
