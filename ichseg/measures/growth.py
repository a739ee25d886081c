"""Growth between two scans, the published definitions of expansion, and the error of reading.

Nothing here is computed from a guess: what cannot be answered is None, with what is missing named beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ichseg.errors import InputError
from ichseg.methods.model_error import ModelError

# --- How well people read volumes ------------------------------------------------------------------


@dataclass(frozen=True)
class ReadingError:
    """The smallest change in mL that manual volumetry can tell from its own error."""

    between_raters_ml: float
    within_rater_ml: float
    source: str

    def covers(self, change_ml: float) -> bool:
        """Whether a change, either way, is smaller than what two raters' volumes can tell.

        >>> PARENCHYMAL.covers(-5.7), PARENCHYMAL.covers(5.8)
        (True, False)
        """
        return abs(round(change_ml, 6)) < self.between_raters_ml


_RODRIGUEZ_LUNA = "Rodriguez-Luna et al. 2016"

#: For a hemorrhage without, and for one with, blood in the ventricles.
PARENCHYMAL = ReadingError(5.8, 3.8, _RODRIGUEZ_LUNA)
WITH_IVH = ReadingError(7.7, 6.7, _RODRIGUEZ_LUNA)


def reading_error(has_ivh: bool) -> ReadingError:
    """The error that applies: ``has_ivh`` is whether there is intraventricular blood, on either scan of two."""
    return WITH_IVH if has_ivh else PARENCHYMAL


# --- Growth ----------------------------------------------------------------------------------------

#: Which blood a growth is counted of (``followup.between`` chooses), and how that is called.
Of = Literal["iph", "not ivh", "all blood"]
COUNTED: dict[Of, str] = {
    "iph": "intraparenchymal blood",
    "not ivh": "blood outside the ventricles",
    "all blood": "all blood",
}


@dataclass(frozen=True)
class Definition:
    """A published definition of hematoma expansion, in words, with where it comes from."""

    rule: str
    source: str


_YOGENDRAKUMAR = "Yogendrakumar et al., Stroke 2020;51:1120-1127"

#: By name. Papers mix "more than" and "at least": that is ``Thresholds.inclusive``.
DEFINITIONS = {
    "classic": Definition(
        "growth of 6 mL or of 33 %", f"{_YOGENDRAKUMAR} (the standard definition there)"
    ),
    "absolute": Definition(
        "growth of 12.5 mL", "cited to Dowlatshahi et al., Neurology 2011 (not read at the source)"
    ),
    "revised": Definition(
        "classic, or any new intraventricular blood, or its growth by 1 mL", _YOGENDRAKUMAR
    ),
}


@dataclass(frozen=True)
class Thresholds:
    """What the definitions ask for; the defaults are the published numbers.

    ``inclusive`` takes a threshold as reached when it is met (>=), otherwise only when it is exceeded (>).
    """

    classic_ml: float = 6.0
    classic_percent: float = 33.0
    absolute_ml: float = 12.5
    ivh_ml: float = 1.0
    inclusive: bool = True

    def __post_init__(self) -> None:
        for name in ("classic_ml", "classic_percent", "absolute_ml", "ivh_ml"):
            check_number(name, getattr(self, name), 0, math.inf)

    def reached(self, value: float, threshold: float) -> bool:
        """Whether a growth reaches a threshold."""
        value = round(value, 6)  # so that 26.1 - 20.1 is 6 mL
        return value >= threshold if self.inclusive else value > threshold


@dataclass(frozen=True)
class Verdict:
    """One definition's answer, None where it cannot be given, and the reason in words with the numbers."""

    name: str
    expansion: bool | None
    rule: str
    because: str
    source: str

    @property
    def answer(self) -> str:
        """The answer in words."""
        return {True: "yes", False: "no", None: "not told"}[self.expansion]


