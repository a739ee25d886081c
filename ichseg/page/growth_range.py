"""The range of the growth between a person's two scans: worked on in passing, a second at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from ichseg.errors import InputError
from ichseg.measures.followup import counted_of, counted_zyx
from ichseg.measures.growth import Of
from ichseg.measures.growth_range import SHIFT_MM, Boxed, GrowthRange, growth_portions
from ichseg.methods.catalogue import title_of
from ichseg.page import linking
from ichseg.page.case import Case
from ichseg.page.growth import blood_of
from ichseg.page.measuring import work_for
from ichseg.page.sessions import GrowthDrawn, Session
from ichseg.page.work import Work, check_complete
from ichseg.scan.volume import CTVolume


def record(
    work: Work, session: Session, seconds: float, go_on: Callable[[], bool]
) -> dict[str, Any]:
    """Work on the range for about so long, while ``go_on`` says so, and tell how far it is.

    Keys: ``share`` that is done, 0 to 1, None where there is no more to do; ``text``, for people, empty until then;
    ``found``, the fields of ``GrowthRange``, or None.
    """
    try:
        with session.lock:
            drawn, portions = _begun(work, session)
        left = None if drawn.found else work_for(portions, seconds, go_on)
    except InputError as error:
        return {"share": None, "text": str(error), "found": None}
    if drawn.found is None:
        return {"share": left or 0.0, "text": "", "found": None}
    return {"share": None, "text": drawn.found.sentence, "found": asdict(drawn.found)}


def known(session: Session) -> GrowthRange | None:
    """The range of the growth as it is now, where it has been computed. Hold the session's lock."""
    drawn = session.drawn
    return drawn.found if drawn is not None and drawn.key == _key(session) else None


def _begun(work: Work, session: Session) -> tuple[GrowthDrawn, Iterator[float]]:
    """What is known of the range, and the work that is left. Hold the session's lock."""
    cases = linking.both(work, session)
    model = _same_method([case for case, _ in cases])
    of = counted_of(*(blood_of(case) for case, _ in cases))
    key = _key(session)
    drawn = session.drawn
    if drawn is None or drawn.key != key:
        drawn = session.drawn = GrowthDrawn(key)
    boxed = (_boxed(work, case, volume, model, of) for case, volume in cases)
    portions = growth_portions(
        work.embeddings.load(model),
        *boxed,
        edge=all(case.segmentation.edge for case, _ in cases),
        shift_mm=_shift_mm(session),
        known=drawn.known,
    )
    return drawn, _keeping(drawn, portions)


def _keeping(
    drawn: GrowthDrawn, portions: Generator[float, None, GrowthRange]
) -> Generator[float, None, None]:
    drawn.found = yield from portions


def _same_method(cases: Sequence[Case]) -> str:
    """The method whose masks both scans have, on all that is marked. Raises InputError."""
    first, second = (case.models[0] for case in cases)
    if first != second:
        raise InputError(
            f"The range of a growth is of one method on both scans; got {title_of(first)} and {title_of(second)}; "
            "choose the same one."
        )
    for case in cases:
        check_complete(case, first, "The range of a growth")
    return first


def _boxed(work: Work, case: Case, volume: CTVolume, model: str, of: Of) -> Boxed:
    """A scan with the blood that is counted."""
    marked = case.segmentation
    mask_zyx = counted_zyx(marked.labels_zyx(model), marked.lesions, of)
    return Boxed(volume, mask_zyx, embed=partial(work.masks.embedding, case, volume, model))


def _key(session: Session) -> object:
    """What a range depends on."""
    cases = [session.cases.get(role) for role in ("baseline", "followup")]
    marks = [one and (one.token, one.models[0], one.segmentation.state) for one in cases]
    return (*marks, _shift_mm(session))


def _shift_mm(session: Session) -> float:
    """How far the registration may be off: as far as the skulls' inner tables are apart, where it is known."""
    tokens = frozenset(session.tokens)
    if session.registered is None or session.registered[0] != tokens:
        return SHIFT_MM
    match = session.registered[1].match
    return SHIFT_MM if match is None else match.median_mm
