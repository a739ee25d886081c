"""Lesions of the open scan, followed from their boxes by every method shown: for the panels that have it done."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Mapping, Sequence
from functools import partial

from ichseg.errors import check_cancelled
from ichseg.marks.box import Box
from ichseg.methods.catalogue import title_of
from ichseg.methods.follow_rule import Rule
from ichseg.methods.follow_slabs import follow_scan
from ichseg.methods.propagation import Propagation
from ichseg.page.case import Case
from ichseg.page.progress import progress
from ichseg.page.sessions import Session
from ichseg.page.work import Reply, Work
from ichseg.scan.volume import CTVolume

#: How long the background keeps still while what was followed is marked: the edge is drawn on each slice meanwhile.
MARKING_SECONDS = 5.0


def follow_lesions(
    work: Work,
    session: Session,
    case: Case,
    volume: CTVolume,
    models: Sequence[str],
    lesions: Mapping[int, Mapping[int, Sequence[Box]]],
) -> Generator[Reply, None, dict[str, Propagation]]:
    """Follow lesions, {number: boxes by slice}, by each of some methods; gives what people are told meanwhile.

    Returns what each method found, by its name; nothing is marked yet. Without the session's lock, for a person may
    look on. Raises InputError where the person stops it.
    """
    found = {}
    for number, model in enumerate(models):
        text = f"Following the hematoma: {title_of(model)}"
        # As it was measured best: by the default rule, without refinement.
        found[model] = Propagation(volume.shape_zyx, Rule(), second_look=False)
        steps = follow_scan(
            work.embeddings.load(model),
            volume,
            dict(lesions.items()),
            rule=found[model].rule,
            second_look=found[model].second_look,
            embed=partial(work.masks.embedding, case, volume, model),
            cancelled=session.is_cancelled,
        )
        for share in itertools.chain([0.0], found[model].collect(steps, lesions)):
            yield progress(text, (number + share) / len(models), cancel=True)
        check_cancelled()
    work.embeddings.hold(MARKING_SECONDS)
    return found
