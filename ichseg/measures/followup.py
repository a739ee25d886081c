"""Labelled masks of one person to growth, and to what the bedside scores ask for: one rule for every door.

**Of what a growth is counted** (``Growth.of``):

- "iph", blood in the parenchyma, where all scans tell it: on each there is a lesion of type IPH and none of
  unspecified type, or no blood at all; on one at least there is IPH;
- else "not ivh", blood outside the ventricles, where any scan has a lesion of type IVH and there is other blood;
- else "all blood".

Oedema is no blood. Where IVH is marked on one scan alone, the other has none: it is new, or has cleared. A lesion of
unspecified type is never taken for IPH, and counts outside the ventricles. What is not counted, and what was assumed,
is said in ``Growth.notes``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from ichseg.errors import InputError
from ichseg.marks.lesion import TYPES, UNSPECIFIED, Lesion, LesionType
from ichseg.measures.growth import (
    Growth,
    Of,
    PartGrowth,
    ReadingError,
    Thresholds,
    growth,
    reading_error,
)
from ichseg.measures.scores import Findings
from ichseg.measures.volume import volume_ml
from ichseg.methods import catalogue
from ichseg.methods.model_error import ModelError, model_error
from ichseg.scan.volume import CTVolume


@dataclass(frozen=True)
class Blood:
    """The blood of one labelled mask in mL, by type.

    >>> blood = Blood.of([(Lesion(1, type="SDH"), 10.0), (Lesion(2, type="IVH"), 2.0), (Lesion(3, type="oedema"), 9.0)])
    >>> blood.total_ml, blood.ivh_ml, blood.parenchymal_ml
    (12.0, 2.0, None)
    """

    ml_by_type: Mapping[str, float]
    """Of types that have a voxel; oedema is not among them."""
    untyped: tuple[str, ...] = ()
    """The names of lesions with blood whose type nobody said."""
    scan_sha256: str = ""
    """The hash of the scan that it is on, empty where nobody asks."""
    lesions: tuple[tuple[Lesion, float], ...] = ()
    """Each lesion of blood with a voxel, and its volume in mL."""

    @classmethod
    def of(cls, lesions_ml: Iterable[tuple[Lesion, float]], scan_sha256: str = "") -> Blood:
        """From each lesion with its volume in mL; those without a voxel say nothing."""
        ml: dict[str, float] = {}
        untyped, each = [], []
        for lesion, amount_ml in lesions_ml:
            if not lesion.is_blood or amount_ml <= 0:
                continue
            each.append((lesion, amount_ml))
            ml[lesion.type] = ml.get(lesion.type, 0.0) + amount_ml
            if lesion.type == UNSPECIFIED:
                untyped.append(lesion.name)
        return cls(ml, tuple(untyped), scan_sha256, tuple(each))

    @classmethod
    def in_mask(
        cls, labels_zyx: npt.NDArray[Any], volume: CTVolume, lesions: Sequence[Lesion]
    ) -> Blood:
        """From a mask [z, y, x] of the lesions' numbers on the scan's grid.

        Raises VolumeError for another shape, InputError for a number that is none of a lesion.
        """
        labels = np.asarray(labels_zyx)
        known = {lesion.id for lesion in lesions}
        if strange := [
            value for value in np.unique(labels).tolist() if value and value not in known
        ]:
            raise InputError(
                f"A mask's labels are those of its lesions, {', '.join(map(str, sorted(known))) or 'none'}; "
                f"it has {strange[0]}; say what that one is."
            )
        ml = ((lesion, volume_ml(labels == lesion.id, volume)) for lesion in lesions)
        return cls.of(ml, volume.sha256)

    @property
    def total_ml(self) -> float:
        """All blood."""
        return sum(self.ml_by_type.values())

    @property
    def ivh_ml(self) -> float:
        """Blood that is marked as intraventricular."""
        return self._ml(lambda row: row.is_ventricular)

    @property
    def has_ivh(self) -> bool:
        """Whether any blood is marked as intraventricular."""
        return any(TYPES[name].is_ventricular for name in self.ml_by_type)

    @property
    def has_iph(self) -> bool:
        """Whether any blood is marked as intraparenchymal."""
        return any(TYPES[name].is_parenchymal for name in self.ml_by_type)

    @property
    def parenchymal_ml(self) -> float | None:
        """Intraparenchymal blood; None, unknown, where no IPH is marked, or some blood is of unspecified type."""
        if UNSPECIFIED in self.ml_by_type:
            return None
        return None if not self.has_iph else self._ml(lambda row: row.is_parenchymal)

    def counted_ml(self, of: Of) -> float:
        """The blood that a growth is counted of."""
        if of == "iph":
            return self._ml(lambda row: row.is_parenchymal)
        # Summed without what is left out: a difference would leave the dust of floating point.
        return self._ml(lambda row: of == "all blood" or not row.is_ventricular)

    def _ml(self, counts: Callable[[LesionType], bool]) -> float:
        return sum((ml for name, ml in self.ml_by_type.items() if counts(TYPES[name])), 0.0)


def between(
    before: Blood,
    after: Blood,
    *,
    hours: float | None = None,
    acquired: tuple[datetime | None, datetime | None] = (None, None),
    thresholds: Thresholds | None = None,
    methods: tuple[str | None, str | None] = (None, None),
    of: Of | None = None,
) -> Growth:
    """The growth from a baseline to a follow-up (the module's docstring says of what).

    Args:
        before: the blood on the first scan.
        after: the blood on the second.
        hours: from the first scan to the second, more than 0.
        acquired: when the two were taken, by their headers: for the hours, where nobody says others.
        thresholds: other numbers than the published ones, or > in place of >=.
        methods: the names of the methods whose masks they are, None where a mask does not say.
        of: which blood is counted, where more scans than these two decide it (``counted_of``).

    Raises:
        InputError: hours that are not more than 0.

    >>> baseline = Blood.of([(Lesion(1, type="SDH"), 10.2), (Lesion(2, type="IVH"), 0.8)])
    >>> followup = Blood.of([(Lesion(1, type="SDH"), 20.4), (Lesion(2, type="IVH"), 0.8)])
    >>> found = between(baseline, followup)
    >>> f"{found.growth_ml:+.1f} mL of {found.counted}", found.verdict("classic").expansion
    ('+10.2 mL of blood outside the ventricles', True)

    """
    of = of or counted_of(before, after)
    has_ivh = before.has_ivh or after.has_ivh
    error, note = _model_error(methods)
    by_headers = ""
    if hours is None:
        hours = hours_between(*acquired)
        if hours is not None:
            by_headers = f"The {hours:.1f} h between the scans are those of their headers."
    found = growth(
        before.counted_ml(of),
        after.counted_ml(of),
        hours=hours,
        ivh_ml=(before.ivh_ml, after.ivh_ml) if has_ivh else None,
        reading_error=error_between(before, after),
        thresholds=thresholds,
        of=of,
        notes=(*filter(None, (note, by_headers)), *_notes(before, after, of)),
        model_error=error,
    )
    return replace(
        found,
        lesions=tuple(lesions_between(before, after, hours)),
        types=tuple(types_between(before, after, hours)),
    )


def error_between(before: Blood, after: Blood) -> ReadingError:
    """The error of reading two scans: that with intraventricular blood where either has some."""
    return reading_error(before.has_ivh or after.has_ivh)


def lesions_between(before: Blood, after: Blood, hours: float | None = None) -> list[PartGrowth]:
    """The change of each lesion, those of the baseline first (``lesions_on`` says which two are one).

    >>> before = Blood.of([(Lesion(1, "Left", type="IPH"), 10.0)])
    >>> after = Blood.of([(Lesion(1, "Left", type="IPH"), 12.0), (Lesion(2, type="IVH"), 1.0)])
    >>> [(one.name, one.growth_ml, one.is_new) for one in lesions_between(before, after)]
    [('Left', 2.0, False), ('Lesion 2', 1.0, True)]
    """
    error = error_between(before, after)
    return [
        PartGrowth.of(lesion.name, lesion.type, *ml, hours=hours, reading_error=error)
        for lesion, ml in lesions_on(before, after)
    ]


def lesions_on(*scans: Blood) -> list[tuple[Lesion, tuple[float, ...]]]:
    """Each lesion of several scans, with its volume in mL on each: 0 where it is not. Those of the first scan first.

    Two lesions are one where they are called the same, and have the same type or one of them an unspecified type. It
    has the first type that somebody said.

    >>> old, new, later = (Blood.of([(Lesion(1 + k, "AAB"[k]), 1.0 + k)]) for k in range(3))
    >>> [(lesion.name, ml) for lesion, ml in lesions_on(old, new, later)]
    [('A', (1.0, 2.0, 0.0)), ('B', (0.0, 0.0, 3.0))]
    """
    found: list[tuple[Lesion, list[float]]] = []
    for number, scan in enumerate(scans):
        left = list(scan.lesions)
        for at, (lesion, ml) in enumerate(found):
            same = next((one for one in left if _are_one(lesion, one[0])), None)
            ml.append(0.0 if same is None else same[1])
            if same is not None:
                left.remove(same)
                if lesion.type == UNSPECIFIED:
                    found[at] = (replace(lesion, type=same[0].type), ml)
        found += [(lesion, [0.0] * number + [ml]) for lesion, ml in left]
    return [(lesion, tuple(ml)) for lesion, ml in found]


def types_between(before: Blood, after: Blood, hours: float | None = None) -> list[PartGrowth]:
    """The change of each type of blood, in the order of the table of types."""
    ml = (before.ml_by_type, after.ml_by_type)
    present = [name for name in TYPES if any(name in one for one in ml)]
    error = error_between(before, after)
    return [
        PartGrowth.of(
            "", name, *(one.get(name, 0.0) for one in ml), hours=hours, reading_error=error
        )
        for name in present
    ]


def hours_between(first: datetime | None, second: datetime | None) -> float | None:
    """Hours between the times of two scans; None where one is not known, or the second is no later."""
    if first is None or second is None or second <= first:
        return None
    return (second - first).total_seconds() / 3600


def _are_one(lesion: Lesion, other: Lesion) -> bool:
    unspecified = UNSPECIFIED in (lesion.type, other.type)
    return lesion.name == other.name and (unspecified or lesion.type == other.type)


def counted_of(*scans: Blood) -> Of:
    """Which blood a growth between scans of one person is counted of (the module's docstring says which)."""
    told = all(not one.ml_by_type or one.parenchymal_ml is not None for one in scans)
    if told and any(one.ml_by_type for one in scans):
        return "iph"
    outside = any(not TYPES[name].is_ventricular for one in scans for name in one.ml_by_type)
    return "not ivh" if outside and any(one.has_ivh for one in scans) else "all blood"


def counted_zyx(
    labels_zyx: npt.NDArray[Any], lesions: Sequence[Lesion], of: Of
) -> npt.NDArray[np.bool_]:
    """Where the blood is that a growth is counted of, bool [z, y, x], of a mask of the lesions' numbers."""
    counted = [lesion.id for lesion in lesions if Blood.of([(lesion, 1.0)]).counted_ml(of) > 0]
    return np.isin(labels_zyx, counted)


def findings(known: Findings, baseline: Blood, followup: Blood | None = None) -> Findings:
    """What people said, and of what they did not say, what the marks on the baseline tell.

    There is intraventricular blood where it is marked; there is none where it is marked on the follow-up alone and the
    types of all blood on the baseline are said; else it is not known.
    """
    intraventricular = None
    if baseline.has_ivh:
        intraventricular = True
    elif followup is not None and followup.has_ivh and not baseline.untyped:
        intraventricular = False
    marked: dict[str, Any] = {
        "parenchymal_ml": baseline.parenchymal_ml,
        "intraventricular": intraventricular,
    }
    return replace(
        known, **{name: value for name, value in marked.items() if getattr(known, name) is None}
    )


def _model_error(methods: tuple[str | None, str | None]) -> tuple[ModelError | None, str]:
    """The error of the model that made both masks, the default's where neither says what did; a note where two did."""
    first, second = methods
    if first is None and second is None:
        error = model_error(catalogue.default_model())
        return None if error is None else replace(error, assumed=True), ""
    if first == second:
        return model_error(str(first)), ""
    titles = (
        "one that is not said" if name is None else catalogue.title_of(name) for name in methods
    )
    return None, (
        f"The two volumes are of two methods, {' and '.join(titles)}: choose the same one on both scans."
    )


def _notes(before: Blood, after: Blood, of: Of) -> Iterable[str]:
    both = {"baseline": before, "follow-up": after}
    if before.scan_sha256 and before.scan_sha256 == after.scan_sha256:
        yield "Baseline and follow-up are one and the same scan, voxel for voxel: give the later scan."
    for role, one in both.items():
        if not one.ml_by_type:
            yield f"There is no blood in the mask of the {role}."
    untyped = [f"{name} ({role})" for role, one in both.items() for name in one.untyped]
    has_ivh = before.has_ivh or after.has_ivh
    if untyped and (has_ivh or before.has_iph or after.has_iph):
        counts = "it counts as blood outside the ventricles" if has_ivh else "all blood is counted"
        yield f"The type of {' and of '.join(untyped)} is not said: {counts}."
    for role, one in both.items():
        if has_ivh and not one.has_ivh and one.untyped:
            yield f"No intraventricular blood is marked on the {role}: there is taken to be none."
    types = [
        sorted(name for name in one.ml_by_type if not TYPES[name].is_ventricular)
        for one in both.values()
    ]
    if of != "iph" and not untyped and all(types) and types[0] != types[1]:
        yield (
            f"The types differ, {' and '.join(types[0])} on the baseline and {' and '.join(types[1])} on the "
            "follow-up: correct them where they are one lesion's."
        )
    if of == "all blood" and has_ivh:
        yield "All of the blood is intraventricular."
    left_out = sorted({name for name in (*types[0], *types[1]) if not TYPES[name].is_parenchymal})
    if of == "iph" and left_out:
        changes = (
            f"{type_} {before.ml_by_type.get(type_, 0):.1f} to {after.ml_by_type.get(type_, 0):.1f} mL"
            for type_ in left_out
        )
        yield f"Blood outside parenchyma and ventricles is not counted: {', '.join(changes)}."
    if of != "iph" and not untyped and any(types):
        yield "The definitions of expansion were published for intraparenchymal hemorrhage."
