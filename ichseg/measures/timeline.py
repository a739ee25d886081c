"""Volume against time over two or more scans of one person: of each lesion, and of all blood that is counted.

It is what two scans are compared by (``followup``), for every scan with the first one and with the one before it. Which
blood is counted is decided once, of all scans, so that the volumes of the whole belong together.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ichseg.errors import InputError
from ichseg.marks.lesion import UNSPECIFIED, Lesion
from ichseg.measures.followup import (
    Blood,
    between,
    counted_of,
    error_between,
    hours_between,
    lesions_on,
)
from ichseg.measures.growth import (
    COUNTED,
    WITH_IVH,
    Growth,
    Of,
    PartGrowth,
    ReadingError,
    Thresholds,
    growth_record,
    own_error,
)
from ichseg.methods.model_error import ModelError

#: Why there is no timeline.
ONE_SCAN = "Volume against time is of two scans or more; got one; give a follow-up."


@dataclass(frozen=True)
class TimePoint:
    """A volume on one scan; ``scan`` counts from 1, the baseline, where both changes are None."""

    scan: int
    hours: float | None
    ml: float
    from_baseline: PartGrowth | None = None
    from_previous: PartGrowth | None = None


@dataclass(frozen=True)
class VolumeLine:
    """The volume of a lesion, or (``lesion`` None) of all blood that is counted, a point for each scan."""

    lesion: Lesion | None
    points: tuple[TimePoint, ...]


@dataclass(frozen=True)
class Timeline:
    """Two or more scans of one person in the order of their times.

    ``of`` says which blood ``total`` counts; ``hours`` are those since the baseline, None where they are not known.
    ``growths`` go from the baseline to each later scan. ``scans_sha256`` are the scans' hashes.
    """

    of: Of
    hours: tuple[float | None, ...]
    total: VolumeLine
    lesions: tuple[VolumeLine, ...]
    growths: tuple[Growth, ...]
    scans_sha256: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[VolumeLine, ...]:
        """Those of the lesions, then that of the whole, where it is another than the only lesion's."""
        alone = len(self.lesions) == 1 and _volumes(self.lesions[0]) == _volumes(self.total)
        return self.lesions if alone else (*self.lesions, self.total)

    @property
    def counted(self) -> str:
        """Which blood the whole is of, in words."""
        return COUNTED[self.of]

    def title_of(self, line: VolumeLine) -> str:
        """What tables and plots call a line."""
        one = line.lesion
        if one is None:
            return f"All: {self.counted}"
        return one.name if one.type == UNSPECIFIED else f"{one.name} ({one.type})"

    @property
    def notes(self) -> list[str]:
        """Sentences to read with it: the growths' own, and what is said of one of them alone with its scan's number."""
        scans: dict[str, list[int]] = {}
        for number, found in enumerate(self.growths, 2):
            for note in found.notes:
                scans.setdefault(note, []).append(number)
        notes = [
            note
            if len(where) == len(self.growths)
            else f"Scan {', '.join(map(str, where))}: {note}"
            for note, where in scans.items()
        ]
        unknown = [number for number, hours in enumerate(self.hours, 1) if hours is None]
        if unknown and len(self.hours) > 2:
            notes.append(
                f"The hours of scan {', '.join(map(str, unknown))} are not known, or no later than those of the scan "
                "before: give them."
            )
        return notes

    @property
    def error_sentence(self) -> str:
        """What "within error" is, with the model's own error beside it."""
        errors = {error.between_raters_ml: error for error in self.reading_errors}
        ml = " or ".join(
            f"{at:g} mL{' with intraventricular blood' if error == WITH_IVH else ''}"
            for at, error in sorted(errors.items())
        )
        sources = ", ".join(sorted({error.source for error in errors.values()}))
        own = {own_error(found.model_error) for found in self.growths}
        return (
            f'"Within error" is a change that two people who measure by hand cannot tell, below {ml} ({sources}); '
            f"{'; '.join(sorted(own))}."
        )

    @property
    def reading_errors(self) -> tuple[ReadingError, ...]:
        """The error of readers that applies to each growth."""
        return tuple(found.reading_error for found in self.growths)

    @property
    def model_error(self) -> ModelError | None:
        """The error of the model that is known to have made all masks."""
        errors = {found.model_error for found in self.growths}
        error = errors.pop() if len(errors) == 1 else None
        return None if error is None or error.assumed else error


