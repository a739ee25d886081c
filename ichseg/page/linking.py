"""The two scans of a page as one anatomy: their registration, kept, and what the one that is not on screen has where.

The browser draws the other scan along the slice on screen, by the geometry of both and the motion between them. Python
says where the other scan's lesions lie on the grid of the one on screen (``carry.carried_labels``). None of it is
measured.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ichseg.arrays import Labels
from ichseg.errors import InputError, VolumeError, check_cancelled
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.methods.carry import carried_labels, document, prompts_on
from ichseg.methods.catalogue import title_of
from ichseg.methods.growth_map import PARTS, growth_map
from ichseg.methods.propagation import Propagation, propagate_lesions
from ichseg.page.case import Case
from ichseg.page.progress import progress, steps, told
from ichseg.page.sessions import Session
from ichseg.page.state import runs, total_ml
from ichseg.page.work import Work
from ichseg.scan.geometry import Geometry
from ichseg.scan.registration import Registration, register
from ichseg.scan.slabs import SliceOrSlab
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor, SliceEmbedding

Steps = Generator[dict[str, Any], None, Registration]


def both(work: Work, session: Session) -> tuple[tuple[Case, CTVolume], tuple[Case, CTVolume]]:
    """Baseline and follow-up with their voxels. Hold the session's lock. Raises VolumeError without a follow-up."""
    found = []
    for role in ("baseline", "followup"):
        case = session.cases.get(role)
        if case is None:
            raise VolumeError(
                "Two scans are linked where a baseline and a follow-up are open; there is no follow-up; open it first."
            )
        found.append((case, case.volume or case.read()))
    return found[0], found[1]


def registered(work: Work, session: Session) -> Steps:
    """The motion from the follow-up to the baseline, found once for two scans; gives how far it is."""
    with session.lock:
        (own, first), (other, second) = both(work, session)
        tokens = frozenset((own.token, other.token))
        if session.registered is not None and session.registered[0] == tokens:
            return session.registered[1]
    text = "Registering the two scans by the skull"
    yield progress(text, 0.0, cancel=True)
    found = yield from told(text, steps(lambda tell: register(first, second, progress=tell)))
    check_cancelled()
    with session.lock:
        session.registered = (tokens, found)
    return found


def link_state(work: Work, session: Session, found: Registration) -> dict[str, Any]:
    """What the browser links the panes by. Hold the session's lock.

    Keys: ``sure`` and ``sentence`` of the registration; ``matrix`` (4 x 4, RAS+ mm of the scan on screen to those of
    the other); ``own`` and ``other``, where their voxels are (``_grid``); ``case`` and ``token``, what the two are
    known by; ``total_ml`` of the other's blood; ``lesions`` (id, colour) and ``slices`` (by slice on screen, then
    lesion: runs), of the other's marks; ``parts`` of the growth map (title, colour).
    """
    (case, volume), (other, there) = _seen(work, session)
    # ``found`` goes from the follow-up to the baseline; lesions come from the other scan.
    onto = found if session.role == "followup" else found.inverted
    model = other.models[0]
    carried = carried_labels(other.segmentation.labels_zyx(model), there, volume, onto)
    lesions = [one for one in other.segmentation.lesions if one.is_blood]
    return {
        "sure": found.is_sure,
        "sentence": found.sentence,
        "matrix": onto.matrix.tolist(),
        "own": _grid(volume.geometry),
        "other": {**_grid(there.geometry), "shape": list(there.shape_zyx)},
        "case": case.token,
        "token": other.token,
        "total_ml": total_ml(other, model),
        "lesions": [{"id": one.id, "colour": one.colour} for one in lesions],
        "slices": {
            str(k): {
                str(one.id): runs(carried[k] == one.id)
                for one in lesions
                if (carried[k] == one.id).any()
            }
            for k in map(int, np.flatnonzero(carried.any(axis=(1, 2))))
        },
        "parts": {name: {"title": one.name, "colour": one.colour} for name, one in PARTS.items()},
    }


