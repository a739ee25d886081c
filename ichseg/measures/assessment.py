"""One assessment of one scan: everything that is measured of a labelled mask, and how the mask came about.

``measure`` takes all measures of the table (``fields``), of each lesion and of all blood together; ``assess`` puts them
together with what a colleague needs to check them. Every file and table of numbers is made of an ``Assessment``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ichseg.errors import InputError
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.marks.lesion import Lesion
from ichseg.measures.abc2 import ABC2
from ichseg.measures.fields import measure_subject
from ichseg.measures.followup import Blood
from ichseg.measures.growth import Growth, ReadingError, reading_error
from ichseg.measures.landmarks import Landmarks
from ichseg.measures.scores import Score
from ichseg.measures.spread import VolumeRange
from ichseg.measures.timeline import Timeline
from ichseg.measures.values import Measures, Subject
from ichseg.measures.volume import in_mask
from ichseg.methods.automatic import Automatic
from ichseg.methods.catalogue import title_of
from ichseg.methods.identity import Identity
from ichseg.methods.model_error import ModelError, model_error
from ichseg.scan.registration import Registration
from ichseg.scan.volume import CTVolume

Labels = npt.NDArray[np.uint8]


def measure(
    labels_zyx: npt.ArrayLike, volume: CTVolume, landmarks: Landmarks | None = None
) -> tuple[Measures, tuple[Measures, ...]]:
    """Everything about a mask: all that is not 0 together, and each label by itself.

    Args:
        labels_zyx: [z, y, x] of the scan's shape, bool or whole numbers; each number but 0 is a lesion.
        volume: the scan.
        landmarks: ``Landmarks(volume)``, to have the side and the distance to the skull too; made once for a scan.

    """
    labels = np.asarray(labels_zyx)
    in_any = in_mask(labels, volume)
    values = [int(value) for value in np.unique(labels[in_any])]
    lesions = tuple(
        measure_subject(Subject(labels == value, volume, landmarks), value) for value in values
    )
    if len(lesions) == 1:
        return replace(lesions[0], label=None), lesions
    return measure_subject(Subject(in_any, volume, landmarks, is_several=True), None), lesions


@dataclass(frozen=True, eq=False)
class OtherScan:
    """The other of a growth's two scans: enough for a reader to see that it is the right one.

    ``onto`` is the motion from the assessed scan's mm to this one's, None where they are not registered.
    """

    volume: CTVolume
    labels_zyx: Labels
    lesions: tuple[Lesion, ...]
    method: str
    onto: Registration | None = None

    @classmethod
    def of(cls, found: Assessment, onto: Registration | None = None) -> OtherScan:
        """That of an assessment of it."""
        return cls(found.volume, found.labels_zyx, found.lesions, found.model_title, onto)


@dataclass(frozen=True, eq=False)
class Assessment:
    """A labelled mask of one scan with what was measured of it, and how it came about.

    ``total`` is of all blood together, which oedema is not; ``measures`` of each of ``lesions``, in their order.
    ``ranges`` has the volume under jittered boxes by lesion, None for the total, where it was asked for. ``slices_by``
    counts the slices of masks by origin, of all lesions. ``no_range`` says why a lesion has no range; ``stops``, by
    lesion, where its propagation ended and why (``propagate.Stop.record``). ``other`` is the other scan of ``growth``.
    """

    volume: CTVolume
    labels_zyx: Labels
    lesions: tuple[Lesion, ...]
    total: Measures
    measures: tuple[Measures, ...]
    model: str | None = None
    model_title: str = "Drawn by hand"
    weights_sha256: Mapping[str, str] = field(default_factory=dict)
    second_look: bool | None = None
    identity: Identity | None = None
    prompts: Mapping[tuple[int, int], Sequence[Box]] = field(default_factory=dict)
    slices_by: Mapping[str, int] = field(default_factory=dict)
    ranges: Mapping[int | None, VolumeRange] = field(default_factory=dict)
    no_range: Mapping[int | None, str] = field(default_factory=dict)
    growth: Growth | None = None
    role: Literal["baseline", "follow-up"] | None = None
    scores: tuple[Score, ...] = ()
    notes: tuple[str, ...] = ()
    stops: Mapping[int, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    other: OtherScan | None = None
    file_method: str | None = None
    """The method that a mask file says made it, where the masks were read from one."""
    automatic: Automatic | None = None
    """Of boxes that the program itself proposed and took; None where a person drew them."""
    timeline: Timeline | None = None
    """Of all scans of the person that were measured together, where there are two or more."""
    further: tuple[OtherScan, ...] = ()
    """The timeline's scans beside this one and ``other``."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes its millilitres doubtful, those of the other scans, too."""
        others = (*([] if self.other is None else [self.other]), *self.further)
        which = "the other scan" if len(others) == 1 else "another scan"
        return (
            *self.volume.warnings,
            *(
                f"Of {which} ({other.volume.called}): {one}"
                for other in others
                for one in other.volume.warnings
            ),
        )

    @property
    def model_error(self) -> ModelError | None:
        """How far the method's volumes were off in cross-validation; None where that was not measured.

        That was from boxes around the reference mask: of automatic masks ``Automatic.error`` says it.
        """
        if self.automatic is not None:
            return None
        name = self.model or self.file_method
        return None if name is None else model_error(name)

    @property
    def blood(self) -> Blood:
        """Its blood in mL, by type."""
        ml = (one.volume_ml for one in self.measures)
        return Blood.of(zip(self.lesions, ml, strict=True), self.volume.sha256)

    def measures_of(self, lesion: int | None) -> Measures:
        """The measures of a lesion, or (None) of all blood, with its range or why there is none."""
        one = self.total if lesion is None else self._own(lesion)
        return one.with_value("range", self.ranges.get(lesion), self.no_range.get(lesion, ""))

    def _own(self, lesion: int) -> Measures:
        return next(one for one in self.measures if one.label == lesion)

    @property
    def blood_zyx(self) -> npt.NDArray[np.bool_]:
        """The mask of all blood, bool [z, y, x]."""
        return np.isin(self.labels_zyx, [lesion.id for lesion in self.lesions if lesion.is_blood])

    @property
    def reading_error(self) -> ReadingError:
        """The published error of human raters for such blood."""
        return reading_error(self.blood.has_ivh)