@dataclass(frozen=True)
class PartGrowth:
    """The change of one lesion, or (``name`` empty) of all lesions of one type.

    ``is_new`` says that it has blood on the follow-up alone. ``growth_percent`` is None for an empty baseline,
    ``growth_ml_per_hour`` where the hours are not known. ``within_measurement_error`` is by the error of readers that
    applies to the two scans (``ReadingError.covers``): none was published for a part of the blood.

    >>> PartGrowth.of("Lesion 1", "IPH", 10.0, 14.0, hours=8.0).growth_ml_per_hour
    0.5
    """

    name: str
    type: str
    baseline_ml: float
    followup_ml: float
    growth_ml: float
    growth_percent: float | None
    growth_ml_per_hour: float | None
    is_new: bool
    within_measurement_error: bool

    @classmethod
    def of(
        cls,
        name: str,
        type: str,
        baseline_ml: float,
        followup_ml: float,
        *,
        hours: float | None,
        reading_error: ReadingError = PARENCHYMAL,
    ) -> PartGrowth:
        """From the two volumes in mL, the hours between the scans, and the error of reading them."""
        growth_ml = followup_ml - baseline_ml
        return cls(
            name=name,
            type=type,
            baseline_ml=baseline_ml,
            followup_ml=followup_ml,
            growth_ml=growth_ml,
            growth_percent=100 * growth_ml / baseline_ml if baseline_ml > 0 else None,
            growth_ml_per_hour=None if hours is None else growth_ml / hours,
            is_new=baseline_ml == 0 < followup_ml,
            within_measurement_error=reading_error.covers(growth_ml),
        )

    @property
    def in_words(self) -> str:
        """The change for a cell of a table.

        >>> PartGrowth.of("Lesion 1", "IPH", 10.0, 14.0, hours=8.0).in_words
        '+4.0 mL (+40 %), +0.50 mL/h, within error'
        """
        percent, rate = self.growth_percent, self.growth_ml_per_hour
        share = " (new)" if self.is_new else "" if percent is None else f" ({percent:+.0f} %)"
        pace = "" if rate is None else f", {rate:+.2f} mL/h"
        error = ", within error" if self.within_measurement_error else ""
        return f"{self.growth_ml:+.1f} mL{share}{pace}{error}"


@dataclass(frozen=True)
class Growth:
    """The change from a baseline scan to a follow-up; negative where the hematoma is smaller.

    ``growth_percent`` is of the baseline, None where that is empty; ``growth_ml_per_hour`` is None where the hours
    between the scans are not known. ``within_measurement_error`` says whether the change, either way, is smaller than
    what two raters' manual volumes can tell (``reading_error.between_raters_ml``). ``ivh_growth_ml`` is None where
    intraventricular blood was not labelled separately. ``of`` says which blood was counted, ``notes`` are sentences to
    read with it. ``model_error`` is None where that was not measured for what made the masks. ``lesions`` and ``types``
    are the same of each lesion and of each type of blood.
    """

    baseline_ml: float
    followup_ml: float
    growth_ml: float
    growth_percent: float | None
    hours: float | None
    growth_ml_per_hour: float | None
    ivh_growth_ml: float | None
    within_measurement_error: bool
    reading_error: ReadingError
    thresholds: Thresholds
    verdicts: tuple[Verdict, ...]
    of: Of = "all blood"
    notes: tuple[str, ...] = ()
    model_error: ModelError | None = None
    lesions: tuple[PartGrowth, ...] = ()
    types: tuple[PartGrowth, ...] = ()

    @property
    def counted(self) -> str:
        """Which blood the growth is of, in words."""
        return COUNTED[self.of]

    @property
    def pace(self) -> str:
        """The growth for each hour, to go on a sentence with; empty where the hours are not known."""
        rate = self.growth_ml_per_hour
        return "" if rate is None else f", {rate:+.2f} mL/h over {self.hours:.3g} h"

    @property
    def error_sentence(self) -> str:
        """How the change stands to the error of people who measure by hand, with the model's own error beside it."""
        error = self.reading_error
        where = "within" if self.within_measurement_error else "beyond"
        ivh = " with intraventricular blood" if error == WITH_IVH else ""
        readers = (
            f"The change is {where} readers' error ({error.between_raters_ml:g} mL{ivh} between two people who measure "
            f"by hand, {error.within_rater_ml:g} mL within one; {error.source})"
        )
        model = self.model_error
        own = own_error(model)
        if model is None:
            return f"{readers}; {own}."
        ml = (model.mean_percent / 100 * volume for volume in (self.baseline_ml, self.followup_ml))
        return f"{readers}; {own}, here {' and '.join(f'{one:.1f}' for one in ml)} mL."

    def verdict(self, name: str) -> Verdict:
        """The answer of a definition by its name in DEFINITIONS."""
        return next(verdict for verdict in self.verdicts if verdict.name == name)


