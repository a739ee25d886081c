"""What the page shows and exports of one method's masks: measures, their range, ABC/2 as a person has it, the surface.

``Measuring`` belongs to one open scan and remembers what is costly, by what it depends on: the landmarks of the scan,
the measures of a state of its segmentation, and the areas under jittered boxes of a slice, for a change on
another slice costs those nothing. It takes a ``Snapshot`` of the masks, so that it works while people go on drawing.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ichseg.arrays import Labels
from ichseg.errors import InputError
from ichseg.files import mesh
from ichseg.files.session import segmentation_record, session_record
from ichseg.files.tables import measured_record
from ichseg.marks.document import Segmentation
from ichseg.marks.lesion import Lesion
from ichseg.measures.abc2 import ABC2, abc2
from ichseg.measures.assessment import Assessment, assess, stops_of, with_abc2
from ichseg.measures.fields import not_computed, table_lines, title_of
from ichseg.measures.landmarks import Landmarks
from ichseg.measures.lengths import in_plane_mm
from ichseg.measures.ranges import Boxes, Drawn, Embed, Ranges
from ichseg.methods.growth_map import CLEAR, PARTS
from ichseg.methods.identity import Identity
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor

_LATE = "The range from other boxes was not waited for."

#: Of all that is measured in this process: two scans of a session never have the same.
_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Method:
    """The method whose masks are measured."""

    name: str
    title: str
    second_look: bool
    weights_sha256: Mapping[str, str] = field(default_factory=dict)
    identity: Identity | None = None
    edge: bool = False
    """Whether the edge at half height is drawn on its masks."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One method's masks at one moment, taken while nobody changes them; ``drawn``: what their ranges depend on."""

    method: Method
    state: object
    labels_zyx: Labels
    lesions: tuple[Lesion, ...]
    prompts: Mapping[tuple[int, int], Boxes]
    slices_by: Mapping[str, int]
    stops: Mapping[int, Sequence[Mapping[str, Any]]]
    drawn: Drawn

    @classmethod
    def of(cls, marked: Segmentation, method: Method) -> Snapshot:
        """What is marked now."""
        drawn = Drawn.of(marked, method.name, refined=method.second_look, edge=method.edge)
        parts = [part for part in marked.parts(method.name) if part.mask_yx.any()]
        return cls(
            method=method,
            state=marked.state,
            labels_zyx=drawn.labels_zyx,
            lesions=tuple(marked.lesions),
            prompts=marked.prompts(),
            slices_by=Counter(part.origin for part in parts),
            stops=stops_of(marked, method.name),
            drawn=drawn,
        )


@dataclass(frozen=True)
class Lines:
    """ABC/2 as a person has set it: ends of A and of B in pixels, C in mm; None for what is found by itself."""

    a_px: tuple[float, ...] | None = None
    b_px: tuple[float, ...] | None = None
    c_mm: float | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """A snapshot with what was measured of it, without range and lines; ``n`` is another for every one."""

    n: int
    snapshot: Snapshot
    volume: CTVolume
    found: Assessment

    def mask_zyx(self, lesion: int) -> npt.NDArray[np.bool_]:
        """A lesion's mask, bool [z, y, x]."""
        return np.asarray(self.snapshot.labels_zyx == lesion)