def assess(
    labels_zyx: npt.NDArray[Any],
    volume: CTVolume,
    lesions: Sequence[Lesion],
    *,
    landmarks: Landmarks | None = None,
    model: str | None = None,
    model_title: str = "",
    weights_sha256: Mapping[str, str] | None = None,
    second_look: bool | None = None,
    identity: Identity | None = None,
    prompts: Mapping[tuple[int, int], Sequence[Box]] | None = None,
    slices_by: Mapping[str, int] | None = None,
    ranges: Mapping[int | None, VolumeRange] | None = None,
    no_range: Mapping[int | None, str] | None = None,
    growth: Growth | None = None,
    role: Literal["baseline", "follow-up"] | None = None,
    scores: Sequence[Score] = (),
    notes: Sequence[str] = (),
    stops: Mapping[int, Sequence[Mapping[str, Any]]] | None = None,
) -> Assessment:
    """Measure a labelled mask.

    Args:
        labels_zyx: whole numbers, [z, y, x] of the scan's shape; each lesion's voxels have its number.
        volume: the scan.
        lesions: what the numbers stand for; those without a voxel are left out.
        landmarks: ``Landmarks(volume)``, where a caller has it already; made anew otherwise.
        model: the name of the method whose masks they are; None where they were drawn by hand or came from a file.
        model_title: its name for people; where the masks come from, without one.
        weights_sha256: its weight files and their hashes.
        second_look: whether the boxes were answered with one.
        identity: of all that decided the masks; None where they were drawn by hand or came from a file.
        prompts: (slice from 0, lesion) -> the boxes that a person drew there.
        slices_by: how many masks of slices come from a box there, from propagation, from a person's hand.
        ranges: the volume under jittered boxes, by lesion number; None is the total.
        no_range: by the same, why there is none.
        growth: to or from another scan of the same person.
        role: which of the two scans this one is.
        scores: bedside scores, also those that lack a finding.
        notes: sentences to read with the numbers, such as what was assumed of the labels.
        stops: by lesion, where its propagation ended and why (``propagate.Stop.record``).

    Raises:
        VolumeError: another shape.
        InputError: a voxel of a lesion that is not among ``lesions``.

    """
    labels = np.asarray(labels_zyx).astype(np.uint8)
    by_number = {lesion.id: lesion for lesion in lesions}
    present = [int(value) for value in np.unique(labels) if value]
    if strange := [value for value in present if value not in by_number]:
        raise InputError(
            f"A mask's labels are those of its lesions, {', '.join(map(str, by_number))}; "
            f"it has {strange[0]}; say what that one is."
        )
    where = Landmarks(volume) if landmarks is None else landmarks
    oedema = np.isin(labels, [one.id for one in lesions if not one.is_blood])
    total, blood = measure(np.where(oedema, np.uint8(0), labels), volume, where)
    other = measure(np.where(oedema, labels, np.uint8(0)), volume, where)[1] if oedema.any() else ()
    measured = sorted((*blood, *other), key=lambda one: one.label or 0)
    return Assessment(
        volume=volume,
        labels_zyx=labels,
        lesions=tuple(by_number[value] for value in present),
        total=total,
        measures=tuple(measured),
        model=model,
        model_title=model_title or ("Drawn by hand" if model is None else model),
        weights_sha256=dict(weights_sha256 or {}),
        second_look=second_look,
        identity=identity,
        prompts=dict(prompts or {}),
        slices_by=dict(slices_by or {}),
        ranges=dict(ranges or {}),
        no_range=dict(no_range or {}),
        growth=growth,
        role=role,
        scores=tuple(scores),
        notes=tuple(notes),
        stops={lesion: tuple(ends) for lesion, ends in (stops or {}).items() if ends},
    )


