"""Going on from a record of what was marked: a saved session that a person gives, or that of a study's scan."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial

import numpy as np

from ichseg.files.session import SessionRecord, same_mask_note
from ichseg.page.progress import steps, told
from ichseg.page.sessions import Session
from ichseg.page.work import Reply, Work


def go_on(
    work: Work, session: Session, record: SessionRecord, reply: Reply, anew: bool = False
) -> Generator[Reply, None, None]:
    """Make again what a record says, in the place of all that is marked; undo brings that back.

    ``anew``: by the weights that are here, whatever they were. Raises InputError where the record is of another scan,
    or its weights are not here.
    """
    with session.lock:
        case, volume = work.case(session)
    record.check_scan(volume)
    model = record.model
    predictor = work.embeddings.load(model)
    changed = [] if anew else record.check_model(predictor)
    embed = partial(work.masks.embedding, case, volume, model)
    made = yield from told(
        "Making the session's masks again",
        steps(lambda tell: record.run(predictor, volume, embed=embed, progress=tell)),
    )
    with session.lock, work.showing_changes(session, reply) as (case, _):
        case.models = (model, *case.models[1:])
        case.segmentation.adopt(made)
        work.tell_method(case, reply)
        reply["show"] = int(np.argmax(made.mask_zyx(model).sum(axis=(1, 2))))
        if not anew:
            same = record.is_same(made, model)
            reply["said"] = [same_mask_note(False, changed)] * (same is False) + changed
