"""Choosing and comparing the methods, with each other and with a reference mask, and fetching those that are absent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from ichseg.errors import InputError, check_cancelled
from ichseg.files.mask import read_labelled_mask
from ichseg.methods import catalogue
from ichseg.methods.catalogue import title_of
from ichseg.page.choices import choices
from ichseg.page.panel import InPassing, Operation, Seen
from ichseg.page.panels.compare.fetching import fetch
from ichseg.page.panels.compare.scores import scores
from ichseg.page.progress import progress
from ichseg.page.protocol import Files, SliceIndex, Text
from ichseg.page.sessions import Session
from ichseg.page.state import reference_state
from ichseg.page.work import Reply, Work
from ichseg.sample import sample_paths


@dataclass(frozen=True)
class Models:
    """Choose the methods, two or more; slices that are marked get the masks that they lack."""

    models: Annotated[list[Text], Field(max_length=1000)]
    slice: SliceIndex | None = None
    """The slice on screen: its neighbours are embedded first."""


@dataclass(frozen=True)
class Reference:
    """Take up a reference mask on the scan's grid to score against (the sample's or an upload), or put it away."""

    sample: bool = False
    remove: bool = False
    files: Files | None = None


@dataclass(frozen=True)
class Fetch:
    """Bring a method's weights from the hub."""

    name: Text


def _models(work: Work, session: Session, op: Models, reply: Reply) -> Iterable[Reply]:
    names = tuple(op.models)
    if not 2 <= len(names) <= len(catalogue.CATALOGUE):
        raise InputError(
            f"Two methods or more are shown, each at most once beyond the second; got {len(names)}; choose two."
        )
    for name in names:
        ready, why = catalogue.available(name)
        if not ready:
            raise InputError(why)
    with session.lock:
        case, volume = work.case(session)
        before, case.models = case.models, names
        slices = case.segmentation.marked_slices()
    try:
        for number, k in enumerate(slices):
            yield progress(f"Segmenting slice {k + 1}", number / len(slices), cancel=True)
            check_cancelled()
            with session.lock:
                work.show_complete(case, volume, k, reply)
    except BaseException:
        with session.lock:
            case.models = before
            for k in slices:
                work.show(case, volume, k, reply)
        raise
    with session.lock:
        work.tell_method(case, reply)
    centre = len(volume.hu_zyx) // 2 if op.slice is None else op.slice
    work.plan(case, volume, centre)


def _reference(work: Work, session: Session, op: Reference, reply: Reply) -> Iterable[Reply]:
    yield progress("Reading the reference mask")
    with session.lock:
        case, volume = work.case(session)
        if op.remove:
            case.reference = reply["reference"] = None
            return
        if op.sample:
            if not case.is_sample:
                raise InputError(
                    "The sample's reference mask is of the sample; another scan is open; open the sample."
                )
            given = read_labelled_mask(sample_paths(session.role == "followup")[1], volume)
        else:
            upload = work.take(session, op.files or [])
            try:
                given = read_labelled_mask(upload.paths[0], volume)
            finally:
                work.store.discard(upload)
            reply["said"] = list(given.notes)
        case.reference = np.packbits(given.blood_zyx)
        reply["reference"] = reference_state(case)


def _fetch(work: Work, session: Session, op: Fetch, reply: Reply) -> Iterable[Reply]:
    text = f"Fetching {title_of(op.name)}"
    yield progress(text)
    for part in fetch(op.name):
        yield progress(text, part, cancel=True)
    reply["choices"] = choices()


def _scores(work: Work, session: Session, seen: Seen, wanted: bool) -> Reply:
    return {"scores": scores(session, seen.case, seen.volume, seen.k)}


def _choices() -> Reply:
    """Which methods can be chosen now: another person may have fetched one since the page came."""
    return {"choices": choices()}


OPERATIONS = (
    Operation("models", Models, _models),
    Operation("reference", Reference, _reference),
    Operation("fetch", Fetch, _fetch),
)
PASSING = (InPassing("compare", bool, _scores),)
UNOPENED = {"methods": _choices}
