"""``segment``: one scan, its boxes and a method, in one call; on top of ``case``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ichseg.cohort.automatic import automatic_case
from ichseg.cohort.case import Case, Progress, Segmented, prompted_document, stopped
from ichseg.cohort.entry import Prompts
from ichseg.errors import BoxError, VolumeError
from ichseg.marks.box import Box, as_boxes
from ichseg.methods.catalogue import load_predictor
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor

#: Boxes by slice from 0; each is a ``Box``, or x0, y0, x1, y1.
BySlice: TypeAlias = Mapping[int, Sequence[Box] | Sequence[Sequence[float]]]


def segment(
    volume: CTVolume,
    boxes: BySlice | Mapping[Any, BySlice] | Literal["auto"],
    *,
    propagate: bool = False,
    model: str | Predictor | None = None,
    edge: bool = True,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Segmented:
    """Segment what is in the boxes of a scan, as the page and the command line do.

    Args:
        volume: the scan (``ichseg.read_volume``).
        boxes: {slice: boxes}, or {lesion: {slice: boxes}} for several lesions; slices from 0, a box x0, y0, x1, y1. Or
            "auto": what the program proposes and takes by itself, which nobody has checked (``--auto``).
        propagate: go on from the boxes to the whole hematoma, slice by slice, until it ends.
        model: a method's name, one that is loaded (``ichseg.load_predictor``), or None for the default.
        edge: draw the edge at half height on what the method finds, where it takes that.
        progress: called with the share that is done, 0 to 1, never falling.
        cancelled: asked before each step; True ends it with an InputError.

    Raises:
        BoxError: no box at all, or one that is not on the scan; before a model is loaded.
        VolumeError: what is given is no scan.
        WeightsError: an unknown method, or one whose weights are not here; the same of the finder for "auto".

    """
    if not isinstance(volume, CTVolume):
        raise VolumeError(
            f"A segmentation is of a scan that was read; got {type(volume).__name__}; "
            "read it first: ichseg.read_volume(path)."
        )
    marked = None
    if not (isinstance(boxes, str) and boxes == "auto"):
        marked = prompted_document(volume, _prompts(boxes, volume.shape_zyx[1:]), {}, edge)
    predictor = load_predictor(model) if model is None or isinstance(model, str) else model
    if marked is None:
        case = automatic_case(volume, predictor, edge, propagate=propagate, cancelled=cancelled)
        if cancelled is not None and cancelled():
            raise stopped()  # what was found until then would pass for all
    else:
        case = Case(volume, marked, predictor, propagate)
    return case.segmented(progress or (lambda share: None), cancelled or (lambda: False))


def _prompts(boxes: Any, shape_yx: tuple[int, int]) -> Prompts:
    """Boxes by slice and lesion, the lesions numbered from 1. Raises BoxError for what is none."""
    prompts: Prompts = {}
    for number, by_slice in enumerate(_by_lesion(boxes), 1):
        drawn = {_slice(k): _boxes(one, shape_yx) for k, one in by_slice.items()}
        if not any(drawn.values()):
            raise BoxError(
                "A segmentation needs a box for each lesion; got none; draw one around the blood."
            )
        prompts |= {(k, number): one for k, one in drawn.items() if one}
    return prompts


def _by_lesion(boxes: Any) -> list[Mapping[Any, Any]]:
    """Each lesion's boxes by slice."""
    values = list(boxes.values()) if isinstance(boxes, Mapping) else []
    nested = [isinstance(value, Mapping) for value in values]
    if not isinstance(boxes, Mapping) or (any(nested) and not all(nested)):
        raise BoxError(
            "Boxes are given by slice, {12: [(120, 80, 180, 140)]}, or so for each of several lesions; "
            f"got {boxes!r:.60}; say which slice each is on."
        )
    return values if values and all(nested) else [boxes]


def _slice(k: Any) -> int:
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise BoxError(f"A slice is a whole number from 0; got {k!r:.60}; give e.g. 12.")
    return int(k)


def _boxes(given: Any, shape_yx: tuple[int, int]) -> list[Box]:
    try:
        return as_boxes(given, shape_yx)
    except BoxError:
        raise
    except (TypeError, ValueError) as error:
        raise BoxError(
            f"A slice has a list of boxes, each x0, y0, x1, y1; got {given!r:.60}; "
            "give e.g. [(120, 80, 180, 140)]."
        ) from error
