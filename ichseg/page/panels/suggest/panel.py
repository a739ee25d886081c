"""Proposals: where blood is likely, to be accepted one by one or all; and what a box on other tissue looks like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ichseg.errors import InputError, WeightsError, check_cancelled
from ichseg.marks.accept import accept
from ichseg.marks.box import Box, as_boxes
from ichseg.measures.looks import told_of
from ichseg.measures.suggest import MAY_MISS, MOST, NOTHING_FOUND, Suggestion, answered
from ichseg.methods.catalogue import title_of
from ichseg.methods.frame import MODEL_SIZE, FloatArray
from ichseg.methods.propagation import Propagation
from ichseg.page.case import Case
from ichseg.page.following import follow_lesions
from ichseg.page.masks import MAX_BOXES
from ichseg.page.panel import InPassing, Operation, Seen
from ichseg.page.progress import progress
from ichseg.page.protocol import Counter, Nothing, SliceIndex
from ichseg.page.sessions import Session
from ichseg.page.work import Reply, Work, check_slice
from ichseg.scan.slabs import SliceOrSlab, slab_at, slabs_of, slices_of
from ichseg.scan.volume import CTVolume

#: Slices of one proposal: no scan has more.
MAX_SLICES = 2000


@dataclass(frozen=True)
class SliceBoxes:
    """A proposal's boxes on one slice, perhaps adjusted."""

    slice: SliceIndex
    boxes: Annotated[list[Annotated[list[float], Field(max_length=16)]], Field(max_length=10_000)]


@dataclass(frozen=True)
class Accepted:
    """A proposal that a person accepts: what the page calls it, and its boxes."""

    key: Counter
    slices: Annotated[list[SliceBoxes], Field(max_length=MAX_SLICES)]


@dataclass(frozen=True)
class Accept:
    """Make lesions and boxes of proposals, in one step of undo."""

    proposals: Annotated[list[Accepted], Field(max_length=MOST)]


def _suggest(work: Work, session: Session, op: Nothing, reply: Reply) -> Iterable[Reply]:
    """Look at the slices that the background has not looked at yet, and propose; nothing is marked."""
    del op
    if why := work.likely.missing:
        raise WeightsError(f"{why} Without them no blood is proposed; draw a box around it.")
    with session.lock:
        case, volume = work.case(session)
    text = "Looking for blood"
    yield progress(text, 0.0, cancel=True)
    maps = np.zeros((len(volume.hu_zyx), MODEL_SIZE, MODEL_SIZE), np.float32)
    places = list(dict.fromkeys(slab_at(volume, k) for k in range(len(maps))))
    for number, where in enumerate(places, 1):
        check_cancelled()
        slices = slices_of(where)
        known = work.likely.of_slice(case.owner, slices[0])
        if known is None:
            known = _look(work, case, volume, slices[0])
            yield progress(text, 0.9 * number / len(places), cancel=True)
        maps[slices.start : slices.stop] = known
    found = work.likely.finder.find(maps, volume)
    suggestions = []
    for number, one in enumerate(found[:MOST]):
        yield progress("Segmenting what is proposed", 0.9 + 0.1 * number / len(found), cancel=True)
        model = case.models[0]
        for k in one.boxes:  # what takes long is done before the session is held
            check_cancelled()
            work.masks.embedding(case, volume, model, slab_at(volume, k))
        with session.lock:
            answer = partial(_answer, work, case, volume, model)
            edge = case.segmentation.edge
            suggestions.append(answered(one, volume, model, answer, maps, edge=edge))
    reply["proposals"] = {
        "found": [_told(one) for one in suggestions],
        "model": title_of(case.models[0]),
        "text": _summary(len(suggestions), len(found)),
    }


def _look(work: Work, case: Case, volume: CTVolume, k: int) -> FloatArray:
    """Look at a slice for a person who waits."""
    where = slab_at(volume, k)
    embedding = work.masks.embedding(case, volume, work.likely.finder.embedded_by, where)
    return work.likely.look(case.owner, volume, k, embedding)


def _answer(
    work: Work, case: Case, volume: CTVolume, model: str, where: SliceOrSlab, boxes: Sequence[Box]
) -> Any:
    return work.masks.answer(case, volume, where, boxes, model)


