"""From a marked baseline and unmarked follow-ups to the growth: registered, carried over, measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ichseg.errors import UnsureError
from ichseg.measures import followup
from ichseg.measures.assessment import Assessment, OtherScan, assess_marked
from ichseg.measures.growth import Growth, Thresholds
from ichseg.measures.growth_range import SHIFT_MM, Boxed, GrowthRange, growth_range
from ichseg.measures.timeline import Timeline, hours_since_baseline, timeline
from ichseg.methods.carry import Carried, carry
from ichseg.methods.catalogue import mask_identity
from ichseg.methods.identity import Identity
from ichseg.scan.registration import Registration, register
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor


@dataclass(frozen=True, eq=False)
class FollowedUp:
    """A follow-up that was marked by its baseline, and the growth.

    ``found`` has all measures of the follow-up, with the growth and the baseline as its other scan; ``range`` is None
    where it was not asked for.
    """

    registration: Registration
    carried: Carried
    found: Assessment
    growth: Growth
    range: GrowthRange | None
    identity: Identity

    @property
    def notes(self) -> list[str]:
        """Sentences to read with the growth."""
        given = [] if self.range is None else [self.range.sentence]
        return [self.registration.sentence, *self.carried.notes, *given]


def registration_record(found: Registration) -> dict[str, Any]:
    """A registration for a JSON document.

    Keys: ``matrix`` (4 x 4, RAS+ mm of the follow-up to the baseline's), ``median_mm``, ``p90_mm`` and ``area_cm2`` of
    the inner tables (null without any), ``sure``, ``sentence``.
    """
    match = found.match
    return {
        "matrix": found.matrix.tolist(),
        "median_mm": None if match is None else match.median_mm,
        "p90_mm": None if match is None else match.p90_mm,
        "area_cm2": None if match is None else match.area_cm2,
        "sure": found.is_sure,
        "sentence": found.sentence,
    }


def follow_up(
    predictor: Predictor,
    baseline: Assessment,
    later: CTVolume,
    *,
    registration: Registration | None = None,
    unsure_too: bool = False,
    edge: bool = True,
    hours: float | None = None,
    thresholds: Thresholds | None = None,
    with_range: bool = False,
    progress: Callable[[float], None] | None = None,
) -> FollowedUp:
    """Mark a follow-up by its baseline, measure it, and tell the growth.

    Args:
        predictor: any method of the catalogue.
        baseline: the marked scan (``assess``).
        later: the follow-up.
        registration: of the two, where a caller has it.
        unsure_too: whether to go on where the registration is unsure.
        edge: whether the edge at half height is drawn, where the method takes it.
        hours: between the scans; those of their headers where it is None.
        thresholds: of the definitions of expansion.
        with_range: also the growth's range (``growth_range``), which takes several times as long.
        progress: called with the share that is done, 0 to 1.

    Raises:
        UnsureError: a registration that is unsure.
        InputError: a baseline on which nothing is marked.
        VolumeError: a scan without a skull.

    """
    say = progress or (lambda share: None)
    if registration is None:
        registration = register(baseline.volume, later, progress=lambda share: say(0.3 * share))
    if not unsure_too:
        registration.check_sure()
    most = 0.6 if with_range else 1.0
    carried = carry(
        predictor,
        (baseline.volume, baseline.labels_zyx, baseline.lesions),
        later,
        registration,
        edge=edge,
        progress=lambda share: say(0.3 + (most - 0.3) * share),
    )
    name = predictor.name
    identity = mask_identity(predictor, refinement=False, edge=carried.marked.edge)
    whole = assess_marked(
        carried.marked,
        later,
        model=name,
        model_title=predictor.title,
        weights_sha256=predictor.weights_sha256,
        second_look=False,
        identity=identity,
        role="follow-up",
    )
    growth = followup.between(
        baseline.blood,
        whole.blood,
        hours=hours,
        acquired=(baseline.volume.acquired_at, later.acquired_at),
        thresholds=thresholds,
        methods=(baseline.model or baseline.file_method, name),
    )
    given = None
    if with_range:
        match = registration.match
        given = growth_range(
            predictor,
            Boxed(
                baseline.volume,
                followup.counted_zyx(baseline.labels_zyx, baseline.lesions, growth.of),
            ),
            Boxed(later, followup.counted_zyx(whole.labels_zyx, whole.lesions, growth.of)),
            edge=edge,
            shift_mm=SHIFT_MM if match is None else match.median_mm,
            progress=lambda share: say(most + (1 - most) * share),
        )
    notes = (registration.sentence, *carried.notes)
    if given is not None:
        notes = (*notes, given.sentence)
    found = replace(
        whole,
        growth=growth,
        other=OtherScan.of(baseline, registration),
        notes=(*whole.notes, *notes),
    )
    return FollowedUp(registration, carried, found, growth, given, identity)


def follow_series(
    predictor: Predictor,
    baseline: Assessment,
    later: Sequence[CTVolume],
    *,
    unsure_too: bool = False,
    edge: bool = True,
    hours: Sequence[float] = (),
    thresholds: Thresholds | None = None,
    with_range: bool = False,
    progress: Callable[[float], None] | None = None,
) -> tuple[list[FollowedUp], Timeline]:
    """``follow_up`` of one or more follow-ups, each by the baseline for itself, and the volume against time.

    ``later`` are in the order of their times, ``hours`` those since the baseline (``timeline``); the rest is as of
    ``follow_up``. The first one's ``found`` has the timeline, with the growth as that has it.

    Raises:
        InputError: as ``timeline``, and ``follow_up``; UnsureError and VolumeError as that.

    """
    acquired = [one.acquired_at for one in (baseline.volume, *later)]
    since = hours_since_baseline(hours, acquired)
    done: list[FollowedUp] = []

    def say(share: float) -> None:
        if progress is not None:
            progress((len(done) + share) / len(later))

    for number, volume in enumerate(later, 2):
        try:
            one = follow_up(
                predictor,
                baseline,
                volume,
                unsure_too=unsure_too,
                edge=edge,
                hours=since[number - 1] if hours else None,
                thresholds=thresholds,
                with_range=with_range,
                progress=say,
            )
        except UnsureError as error:
            raise UnsureError(
                f"Scan {number}: {error}" if len(later) > 1 else str(error)
            ) from error
        done.append(one)
    over_time = timeline(
        [baseline.blood, *(one.found.blood for one in done)],
        hours=hours,
        acquired=acquired,
        thresholds=thresholds,
        methods=[baseline.model or baseline.file_method, *[predictor.name] * len(done)],
    )
    first = replace(
        done[0].found,
        growth=over_time.growths[0],
        timeline=over_time,
        further=tuple(OtherScan.of(one.found) for one in done[1:]),
    )
    return [replace(done[0], found=first), *done[1:]], over_time
