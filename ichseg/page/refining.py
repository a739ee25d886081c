"""Refining what is still to be refined, for a person who waits: before a download, and before something is sent."""

from __future__ import annotations

from collections.abc import Iterator

from ichseg.errors import InputError
from ichseg.page.progress import progress
from ichseg.page.sessions import Session
from ichseg.page.work import Reply, Work


def refined(
    work: Work, session: Session, model: str, slices: list[int], reply: Reply
) -> Iterator[Reply]:
    """Refine a method's masks where that is still to come; InputError where it fails."""
    with session.lock:
        case, volume = work.case(session)
        rough = [k for k in slices if work.masks.rough(case, k, model, again=True)]
    for number, k in enumerate(rough):
        yield progress(f"Refining the mask on slice {k + 1}", number / len(rough), cancel=True)
        work.masks.refine(session, case, volume, k, [model], reply["trouble"], None)
        with session.lock:
            work.show(case, volume, k, reply)
        if model in reply["trouble"]:
            raise InputError(reply["trouble"][model])