def timeline(
    scans: Sequence[Blood],
    *,
    hours: Sequence[float] = (),
    acquired: Sequence[datetime | None] = (),
    thresholds: Thresholds | None = None,
    methods: Sequence[str | None] = (),
) -> Timeline:
    """The volumes of two or more scans against time, and their changes.

    Args:
        scans: the blood on each, the baseline first.
        hours: from the baseline to each later scan, rising; by ``acquired`` where they are not given.
        acquired: when each was taken, by their headers. One that is no later than those before counts as not known.
        thresholds: as ``followup.between`` takes them.
        methods: of each scan's masks, as there.

    Raises:
        InputError: fewer than two scans; hours for some of the later scans alone, or that do not rise from above 0.

    >>> scans = [Blood.of([(Lesion(1, type="IPH"), ml)]) for ml in (10.0, 18.0, 20.0)]
    >>> found = timeline(scans, hours=[4, 24])
    >>> [(one.from_baseline.growth_ml, one.from_previous.growth_ml_per_hour) for one in found.total.points[1:]]
    [(8.0, 2.0), (10.0, 0.1)]
    >>> [one.from_previous.within_measurement_error for one in found.total.points[1:]]
    [False, True]

    """
    if len(scans) < 2:
        raise InputError(ONE_SCAN)
    times = acquired or [None] * len(scans)
    since = hours_since_baseline(hours, times)
    of = counted_of(*scans)
    growths = [
        between(
            scans[0],
            scan,
            hours=since[at] if hours else None,
            acquired=(times[0], times[at] if since[at] is not None else None),
            thresholds=thresholds,
            methods=(methods[0], methods[at]) if methods else (None, None),
            of=of,
        )
        for at, scan in enumerate(scans[1:], 1)
    ]
    total_ml = [scan.counted_ml(of) for scan in scans]
    return Timeline(
        of=of,
        hours=since,
        total=_line(None, total_ml, scans, since),
        lesions=tuple(_line(lesion, ml, scans, since) for lesion, ml in lesions_on(*scans)),
        growths=tuple(growths),
        scans_sha256=tuple(scan.scan_sha256 for scan in scans),
    )


def hours_since_baseline(
    hours: Sequence[float], acquired: Sequence[datetime | None]
) -> tuple[float | None, ...]:
    """The hours of each scan, as ``timeline`` takes the two; raises as it does."""
    if not hours:
        return _by_headers(acquired)
    later = len(acquired) - 1
    rising = all(first < second for first, second in itertools.pairwise((0.0, *hours)))
    if len(hours) != later or not rising:
        raise InputError(
            f"The hours go from the baseline to each of {later} later {'scan' if later == 1 else 'scans'} and rise "
            f"from above 0; got {', '.join(f'{one:g}' for one in hours)}; give both in the order of the times."
        )
    return (0.0, *map(float, hours))


def _by_headers(acquired: Sequence[datetime | None]) -> tuple[float | None, ...]:
    found: list[float | None] = [0.0]
    for at in acquired[1:]:
        hours = hours_between(acquired[0], at)
        last = max(one for one in found if one is not None)
        found.append(hours if hours is not None and hours > last else None)
    return tuple(found)


def timeline_record(found: Timeline) -> dict[str, Any]:
    """A timeline for a JSON document.

    Keys: ``of`` and ``counted``; ``hours`` and ``scans_sha256``, one a scan; ``total`` and ``lesions``, each with
    ``name``, ``type`` and ``points`` (``scan``, ``hours``, ``ml``, ``from_baseline``, ``from_previous``: the fields of
    ``PartGrowth``, null on the baseline); ``growths``, from the baseline to each later scan (``growth_record``);
    ``error_sentence``; ``notes``.
    """
    total, *lesions = (
        {
            "name": "" if line.lesion is None else line.lesion.name,
            "type": "" if line.lesion is None else line.lesion.type,
            "points": [asdict(point) for point in line.points],
        }
        for line in (found.total, *found.lesions)
    )
    return {
        "of": found.of,
        "counted": found.counted,
        "hours": list(found.hours),
        "scans_sha256": list(found.scans_sha256),
        "total": total,
        "lesions": lesions,
        "growths": [growth_record(one) for one in found.growths],
        "error_sentence": found.error_sentence,
        "notes": found.notes,
    }


def _line(
    lesion: Lesion | None,
    volumes_ml: Sequence[float],
    scans: Sequence[Blood],
    hours: Sequence[float | None],
) -> VolumeLine:
    def change(first: int, second: int) -> PartGrowth:
        start, end = hours[first], hours[second]
        return PartGrowth.of(
            "" if lesion is None else lesion.name,
            "" if lesion is None else lesion.type,
            volumes_ml[first],
            volumes_ml[second],
            hours=None if start is None or end is None else end - start,
            reading_error=error_between(scans[first], scans[second]),
        )

    return VolumeLine(
        lesion,
        tuple(
            TimePoint(at + 1, hours[at], ml, change(0, at), change(at - 1, at))
            if at
            else TimePoint(1, hours[0], ml)
            for at, ml in enumerate(volumes_ml)
        ),
    )


def _volumes(line: VolumeLine) -> list[float]:
    return [point.ml for point in line.points]