def stops_of(marked: Segmentation, model: str) -> dict[int, Sequence[Mapping[str, Any]]]:
    """Where each lesion's propagation ended and why, as ``assess`` takes it."""
    return {
        lesion.id: marked.parameters(model, lesion.id).get("stops", ()) for lesion in marked.lesions
    }


def assess_marked(
    marked: Segmentation,
    volume: CTVolume,
    *,
    model: str,
    model_title: str,
    weights_sha256: Mapping[str, str],
    second_look: bool | None = None,
    identity: Identity | None = None,
    landmarks: Landmarks | None = None,
    ranges: Mapping[int | None, VolumeRange] | None = None,
    growth: Growth | None = None,
    role: Literal["baseline", "follow-up"] | None = None,
    scores: Sequence[Score] = (),
) -> Assessment:
    """``assess`` of one model's masks in a segmentation, with its lesions, boxes and origins."""
    return assess(
        marked.labels_zyx(model),
        volume,
        marked.lesions,
        landmarks=landmarks,
        model=model,
        model_title=model_title,
        weights_sha256=weights_sha256,
        second_look=second_look,
        identity=identity,
        prompts=marked.prompts(),
        slices_by=Counter(part.origin for part in marked.parts(model) if part.mask_yx.any()),
        ranges=ranges,
        growth=growth,
        role=role,
        scores=scores,
        stops=stops_of(marked, model),
    )


def read_from_file(found: Assessment, method: str | None) -> Assessment:
    """The same assessment, of masks that were read from a file, which may name the method that made them."""
    of = "" if method is None else f", which says that {title_of(method)} made it"
    return replace(found, model_title=f"Read from a mask file{of}", file_method=method)


def automatically(found: Assessment, how: Automatic) -> Assessment:
    """The same assessment, of masks whose boxes nobody drew: it says so, and has no range of drawn boxes."""
    why = "A range is that of drawn boxes; nobody drew these."
    numbers = (None, *(one.id for one in found.lesions))
    return replace(
        found,
        automatic=how,
        notes=(*found.notes, *how.notes),
        no_range=dict.fromkeys(numbers, why),
    )


def with_abc2(found: Assessment, lesion: int, abc: ABC2) -> Assessment:
    """The same assessment with another ABC/2 of a lesion, such as of lines that a person has moved.

    Where the lesion is the only one that is blood, the total's is the same.
    """
    measures = tuple(
        one.with_value("abc2", abc) if one.label == lesion else one for one in found.measures
    )
    alone = [one.id for one in found.lesions if one.is_blood] == [lesion]
    total = found.total.with_value("abc2", abc) if alone else found.total
    return replace(found, measures=measures, total=total)
