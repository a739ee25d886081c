"""Files: downloads of what is marked, and going on with what was saved before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ichseg.errors import InputError, VolumeError, cancelling
from ichseg.files.labels import with_usual_types
from ichseg.files.mask import read_labelled_mask
from ichseg.files.names import lesions_path, with_label
from ichseg.files.session import load_session
from ichseg.files.write import by_key
from ichseg.page import growth, growth_range
from ichseg.page.case import Case
from ichseg.page.going_on import go_on
from ichseg.page.measuring import Measured
from ichseg.page.panel import Operation
from ichseg.page.panels.files import write
from ichseg.page.panels.files.write import View
from ichseg.page.progress import progress
from ichseg.page.protocol import Files, Text
from ichseg.page.refining import refined
from ichseg.page.sessions import Session
from ichseg.page.work import Reply, Work, check_complete, check_slice


@dataclass(frozen=True, kw_only=True)
class Load:
    """Go on with a mask that was saved, as lesions of the left pane's method, or with a whole session."""

    files: Files
    anew: bool = False
    """Whether to make a session's masks by the weights that are here, whatever they were."""


@dataclass(frozen=True)
class Export(View):
    """Write a file for a person to take away."""

    kind: Text = "record"
    """One of ``write.kinds``."""
    model: Text | None = None
    """The left pane's unless given."""
    label: Text = ""
    """What a person calls the scan in files."""
    other_label: Text = ""
    """What they call the other of the two scans."""


def _load(work: Work, session: Session, op: Load, reply: Reply) -> Iterable[Reply]:
    yield progress("Reading what was saved")
    with session.lock:
        work.case(session)
        upload = work.take(session, op.files)
    try:
        beside = [path for path in upload.paths if path.suffix.lower() == ".json"]
        masks = [path for path in upload.paths if path not in beside]
        if masks:
            # What the labels stand for was saved beside the mask, and may be given with it.
            for path in beside:
                path.replace(lesions_path(masks[0]))
            _load_mask(work, session, masks[0], reply)
        else:
            yield from go_on(work, session, load_session(beside[0]), reply, op.anew)
    finally:
        work.store.discard(upload)


def _load_mask(work: Work, session: Session, path: Path, reply: Reply) -> None:
    with session.lock, work.showing_changes(session, reply) as (case, volume):
        given = with_usual_types(read_labelled_mask(path, volume))
        labels = given.labels_zyx
        if not labels.any():
            raise VolumeError(
                f"A mask to go on with marks something; {path.name} is empty; give another."
            )
        found = case.segmentation.import_labels(labels, case.models[0], given.lesions)
        reply["said"] = list(given.notes)
        reply["lesion"] = min(found.values())
        reply["show"] = int(np.argmax((labels != 0).sum(axis=(1, 2))))


def _export(work: Work, session: Session, op: Export, reply: Reply) -> Iterable[Reply]:
    kind = op.kind
    if kind not in write.kinds():
        raise InputError(
            f"A download is one of {', '.join(write.kinds())}; got '{kind[:60]}'; choose one of them."
        )
    with session.lock:
        case, volume = work.case(session)
        model = case.models[0] if op.model is None else op.model
        if kind != "picture":
            check_complete(case, model)
        else:
            check_slice(volume, op.slice)
        marked = case.segmentation.marked_slices()
    called = with_label(volume, op.label)
    wanted = [op.slice] if kind == "picture" else marked
    yield from refined(work, session, model, [k for k in wanted if k in marked], reply)
    with session.lock:
        method = work.method(case, model)
    if (row := by_key(kind)) is not None:
        yield progress("Measuring", cancel=True)
        measured = work.measured(session, case, volume, method)
        if "range" in row.needs:
            yield from _range(work, session, case, measured)
        yield progress("Writing the file")
        with case.measuring.lock:
            found = case.measuring.assessment(measured)
        with session.lock:
            found = growth.added(replace(found, volume=called), session, op.other_label)
            if found.growth is not None and (given := growth_range.known(session)):
                found = replace(found, notes=(*found.notes, given.sentence))
        paths = write.write_evidence(session.new_folder(), row, found)
    elif kind == "regular":
        yield progress("Resampling scan and mask")
        with session.lock:
            labels = case.segmentation.labels_zyx(model)
            lesions = case.segmentation.named_lesions
            folder = session.new_folder()
        paths, said = write.write_regular(folder, labels, lesions, called, method)
        reply["said"] = [said]
    else:
        yield progress("Writing the file")
        with session.lock:
            case, _ = work.case(session)
            paths = write.write_marked(
                session.new_folder(), kind, case.segmentation, called, method, op
            )
    first, *beside = [{"path": str(path), "name": path.name} for path in paths]
    reply["download"] = {**first, "beside": beside}


def _range(work: Work, session: Session, case: Case, measured: Measured) -> Iterator[Reply]:
    """Complete the range for a person who waits, telling how far it is, until they wait no longer."""
    portions = work.portions(case, measured, session.is_cancelled)
    while not session.is_cancelled():
        # Who cancels this wants the file without the range: it is not the operation that ends.
        with case.measuring.lock, cancelling(None):
            share = next(portions, None)
        if share is None:
            return
        text = "Drawing the boxes anew, for the range. Cancel writes the file without it."
        yield progress(text, share, cancel=True)
    session.cancelled.clear()


OPERATIONS = (
    Operation("load", Load, _load),
    Operation("export", Export, _export),
)

FILLS = {"writers": write.menu_items}
