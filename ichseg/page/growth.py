"""The growth between a person's two scans, and the bedside scores, of what is marked on the page."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from ichseg.files.names import with_label
from ichseg.measures.assessment import Assessment, OtherScan
from ichseg.measures.followup import Blood, between, findings
from ichseg.measures.growth import Growth, growth_record
from ichseg.measures.scores import NAMES, Findings, scores
from ichseg.methods.catalogue import title_of
from ichseg.page.case import Case
from ichseg.page.sessions import Role, Session
from ichseg.scan.registration import Registration


def blood_of(case: Case) -> Blood:
    """The blood that is marked on a scan now, by its first method."""
    lesions, model = case.segmentation.lesions, case.models[0]
    scan_sha256 = case.volume.sha256 if case.volume is not None else ""
    return Blood.of(((one, case.lesion_ml(one.id, model)) for one in lesions), scan_sha256)


def record(session: Session) -> dict[str, Any]:
    """What the follow-up panel shows.

    Keys: ``growth`` (``growth.growth_record``), None where a scan is missing or nothing is marked on it; ``notes``,
    sentences to read with it; ``scores``; ``findings``, those that come from the marks.
    """
    found, notes = _growth(session)
    known = _findings(session)
    return {
        "growth": None if found is None else growth_record(found),
        "notes": notes,
        "scores": [asdict(one) for one in scores(known)],
        "findings": {
            name: getattr(known, name)
            for name in NAMES
            if getattr(session.asked.findings, name) is None and getattr(known, name) is not None
        },
    }


def added(found: Assessment, session: Session, other_label: str = "") -> Assessment:
    """An assessment of the scan on screen with the growth to or from the other one, and the scores.

    ``other_label`` is what a person calls the other one.
    """
    found_growth, _ = _growth(session)
    asked = session.asked.findings != Findings()
    return replace(
        found,
        growth=found_growth,
        role=None
        if found_growth is None
        else ("baseline" if session.role == "baseline" else "follow-up"),
        scores=scores(_findings(session)) if asked else (),
        other=None if found_growth is None else _other(session, other_label),
    )


def _other(session: Session, label: str) -> OtherScan | None:
    """The scan that is not on screen."""
    role: Role = "followup" if session.role == "baseline" else "baseline"
    case = session.cases.get(role)
    if case is None:
        return None
    volume = case.volume or case.read()  # which may have been put aside
    marked, model = case.segmentation, case.models[0]
    return OtherScan(
        with_label(volume, label),
        marked.labels_zyx(model),
        tuple(marked.lesions),
        title_of(model),
        _onto(session),
    )


def _onto(session: Session) -> Registration | None:
    """The motion from the scan on screen to the other one, where the page has registered them and is sure."""
    tokens = frozenset(case.token for case in session.cases.values())
    if session.registered is None or session.registered[0] != tokens:
        return None
    found = session.registered[1]
    if not found.is_sure:
        return None
    return found if session.role == "followup" else found.inverted


def _growth(session: Session) -> tuple[Growth | None, list[str]]:
    """The growth, and what has to be said with it."""
    cases = [session.cases.get("baseline"), session.cases.get("followup")]
    if cases[1] is None:
        return None, []
    there = [case for case in cases if case is not None]
    scans = [(case.models[0], blood_of(case)) for case in there]
    empty = [
        name
        for name, (_, blood) in zip(("baseline", "follow-up"), scans, strict=True)
        if not blood.total_ml
    ]
    if empty:
        return None, [f"Mark the hematoma on the {' and on the '.join(empty)}, too."]
    (model, before), (other, after) = scans
    found = between(
        before,
        after,
        hours=session.asked.hours,
        acquired=(there[0].acquired_at, there[-1].acquired_at),
        thresholds=session.asked.thresholds,
        methods=(model, other),
    )
    return found, list(found.notes)


def _findings(session: Session) -> Findings:
    """What people said, and of what they did not say what the marks tell."""
    known, cases = session.asked.findings, session.cases
    if "baseline" not in cases:
        return known
    later = blood_of(cases["followup"]) if "followup" in cases else None
    return findings(known, blood_of(cases["baseline"]), later)