def growth(
    baseline_ml: float,
    followup_ml: float,
    *,
    hours: float | None = None,
    ivh_ml: tuple[float, float] | None = None,
    reading_error: ReadingError = PARENCHYMAL,
    thresholds: Thresholds | None = None,
    of: Of = "all blood",
    notes: Iterable[str] = (),
    model_error: ModelError | None = None,
) -> Growth:
    """Judge the growth between two scans by each of the DEFINITIONS.

    ``followup.between`` gets the volumes from two labelled masks, and is what every door calls.

    Args:
        baseline_ml: the blood that is counted, on the first scan.
        followup_ml: the same on the second.
        hours: from the first scan to the second, more than 0.
        ivh_ml: intraventricular blood on the (first, second) scan, where it is labelled separately.
        reading_error: PARENCHYMAL, or WITH_IVH where there is intraventricular blood.
        thresholds: other numbers than the published ones, or > in place of >=.
        of: which blood the two volumes are of.
        notes: sentences to read with it.
        model_error: that of the model which made the masks.

    Raises:
        InputError: a volume that is negative or not finite, or hours that are not more than 0.

    >>> found = growth(20.0, 26.0, hours=4)
    >>> found.growth_ml, found.growth_percent, found.growth_ml_per_hour
    (6.0, 30.0, 1.5)
    >>> [(one.name, one.expansion) for one in found.verdicts]
    [('classic', True), ('absolute', False), ('revised', True)]
    >>> found.within_measurement_error
    False

    """
    volumes = {"baseline_ml": baseline_ml, "followup_ml": followup_ml}
    volumes |= dict(zip(("baseline IVH", "follow-up IVH"), ivh_ml or (), strict=False))
    for name, value in volumes.items():
        check_number(name, value, 0, math.inf)
    if hours is not None and not (math.isfinite(hours) and hours > 0):
        raise InputError(
            f"The hours between the scans are more than 0; got {hours:g}; give the later scan as the follow-up."
        )
    asked = thresholds or Thresholds()
    growth_ml = followup_ml - baseline_ml
    percent = 100 * growth_ml / baseline_ml if baseline_ml > 0 else None
    return Growth(
        baseline_ml=baseline_ml,
        followup_ml=followup_ml,
        growth_ml=growth_ml,
        growth_percent=percent,
        hours=hours,
        growth_ml_per_hour=None if hours is None else growth_ml / hours,
        ivh_growth_ml=None if ivh_ml is None else ivh_ml[1] - ivh_ml[0],
        within_measurement_error=reading_error.covers(growth_ml),
        reading_error=reading_error,
        thresholds=asked,
        verdicts=tuple(_verdicts(growth_ml, percent, ivh_ml, asked)),
        of=of,
        notes=tuple(notes),
        model_error=model_error,
    )


def own_error(model: ModelError | None) -> str:
    """How far the method that made the masks is off, as the end of a sentence."""
    if model is None:
        return "the error of the method that made the masks was not measured"
    if model.assumed:
        return f"the masks do not say what made them: {model.title}'s own error is {model.figure}"
    return f"the model's own error, that of {model.title}, is {model.figure}"


def growth_record(found: Growth) -> dict[str, Any]:
    """A growth for a JSON document: the fields of ``Growth``, with ``counted`` and ``error_sentence``."""
    return {
        **asdict(found),
        "notes": list(found.notes),
        "counted": found.counted,
        "error_sentence": found.error_sentence,
    }


def _verdicts(
    growth_ml: float,
    percent: float | None,
    ivh_ml: tuple[float, float] | None,
    asked: Thresholds,
) -> Iterable[Verdict]:
    sign = ">=" if asked.inclusive else ">"
    grown = f"{growth_ml:+.1f} mL"
    share = "no per cent of an empty baseline" if percent is None else f"{percent:+.1f} %"

    classic = asked.reached(growth_ml, asked.classic_ml) or (
        percent is not None and asked.reached(percent, asked.classic_percent)
    )
    classic_rule = f"growth {sign} {asked.classic_ml:g} mL or {sign} {asked.classic_percent:g} %"
    yield _verdict("classic", classic, classic_rule, f"{grown}, {share}")

    absolute = asked.reached(growth_ml, asked.absolute_ml)
    yield _verdict("absolute", absolute, f"growth {sign} {asked.absolute_ml:g} mL", grown)

    rule = f"{classic_rule}, or new IVH, or IVH growth {sign} {asked.ivh_ml:g} mL"
    if ivh_ml is None:
        # Classic expansion alone is revised expansion, whatever the ventricles hold.
        why = "intraventricular blood is not labelled separately"
        yield _verdict("revised", True if classic else None, rule, f"{grown}, {share}; {why}")
        return
    before, after = ivh_ml
    revised = classic or before == 0 < after or asked.reached(after - before, asked.ivh_ml)
    ivh = f"IVH {before:.1f} to {after:.1f} mL"
    yield _verdict("revised", revised, rule, f"{grown}, {share}; {ivh}")


def _verdict(name: str, expansion: bool | None, rule: str, because: str) -> Verdict:
    return Verdict(name, expansion, rule, because, DEFINITIONS[name].source)


def check_number(name: str, value: float, low: float, high: float) -> None:
    """Raise InputError for a value that is not finite, or not from ``low`` to ``high``."""
    if not (math.isfinite(value) and low <= value <= high):
        upto = "at least 0" if high == math.inf else f"from {low:g} to {high:g}"
        raise InputError(f"{name} is a number {upto}; got {value:g}; correct it.")