class Measuring:
    """What was measured of one open scan; hold ``lock`` while it works, so that nothing is done twice."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._landmarks: Landmarks | None = None
        self._last: Measured | None = None
        self._ranges = Ranges()
        self._lines: dict[tuple[str, int], tuple[Lines, bytes]] = {}

    def put_aside(self) -> None:
        """Let go of what holds the scan's voxels; it is made anew when it is asked for."""
        self._landmarks = self._last = None

    def last(self, marked: Segmentation, method: Method) -> Measured | None:
        """What was measured last, where that is a method's masks as they are now."""
        kept = self._last
        same = kept is not None and kept.snapshot.method == method
        return kept if same and kept is not None and kept.snapshot.state == marked.state else None

    def measure(self, snapshot: Snapshot, volume: CTVolume) -> Measured:
        """Measure a snapshot."""
        landmarks = self._landmarks = self._landmarks or Landmarks(volume)
        method = snapshot.method
        found = assess(
            snapshot.labels_zyx,
            volume,
            snapshot.lesions,
            landmarks=landmarks,
            model=method.name,
            model_title=method.title,
            weights_sha256=method.weights_sha256,
            second_look=method.second_look,
            identity=method.identity,
            prompts=snapshot.prompts,
            slices_by=snapshot.slices_by,
            stops=snapshot.stops,
        )
        measured = self._last = Measured(next(_NUMBERS), snapshot, volume, found)
        return measured

    # How sure

    def portions(
        self,
        measured: Measured,
        predictor: Predictor,
        embed: Embed,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[float]:
        """Work on the range of what was measured, in portions (``Ranges.portions``)."""
        drawn = measured.snapshot.drawn
        return self._ranges.portions(drawn, measured.volume, predictor, embed, cancelled)

    # What goes out

    def assessment(self, measured: Measured) -> Assessment:
        """What was measured, with the ranges that are known and the lines that a person has set."""
        whole, drawn = measured.found, measured.snapshot.drawn
        now_ml = {
            lesion.id: one.volume_ml
            for lesion, one in zip(whole.lesions, whole.measures, strict=True)
        }
        ranges = self._ranges.known(drawn, measured.volume, now_ml)
        late = {one.label: _LATE for one in (whole.total, *whole.measures)}
        found = replace(whole, ranges=ranges, no_range=late | {**drawn.no_range})
        for lesion in whole.lesions:
            lines = self._lines_of(measured, lesion.id)
            if lines is not None:
                abc = _abc2(measured, lesion.id, lines)
                found = with_abc2(found, lesion.id, abc)
        return found

    def record(self, measured: Measured) -> dict[str, Any]:
        """What the page shows.

        Keys: n; model_title; second_look; slices_by; plane_mm, the matrix of ``lengths.in_plane_mm``; and total,
        lesions, reading_error and model_error as ``tables.measured_record`` has them, with range_comes of total and
        lesions: whether a range is yet to be computed; and table, a list of {key, head, cells}, the cells of total and
        of each lesion: what ``fields.table_lines`` has for the page; and titles, what the page calls a measure where it
        says why there is none.
        """
        found = self.assessment(measured)
        parts = measured_record(found)
        for one in (parts["total"], *parts["lesions"]):
            one["range_comes"] = one["range"] is None and found.no_range[one["label"]] == _LATE
        columns = (None, *(lesion.id for lesion in found.lesions))
        measures = [found.measures_of(one) for one in columns]
        missing = {key for one in measures for key in not_computed(one)}
        return {
            "n": measured.n,
            "model_title": found.model_title,
            "second_look": found.second_look,
            "slices_by": dict(found.slices_by),
            "plane_mm": in_plane_mm(measured.volume).tolist(),
            "table": [
                {"key": line.key, "head": line.head, "cells": line.cells}
                for line in table_lines("page", measures)
            ],
            "titles": {key: title_of("page", key) for key in sorted(missing)},
            **parts,
        }

    def set_lines(self, measured: Measured, lesion: int, lines: Lines) -> None:
        """Take ABC/2 of a lesion as a person has it; it holds as long as the mask is this one.

        Raises InputError for a lesion without a mask, and for lines that are none.
        """
        key = (measured.snapshot.method.name, lesion)
        if lines == Lines():
            self._lines.pop(key, None)
            return
        _abc2(measured, lesion, lines)
        self._lines[key] = (lines, _content(measured.mask_zyx(lesion)))

    def _lines_of(self, measured: Measured, lesion: int) -> Lines | None:
        kept = self._lines.get((measured.snapshot.method.name, lesion))
        if kept is None or kept[1] != _content(measured.mask_zyx(lesion)):
            return None  # but not forgotten: an undo may bring their mask back
        return kept[0]


def view_glb(measured: Measured, growth_map: Labels | None = None) -> bytes:
    """The surface for the page's 3D view (``mesh.view_glb``). Raises InputError for an empty mask.

    ``growth_map`` [z, y, x] has the numbers of ``growth_map.PARTS``: it is shown in the place of the masks.
    """
    snapshot = measured.snapshot
    if growth_map is None:
        return mesh.view_glb(snapshot.labels_zyx, measured.volume, snapshot.lesions)
    lesions = tuple(PARTS.values())
    return mesh.view_glb(growth_map, measured.volume, lesions, clear=CLEAR)


def _abc2(measured: Measured, lesion: int, lines: Lines) -> ABC2:
    """ABC/2 of a lesion with a person's lines, refused where it comes to nothing."""
    mask = measured.mask_zyx(lesion)
    given = {"a_px": lines.a_px, "b_px": lines.b_px, "c_mm": lines.c_mm}
    abc = abc2(mask, measured.volume, **given)  # type: ignore[arg-type]
    if abc is None:
        raise InputError(
            f"ABC/2 is of a lesion with a mask; lesion {lesion} has none; draw a box around it."
        )
    if abc.b.length_mm <= 0:
        raise InputError(
            "B crosses the hematoma at right angles to A; beside this A there is no blood; move A onto it."
        )
    return abc


def work_for(portions: Iterator[float], seconds: float, go_on: Callable[[], bool]) -> float | None:
    """Do portions for about so long, and while nobody else has to come first: the share done, None where it is all."""
    limit = time.monotonic() + seconds
    for share in portions:
        if time.monotonic() >= limit or not go_on():
            return share
    return None


def _content(mask: npt.NDArray[np.bool_]) -> bytes:
    """What tells a mask from another."""
    return hashlib.sha256(np.packbits(mask).tobytes()).digest()


def marks_record_of(marked: Segmentation, volume: CTVolume, method: Method) -> dict[str, Any]:
    """The record from which the command line makes the same mask: the short one where boxes alone gave it."""
    given: dict[str, Any] = {
        "model": method.name,
        "weights_sha256": method.weights_sha256,
        "second_look": method.second_look,
        "identity": method.identity,
    }
    plain = marked.lesions == [Lesion(1)] and all(
        part.origin == "box" and part.from_boxes for part in marked.parts(method.name)
    )
    if not plain:
        return segmentation_record(volume, marked, **given)
    boxes = {k: marked.boxes(k) for k in marked.marked_slices()}
    return session_record(volume, boxes, marked.mask_zyx(method.name), edge=marked.edge, **given)
