"""Measures of the left pane's method: numbers, their range, ABC/2 as a person has set it, the surface."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ichseg.errors import InputError
from ichseg.page import linking, measuring
from ichseg.page.measuring import Lines
from ichseg.page.panel import InPassing, Operation, Seen
from ichseg.page.protocol import Counter, Ends, LesionId, Number
from ichseg.page.sessions import Session
from ichseg.page.work import Reply, Work, check_complete

#: How long one request in passing works on the range under jittered boxes before it tells how far it is.
RANGE_SECONDS = 1.0


@dataclass(frozen=True)
class ABC2:
    """The lines of a lesion's ABC/2 as a person has moved them; null for what is found by itself."""

    lesion: LesionId
    a: Ends | None = None
    b: Ends | None = None
    c: Number | None = None
    """In mm."""

    @property
    def lines(self) -> Lines:
        """What was set."""
        a, b = (None if ends is None else tuple(ends) for ends in (self.a, self.b))
        return Lines(a, b, self.c)


@dataclass(frozen=True)
class Wanted:
    """What the panel has, and what it wants beside the record."""

    have: Counter | None = None
    """The "n" of the record that the page has."""
    view: bool = False
    """Whether it wants the surface, too."""
    viewed: Counter | None = None
    """The "n" of the surface that it has."""
    map: bool = False
    """Whether the surface is to be the growth map's."""


def _abc2(work: Work, session: Session, op: ABC2, reply: Reply) -> Iterable[Reply]:
    with session.lock:
        case, volume = work.case(session)
        check_complete(case, case.models[0], "ABC/2")
        method = work.method(case, case.models[0])
    measured = work.measured(session, case, volume, method)
    with case.measuring.lock:
        try:
            case.measuring.set_lines(measured, op.lesion, op.lines)
        finally:
            reply["measures"] = {"record": case.measuring.record(measured)}
    return ()


def _measures(work: Work, session: Session, seen: Seen, wanted: Wanted) -> Reply:
    return {"measures": _shown(work, session, seen, wanted)}


def _shown(work: Work, session: Session, seen: Seen, wanted: Wanted) -> Reply:
    """What the panel shows, and how far its range is.

    Keys: "record", left out where the page has it; "range", the share of it that is done, None where it is complete;
    "view" (path, n, map); "why", a sentence where nothing can be measured.
    """
    case, volume = seen.case, seen.volume
    with session.lock:
        try:
            check_complete(case, case.models[0], "A measure")
        except InputError as error:
            return {"record": None, "why": str(error)}
        method = work.method(case, case.models[0])
    asked_before = work.asked
    measured = work.measured(session, case, volume, method)
    out: Reply = {}
    with case.measuring.lock:
        if wanted.view and wanted.viewed != measured.n:
            try:
                shown = None
                if wanted.map:
                    with session.lock:
                        shown = linking.map_on_screen(work, session)
                path = session.write_view(measuring.view_glb(measured, shown))
                out["view"] = {"path": str(path), "n": measured.n, "map": wanted.map}
            except InputError as error:
                out["view"] = {"why": str(error), "n": measured.n, "map": wanted.map}
        if wanted.have != measured.n:  # first what is there, then how sure it is
            return {**out, "record": case.measuring.record(measured), "range": 0.0}

        def go_on() -> bool:
            return work.asked == asked_before and session.case is case

        portions = work.portions(case, measured, lambda: not go_on())
        left = measuring.work_for(portions, RANGE_SECONDS, go_on)
        if left is None:
            out["record"] = case.measuring.record(measured)
    return {**out, "range": left}


OPERATIONS = (Operation("abc2", ABC2, _abc2),)
PASSING = (InPassing("measure", Wanted, _measures),)
