"""Bedside scores of a hemorrhage, with each point shown.

Nothing here is computed from a guess: what cannot be answered is None, with what is missing named beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

from ichseg.errors import InputError
from ichseg.measures.growth import check_number


@dataclass(frozen=True)
class Findings:
    """What the scores ask for. None is "not known", and stays so: no score takes it for no.

    The first two come from a mask that has the types of blood labelled separately; the others from people.
    """

    parenchymal_ml: float | None = None
    """Intraparenchymal blood on the baseline scan."""
    intraventricular: bool | None = None
    """Whether there is intraventricular blood."""
    hours_from_onset: float | None = None
    """From the onset of symptoms to the baseline scan."""
    recurrent: bool | None = None
    """Whether there was an intracerebral hemorrhage before."""
    warfarin: bool | None = None
    """Warfarin at onset."""
    anticoagulant: bool | None = None
    """Any anticoagulant at onset."""
    nihss: int | None = None
    glucose_mg_dl: float | None = None
    gcs: int | None = None
    infratentorial: bool | None = None
    age_years: float | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None and item.name in _RANGES:
                low, high = _RANGES[item.name]
                check_number(NAMES[item.name], value, low, high)
                if item.name in ("nihss", "gcs") and value != int(value):
                    raise InputError(
                        f"{NAMES[item.name]} is a whole number; got {value:g}; correct it."
                    )


#: What people call the findings.
NAMES = {
    "parenchymal_ml": "intraparenchymal volume, mL",
    "intraventricular": "intraventricular blood",
    "hours_from_onset": "hours from onset to the baseline CT",
    "recurrent": "recurrent intracerebral hemorrhage",
    "warfarin": "warfarin at onset",
    "anticoagulant": "anticoagulant at onset",
    "nihss": "NIHSS",
    "glucose_mg_dl": "glucose, mg/dL",
    "gcs": "Glasgow Coma Scale",
    "infratentorial": "infratentorial origin",
    "age_years": "age, years",
}

_RANGES = {
    "parenchymal_ml": (0, math.inf),
    "hours_from_onset": (0, math.inf),
    "nihss": (0, 42),
    "glucose_mg_dl": (0, 2000),
    "gcs": (3, 15),
    "age_years": (0, 130),
}


@dataclass(frozen=True)
class Item:
    """One line of a score: the finding's field, its name, its value, its points (None: not known) and its rule."""

    finding: str
    name: str
    value: float | bool | None
    points: int | None
    most: int
    rule: str


@dataclass(frozen=True)
class Score:
    """A score with each point shown.

    ``total`` is None as long as a finding is missing; ``least`` and ``most`` are then what it can still be.
    ``meaning`` is what the source says of the total, None where the source was not read for it.
    """

    name: str
    items: tuple[Item, ...]
    total: int | None
    least: int
    most: int
    missing: tuple[str, ...]
    meaning: str | None
    source: str


def scores(findings: Findings) -> tuple[Score, ...]:
    """BRAIN, NAG and the ICH score of what is known.

    BAT is not among them: its weights were not read at their source, and its signs need a reader's eye.

    >>> brain, nag, ich = scores(Findings(nihss=14, anticoagulant=False, glucose_mg_dl=150))
    >>> nag.total, nag.meaning, [item.points for item in nag.items]
    (2, 'expansion in 60 % of the derivation cohort', [1, 0, 1])
    >>> brain.total, brain.missing[:2]
    (None, ('intraparenchymal volume, mL', 'recurrent intracerebral hemorrhage'))

    """
    return tuple(_score(findings, *sheet) for sheet in _SHEETS)


_Points = Callable[[float], int]
_Line = tuple[str, _Points, int, str]


def _steps(*upper_points: tuple[float, int], above: int) -> _Points:
    """Points of a value: those of the first bound that it does not exceed, else ``above``."""

    def points(value: float) -> int:
        return next((points for bound, points in upper_points if value <= bound), above)

    return points


def _from(threshold: float, points: int) -> _Points:
    """Points where a value (a finding that is there counts as 1) reaches a threshold."""
    return lambda value: points if value >= threshold else 0


def _present(points: int) -> _Points:
    return _from(1, points)


def _brain_meaning(total: int) -> str:
    return {0: "predicted expansion 3.4 %", 24: "predicted expansion 85.8 %"}.get(
        total, "predicted expansion between 3.4 % (0 points) and 85.8 % (24 points)"
    )


def _nag_meaning(total: int) -> str:
    return f"expansion in {(4, 25, 60, 100)[total]} % of the derivation cohort"


_Sheet = tuple[str, tuple[_Line, ...], Callable[[int], str] | None, str]

_SHEETS: tuple[_Sheet, ...] = (
    (
        "BRAIN",
        (
            (
                "parenchymal_ml",
                _steps((10, 0), (20, 5), above=7),
                7,
                "<= 10 mL 0, 10 to 20 mL 5, > 20 mL 7",
            ),
            ("recurrent", _present(4), 4, "recurrent hemorrhage 4"),
            ("warfarin", _present(6), 6, "warfarin at onset 6"),
            ("intraventricular", _present(2), 2, "intraventricular blood 2"),
            (
                "hours_from_onset",
                _steps((1, 5), (2, 4), (3, 3), (4, 2), (5, 1), above=0),
                5,
                "<= 1 h 5, 1 to 2 h 4, 2 to 3 h 3, 3 to 4 h 2, 4 to 5 h 1, > 5 h 0",
            ),
        ),
        _brain_meaning,
        "Wang et al. 2015",
    ),
    (
        "NAG",
        (
            ("nihss", _from(10, 1), 1, "NIHSS >= 10 1"),
            ("anticoagulant", _present(1), 1, "anticoagulant 1"),
            ("glucose_mg_dl", _from(133, 1), 1, "glucose >= 133 mg/dL 1"),
        ),
        _nag_meaning,
        "Sakuta et al. 2018",
    ),
    (
        "ICH score",
        (
            ("gcs", _steps((4, 2), (12, 1), above=0), 2, "GCS 3 to 4 2, 5 to 12 1, 13 to 15 0"),
            ("parenchymal_ml", _from(30, 1), 1, "volume >= 30 mL 1"),
            ("intraventricular", _present(1), 1, "intraventricular blood 1"),
            ("infratentorial", _present(1), 1, "infratentorial origin 1"),
            ("age_years", _from(80, 1), 1, "age >= 80 years 1"),
        ),
        None,
        "Hemphill et al. 2001",
    ),
)


def _score(
    findings: Findings,
    name: str,
    lines: tuple[_Line, ...],
    meaning: Callable[[int], str] | None,
    source: str,
) -> Score:
    items = []
    for finding, points, most, rule in lines:
        value = getattr(findings, finding)
        known = None if value is None else points(float(value))
        items.append(Item(finding, NAMES[finding], value, known, most, rule))
    missing = tuple(item.name for item in items if item.points is None)
    least = sum(item.points or 0 for item in items)
    total = None if missing else least
    return Score(
        name=name,
        items=tuple(items),
        total=total,
        least=least,
        most=sum(item.most if item.points is None else item.points for item in items),
        missing=missing,
        meaning=None if total is None or meaning is None else meaning(total),
        source=source,
    )