def map_on_screen(work: Work, session: Session) -> Labels:
    """The growth map on the grid of the scan on screen, [z, y, x] (``growth_map``). Hold the session's lock.

    Raises InputError where the two scans are not registered.
    """
    (case, volume), (other, there) = _seen(work, session)
    tokens = frozenset((case.token, other.token))
    if session.registered is None or session.registered[0] != tokens:
        raise InputError(
            "A growth map is of two scans that are registered; these are not yet; show them side by side."
        )
    found = session.registered[1]
    onto = found if session.role == "followup" else found.inverted
    theirs = carried_labels(_blood_labels(other), there, volume, onto) > 0
    own = _blood_labels(case) > 0
    return growth_map(theirs, own) if session.role == "followup" else growth_map(own, theirs)


def _seen(work: Work, session: Session) -> tuple[tuple[Case, CTVolume], tuple[Case, CTVolume]]:
    """The scan on screen and the other one, with their voxels. Hold the session's lock."""
    first, second = both(work, session)
    return (first, second) if session.role == "baseline" else (second, first)


def _blood_labels(case: Case) -> Labels:
    """What a scan's first method has of lesions that are blood, by their numbers."""
    labels = case.segmentation.labels_zyx(case.models[0])
    blood = [one.id for one in case.segmentation.lesions if one.is_blood]
    return np.where(np.isin(labels, blood), labels, np.uint8(0))


def carried_over(
    work: Work, session: Session
) -> Generator[dict[str, Any], None, tuple[Segmentation, list[str]]]:
    """What is found on the follow-up of what is marked on the baseline, and what is to be said with it.

    The boxes are those of the left pane's method; every method shown answers them.
    """
    found = yield from registered(work, session)
    found.check_sure()
    with session.lock:
        (own, first), (case, volume) = both(work, session)
        names = list(dict.fromkeys(case.models))
        marked = own.segmentation
        labels, lesions = marked.labels_zyx(own.models[0]), list(marked.lesions)
        edge = case.segmentation.edge
    embed = partial(work.masks.embedding, case, volume)
    text = "Looking for the lesions on the follow-up"
    yield progress(text, 0.0, cancel=True)
    present, prompts = prompts_on(
        work.embeddings.load(names[0]),
        (first, labels, lesions),
        volume,
        found,
        embed=partial(embed, names[0]),
        cancelled=session.is_cancelled,
    )
    check_cancelled()
    if not prompts:
        raise InputError(
            "Lesions are carried over where there is blood; none is left where it was marked; draw a box if you see it."
        )
    made: dict[str, Propagation] = {}
    for model in names:
        predictor = work.embeddings.load(model)
        made[model] = yield from told(
            f"Following the lesions: {title_of(model)}",
            steps(
                partial(
                    _followed,
                    predictor,
                    volume,
                    prompts,
                    partial(embed, model),
                    session.is_cancelled,
                )
            ),
        )
        check_cancelled()
    kept = [one for one in present if one.id in prompts]
    lost = [one.name for one in present if one.id not in prompts]
    said = [
        "Carried over from the baseline: look at every slice, and draw a box where it is wrong."
    ]
    if lost:
        said.append(f"Nothing was found of {' and '.join(lost)} where it was.")
    return document(made, kept, volume, edge=edge), said


def _followed(
    predictor: Predictor,
    volume: CTVolume,
    prompts: Mapping[Hashable, Mapping[int, Sequence[Box]]],
    embed: Callable[[SliceOrSlab], SliceEmbedding],
    cancelled: Callable[[], bool],
    tell: Callable[[float], None],
) -> Propagation:
    return propagate_lesions(
        predictor, volume, prompts, embed=embed, progress=tell, cancelled=cancelled
    )


def _grid(where: Geometry) -> dict[str, Any]:
    """Where voxels are: each slice's corner and position, the steps down and right, and what undoes these."""
    basis = np.stack([where.normal, where.y_step_mm, where.x_step_mm], axis=1)
    inverse = np.linalg.inv(basis)
    return {
        "origins": where.origins_mm.tolist(),
        "positions": where.slice_positions_mm.tolist(),
        "normal": where.normal.tolist(),
        "down": where.y_step_mm.tolist(),
        "right": where.x_step_mm.tolist(),
        "to_down": inverse[1].tolist(),
        "to_right": inverse[2].tolist(),
    }
