"""``propagate``: boxes on one slice or a few in, the whole hematoma as a Segmentation out; on top of ``follow``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ichseg.arrays import BoolArray
from ichseg.marks.document import Segmentation
from ichseg.marks.state import EdgeStep
from ichseg.methods.edge_step import step_of
from ichseg.methods.follow_rule import Found, Lesion, Prompts, Rule, Stop
from ichseg.methods.follow_slabs import follow_scan
from ichseg.scan.slabs import SliceOrSlab
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor, SliceEmbedding


class _Share:
    """How much of the work is done: a slice is settled when it is found, or lies beyond a stop."""

    def __init__(self, depth: int, lesions: Iterable[Lesion]) -> None:
        self._depth = depth
        self._open = {(name, k) for name in lesions for k in range(depth)}
        self._all = len(self._open)

    def after(self, item: Found | Stop) -> float:
        k = item.slice_index
        if isinstance(item, Stop):
            beyond = range(k + 1, self._depth) if item.direction == 1 else range(k)
            self._open -= {(item.lesion, other) for other in beyond}
        else:
            self._open.discard((item.lesion, k))
        return 1 - len(self._open) / self._all


@dataclass
class Propagation:
    """All that ``follow`` found, by lesion and slice, and why it ended."""

    shape_zyx: tuple[int, int, int]
    rule: Rule
    second_look: bool
    found: dict[Lesion, dict[int, Found]] = field(default_factory=dict)
    stops: list[Stop] = field(default_factory=list)

    def collect(self, steps: Iterator[Found | Stop], lesions: Iterable[Lesion]) -> Iterator[float]:
        """Take up what ``follow`` gives for these lesions, and give the share that is done, 0 to 1, after each step."""
        self.found = {name: {} for name in lesions}
        share = _Share(self.shape_zyx[0], self.found)
        for item in steps:
            if isinstance(item, Stop):
                self.stops.append(item)
            else:
                self.found[item.lesion][item.slice_index] = item
            yield share.after(item)

    @property
    def cancelled(self) -> bool:
        """Whether it was ended from outside, and what is here is a part."""
        return any(stop.reason == "cancelled" for stop in self.stops)

    def mask_zyx(self, lesion: Lesion | None = None) -> BoolArray:
        """One lesion's mask, or all lesions' together: bool [z, y, x]."""
        out = np.zeros(self.shape_zyx, dtype=bool)
        for name in self.found if lesion is None else [lesion]:
            for k, found in self.found[name].items():
                out[k] |= found.mask_yx
        return out

    def segmentation(
        self, model: str, *, edge_step: EdgeStep | None = None, edge: bool = True
    ) -> Segmentation:
        """What was found as a document: the lesions numbered from 1, the prompts as boxes, the rest as propagated.

        Each lesion's parameters are the rule, the refinement and the stops. ``edge_step`` and ``edge`` are those of
        ``Segmentation``: propagation itself goes by the model's own answers.
        """
        out = Segmentation(self.shape_zyx, edge_step=edge_step, edge=edge)
        for number, (name, slices) in enumerate(self.found.items(), 1):
            if number > 1:
                out.add_lesion()
            for k, found in slices.items():
                if found.how == "prompt":
                    out.set_boxes(k, number, found.boxes, {model: found.mask_yx})
            self.mark(out, number, model, name)
        return out

    def mark(self, marked: Segmentation, number: int, model: str, name: Lesion) -> None:
        """Put what was found of one lesion on slices without a prompt into a document, as its lesion ``number``.

        What the lesion was propagated to before goes; its own boxes and edits stay.
        """
        others = {k: one for k, one in self.found[name].items() if one.how != "prompt"}
        stops = [stop.record() for stop in self.stops if stop.lesion == name]
        marked.set_propagated(
            {k: one.mask_yx for k, one in others.items()},
            number,
            model,
            {k: one.boxes for k, one in others.items()},
            {"rule": asdict(self.rule), "second_look": self.second_look, "stops": stops},
        )

    def labels_zyx(self) -> npt.NDArray[np.uint8]:
        """Lesions numbered from 1 in their order: uint8 [z, y, x].

        Where two of them claim a voxel, a prompted slice wins over an interpolated one, that over a followed one, and
        then the first lesion over the later.
        """
        out = np.zeros(self.shape_zyx, dtype=np.uint8)
        for how in ("followed", "between", "prompt"):
            for number, name in reversed(list(enumerate(self.found, 1))):
                for k, found in self.found[name].items():
                    if found.how == how:
                        out[k][found.mask_yx] = number
        return out


def propagate(
    predictor: Predictor,
    volume: CTVolume,
    prompts: Prompts | Mapping[Lesion, Prompts],
    *,
    rule: Rule | None = None,
    second_look: bool = False,
    edge: bool = True,
    embed: Callable[[SliceOrSlab], SliceEmbedding] | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Segmentation:
    """The whole hematoma from boxes on one slice or a few.

    Args:
        predictor: any method of the catalogue.
        volume: the scan.
        prompts: {slice: boxes}, or {lesion: {slice: boxes}} for several lesions.
        rule: when to stop; the measured one by default.
        second_look: as in ``Predictor.predict``; here it is off unless asked for, as it costs an encoding a box
            (``python -m train propagate --second-look`` measures what it gives).
        edge: draw the edge at half height (``ichseg.marks.edge``) on what was found, where the method takes it.
        embed: slice index to its embedding by this predictor, for a caller that keeps them.
        progress: called with the share that is done, 0 to 1, never falling.
        cancelled: asked before each step; True ends it with what there is.

    Returns:
        The boxes used on each slice and the predictor's mask for them.

    Raises:
        BoxError: no box at all, or one that is not on the scan.

    """
    several = any(isinstance(value, Mapping) for value in prompts.values())
    lesions: Mapping[Lesion, Prompts] = prompts if several else {1: prompts}  # type: ignore[assignment,dict-item]
    done = propagate_lesions(
        predictor,
        volume,
        lesions,
        rule=rule,
        second_look=second_look,
        embed=embed,
        progress=progress,
        cancelled=cancelled,
    )
    return done.segmentation(predictor.name, edge_step=step_of(volume), edge=edge)


def propagate_lesions(
    predictor: Predictor,
    volume: CTVolume,
    lesions: Mapping[Lesion, Prompts],
    *,
    rule: Rule | None = None,
    second_look: bool = False,
    embed: Callable[[SliceOrSlab], SliceEmbedding] | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Propagation:
    """Collect what ``follow`` gives; the arguments are those of ``propagate``."""
    done = Propagation(volume.shape_zyx, rule or Rule(), second_look)
    steps = done.collect(
        follow_scan(
            predictor,
            volume,
            lesions,
            rule=rule,
            second_look=second_look,
            embed=embed,
            cancelled=cancelled,
        ),
        lesions,
    )
    for share in steps:
        if progress is not None:
            progress(share)
    return done
