"""A second scan of the same person: changing between the two, and what growth and bedside scores are asked with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from ichseg.errors import InputError, VolumeError
from ichseg.measures.growth import Thresholds
from ichseg.measures.scores import NAMES, Findings
from ichseg.page import growth, growth_range, linking
from ichseg.page.panel import InPassing, Operation, Seen
from ichseg.page.progress import progress
from ichseg.page.protocol import Nothing, Number, Role, Text
from ichseg.page.sessions import Asked, Session
from ichseg.page.state import reference_state, scan_state
from ichseg.page.work import Reply, Work

#: How long one request in passing works on the growth's range before it tells how far it is.
RANGE_SECONDS = 0.5


@dataclass(frozen=True)
class Switch:
    """Show the other of the two scans with all that is marked on it, or (``close``) the baseline alone."""

    role: Role = "baseline"
    close: bool = False
    have: bool = False
    """Whether the browser has the voxels."""


@dataclass(frozen=True)
class Ask:
    """What a person says of the two scans and of the patient; null is not known."""

    hours: Number | None = None
    thresholds: dict[Text, Number | bool | None] = field(default_factory=dict)
    """By the names of ``Thresholds``' fields."""
    findings: dict[Text, Number | bool | None] = field(default_factory=dict)
    """By the names of ``Findings``' fields."""


def _switch(work: Work, session: Session, op: Switch, reply: Reply) -> Iterable[Reply]:
    yield progress("Changing scans")
    with session.lock:
        role = op.role
        if op.close:
            work.store.close_followup(session)
            role = "baseline"
        if role not in session.cases:
            raise VolumeError(
                "Scans are changed between a baseline and a follow-up; there is no follow-up; open it first."
            )
        session.role = role
        case, volume = work.case(session)
        voxels = None if op.have else session.write_voxels(volume)
        reply["slices"] = {}
        for k in case.segmentation.marked_slices():
            work.show(case, volume, k, reply)
        reply["scan"] = scan_state(case, volume, voxels)
        reply["reference"] = reference_state(case)


def _ask(work: Work, session: Session, op: Ask, reply: Reply) -> Iterable[Reply]:
    if op.hours is not None and op.hours <= 0:
        raise InputError(
            f"The hours between the scans are more than 0; got {op.hours:g}; give the later scan as the follow-up."
        )
    thresholds = _known("A threshold", op.thresholds, [item.name for item in fields(Thresholds)])
    if "inclusive" in thresholds:
        thresholds["inclusive"] = bool(thresholds["inclusive"])
    findings = _known("A finding", op.findings, list(NAMES))
    with session.lock:
        session.asked = Asked(op.hours, Thresholds(**thresholds), Findings(**findings))
    return ()


def _link(work: Work, session: Session, op: Nothing, reply: Reply) -> Iterable[Reply]:
    found = yield from linking.registered(work, session)
    with session.lock:
        reply["link"] = linking.link_state(work, session, found)


def _carry(work: Work, session: Session, op: Nothing, reply: Reply) -> Iterable[Reply]:
    if session.role != "followup":
        raise VolumeError(
            "Lesions are carried over to the follow-up; the baseline is on screen; change to the follow-up."
        )
    marked, reply["said"] = yield from linking.carried_over(work, session)
    with session.lock, work.showing_changes(session, reply) as (case, _):
        case.segmentation.adopt(marked)


def _range(work: Work, session: Session, seen: Seen, wanted: bool) -> Reply:
    """More of the growth's range, for as long as nobody asks for anything."""
    del seen, wanted
    asked_before, cases = work.asked, session.cases

    def go_on() -> bool:
        return work.asked == asked_before and session.cases is cases and not session.closed

    return {"growth_range": growth_range.record(work, session, RANGE_SECONDS, go_on)}


def _known(what: str, given: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """What is known of what was given; InputError for another name."""
    other = [name for name in given if name not in names]
    if other:
        raise InputError(
            f"{what} is one of {', '.join(names)}; got '{other[0][:60]}'; reload the page."
        )
    return {name: value for name, value in given.items() if value is not None}


OPERATIONS = (
    Operation("switch", Switch, _switch),
    Operation("asked", Ask, _ask),
    Operation("link", Nothing, _link),
    Operation("carry", Nothing, _carry),
)
PASSING = (InPassing("growth_range", bool, _range),)
ALWAYS = {"followup": lambda session: {"growth": growth.record(session)}}