def _summary(shown: int, found: int) -> str:
    """What is said of all proposals together."""
    if not found:
        return NOTHING_FOUND
    more = f" The {shown} strongest of {found} are listed." if found > shown else ""
    return f"Not counted until you accept it. {MAY_MISS}{more}"


def _told(one: Suggestion) -> dict[str, Any]:
    """A suggestion for the page."""
    return {
        "score": one.score,
        "ml": one.volume_ml,
        "show": one.largest_slice,
        "slices": {str(k): [box.xyxy for box in boxes] for k, boxes in one.boxes.items()},
    }


def _accept(work: Work, session: Session, op: Accept, reply: Reply) -> Iterator[Reply]:
    """Accept proposals; every shown method answers their boxes, and follows them where they are on slabs."""
    with session.lock:
        case, volume = work.case(session)
        taken = [_boxes(one, volume) for one in op.proposals]
        models = tuple(dict.fromkeys(case.models))
    slices = sorted({k for boxes in taken for k in boxes})
    for number, k in enumerate(slices):
        # What takes long is done before the session is held.
        check_cancelled()
        yield progress("Segmenting what was accepted", number / len(slices), cancel=True)
        for model in models:
            try:
                work.masks.embedding(case, volume, model, k)
            except InputError:
                continue  # the masks' own answer will say so
    found: dict[str, Propagation] = {}
    if slabs_of(volume) is not None:
        found = yield from follow_lesions(
            work, session, case, volume, models, dict(enumerate(taken))
        )
    with (
        session.lock,
        work.showing_changes(session, reply) as (case, _),
        case.segmentation.one_step(),
    ):
        lesions = accept(case.segmentation, taken)
        for model, one in found.items():
            for number, lesion in enumerate(lesions):
                one.mark(case.segmentation, lesion, model, number)
    keys = [one.key for one in op.proposals]
    reply["accepted"] = [*reply.get("accepted", ()), *zip(keys, lesions, strict=True)]
    if lesions:
        reply["lesion"] = lesions[0]


def _boxes(one: Accepted, volume: CTVolume) -> dict[int, list[Box]]:
    """A proposal's boxes by slice, each on the scan. Raises BoxError; InputError where it has none."""
    found: dict[int, list[Box]] = {}
    for row in one.slices:
        check_slice(volume, row.slice)
        boxes = as_boxes(row.boxes, volume.shape_zyx[1:])
        found[row.slice] = [*found.get(row.slice, ()), *boxes]
    count = max(map(len, found.values()), default=0)
    if not any(found.values()) or count > MAX_BOXES:
        raise InputError(
            f"A proposal has 1 to {MAX_BOXES} boxes on a slice; got {count}; press Suggest again."
        )
    return {k: boxes for k, boxes in found.items() if boxes}


def _likely(work: Work, session: Session, seen: Seen, wanted: bool) -> Reply:
    """How likely there is blood on each slice that was looked at, and whether more is to come."""
    del session, wanted
    depth = len(seen.volume.hu_zyx)
    slices = work.likely.suspicion(seen.case.owner)
    more = len(slices) < depth and work.embeddings.is_planned(seen.case.owner)
    return {
        "likely": {
            "here": not work.likely.missing,
            "slices": {str(k): round(share, 3) for k, share in slices.items()},
            "more": more,
        }
    }


def _looks(work: Work, session: Session, seen: Seen, wanted: bool) -> Reply:
    """What the left pane's masks of the boxes on this slice look like, where that is no blood."""
    del wanted
    case, volume, k = seen.case, seen.volume, seen.k
    probability = work.likely.of_slice(case.owner, k)
    with session.lock:
        found = told_of(case.segmentation, volume, case.models[0], k, probability)
    told = [{"lesion": one.lesion, "text": one.sentence} for one in found]
    return {"looks": {"slice": k, "told": told}}


OPERATIONS = (Operation("suggest", Nothing, _suggest), Operation("accept", Accept, _accept))
PASSING = (InPassing("likely", bool, _likely), InPassing("looks", bool, _looks))
