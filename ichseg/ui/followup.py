"""The growth between a person's two scans, and the bedside scores, of what is marked on the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ichseg.errors import InputError
from ichseg.evidence import Assessment
from ichseg.growth import NAMES, PARENCHYMAL, WITH_IVH, Findings, Growth, Thresholds, growth, scores
from ichseg.segmentation import Lesion
from ichseg.ui.marking import title_of
from ichseg.ui.session import Asked, Case, Session


@dataclass(frozen=True)
class Blood:
    """The blood of one scan by its first method, in mL, as far as the lesions' types tell it apart."""

    model: str
    total_ml: float
    ivh_ml: float
    untyped: tuple[str, ...]
    """The names of lesions with blood whose type nobody said."""
    other_ml: float
    """Blood outside of parenchyma and ventricles."""

    @classmethod
    def of(cls, case: Case) -> Blood:
        """What is marked on a scan now."""
        marked, model = case.segmentation, case.models[0]
        lesions = {lesion.id: lesion for lesion in marked.lesions}
        ml = dict.fromkeys(lesions, 0.0)
        for k in marked.marked_slices(model):
            for id, part in case.slice_ml.get(k, {}).get(model, {}).items():
                ml[id] += part
        blood = [(lesions[id], amount) for id, amount in ml.items() if lesions[id].is_blood]

        def of_types(*types: str) -> float:
            return sum(amount for lesion, amount in blood if lesion.type in types)

        total_ml = sum(amount for _, amount in blood)
        ivh_ml = of_types("IVH")
        return cls(
            model=model,
            total_ml=total_ml,
            ivh_ml=ivh_ml,
            untyped=tuple(lesion.name for lesion, amount in blood if amount and _untyped(lesion)),
            other_ml=total_ml - ivh_ml - of_types("IPH", "unspecified"),
        )

    @property
    def parenchymal_ml(self) -> float:
        """Intraparenchymal blood, where every lesion's type is said."""
        return self.total_ml - self.ivh_ml - self.other_ml


def record(session: Session) -> dict[str, Any]:
    """What the follow-up panel shows.

    Keys: ``growth``, the fields of ``growth.Growth``, None where a scan is missing or nothing is marked on it; ``of``,
    which blood that is; ``notes``, sentences to read with it; ``scores``; ``findings``, those that come from the marks.
    """
    found, of, notes = _growth(session)
    known = _findings(session)
    return {
        "growth": None if found is None else asdict(found),
        "of": of,
        "notes": notes,
        "scores": [asdict(one) for one in scores(known)],
        "findings": {
            name: getattr(known, name)
            for name in NAMES
            if getattr(session.asked.findings, name) is None and getattr(known, name) is not None
        },
    }


def added(found: Assessment, session: Session) -> Assessment:
    """An assessment of the scan on screen with the growth to or from the other one, and the scores."""
    between, *_ = _growth(session)
    asked = session.asked.findings != Findings()
    return replace(
        found,
        growth=between,
        role=None
        if between is None
        else ("baseline" if session.role == "baseline" else "follow-up"),
        scores=scores(_findings(session)) if asked else (),
    )


def asked_from_page(message: Mapping[str, Any]) -> Asked:
    """What a person says: "hours", "thresholds" and "findings", by the names of their fields; null is not known.

    Raises InputError for what is no number, or out of range.
    """
    hours = _number("The hours between the scans", message.get("hours"))
    if hours is not None and hours <= 0:
        raise InputError(
            f"The hours between the scans are more than 0; got {hours:g}; give the later scan as the follow-up."
        )
    thresholds: dict[str, Any] = {}
    for item in fields(Thresholds):
        given = (message.get("thresholds") or {}).get(item.name)
        if given is not None:
            is_flag = item.name == "inclusive"
            thresholds[item.name] = bool(given) if is_flag else _number(item.name, given)
    findings: dict[str, Any] = {}
    for name, given in (message.get("findings") or {}).items():
        if name in NAMES and given is not None:
            findings[name] = given if isinstance(given, bool) else _number(NAMES[name], given)
    return Asked(hours, Thresholds(**thresholds), Findings(**findings))


def _growth(session: Session) -> tuple[Growth | None, str, list[str]]:
    """The growth, which blood it is of, and what has to be said with it."""
    cases = [session.cases.get("baseline"), session.cases.get("followup")]
    if cases[1] is None:
        return None, "", []
    scans = [Blood.of(case) for case in cases if case is not None]
    empty = [
        name
        for name, scan in zip(("baseline", "follow-up"), scans, strict=True)
        if not scan.total_ml
    ]
    if empty:
        return None, "", [f"Mark the hematoma on the {' and on the '.join(empty)}, too."]
    before, after = scans
    notes = []
    if before.model != after.model:
        notes.append(
            f"The two volumes are of two methods, {title_of(before.model)} and {title_of(after.model)}: "
            "choose the same one on both scans."
        )
    untyped = list(dict.fromkeys((*before.untyped, *after.untyped)))
    has_ivh = bool(before.ivh_ml or after.ivh_ml)
    told_apart = has_ivh and not untyped
    if has_ivh and untyped:
        notes.append(
            f"There is intraventricular blood, but the type of {' and of '.join(untyped)} is not said: the growth "
            "is of all blood together."
        )
    if told_apart and (before.other_ml or after.other_ml):
        notes.append("Blood outside of parenchyma and ventricles does not count here.")
    found = growth(
        before.parenchymal_ml if told_apart else before.total_ml,
        after.parenchymal_ml if told_apart else after.total_ml,
        hours=session.asked.hours,
        ivh_ml=(before.ivh_ml, after.ivh_ml) if told_apart else None,
        reading_error=WITH_IVH if has_ivh and not told_apart else PARENCHYMAL,
        thresholds=session.asked.thresholds,
    )
    return found, "intraparenchymal blood" if told_apart else "all blood", notes


def _findings(session: Session) -> Findings:
    """What people said, and of what they did not say what the marks on the baseline tell."""
    known = session.asked.findings
    baseline = session.cases.get("baseline")
    if baseline is None:
        return known
    blood = Blood.of(baseline)
    from_marks: dict[str, Any] = {}
    if blood.parenchymal_ml > 0 and not blood.untyped:
        from_marks["parenchymal_ml"] = blood.parenchymal_ml
    if blood.ivh_ml:
        from_marks["intraventricular"] = True
    return replace(
        known,
        **{name: value for name, value in from_marks.items() if getattr(known, name) is None},
    )


def _untyped(lesion: Lesion) -> bool:
    return lesion.type == "unspecified"


def _number(name: str, given: Any) -> float | None:
    if given is None or given == "":
        return None
    try:
        return float(given)
    except (TypeError, ValueError):
        raise InputError(f"{name} is a number; got '{given}'; correct it.") from None
