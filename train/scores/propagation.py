"""How much of a hematoma one box finds: python -m train propagate --data DATA --run RUN --out docs/propagation

For every patient with blood, the whole hematoma from boxes on one slice (``ichseg.methods.follow``) is scored beside
boxes on every slice, through the same predictor. The boxes come from the reference mask, an optimistic setting.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.files.nifti_mask import read_mask
from ichseg.marks.box import Box, as_boxes, box_from_mask, boxes_from_mask, jitter
from ichseg.methods.follow_rule import Rule
from ichseg.methods.frame import MODEL_SIZE
from ichseg.methods.likeness import Cells
from ichseg.methods.predictor import Predictor, SliceEmbedding, SliceMasks
from ichseg.methods.propagation import Propagation, propagate_lesions
from ichseg.methods.proposals import Proposal
from ichseg.sample import sample_paths
from ichseg.scan.limits import HIGHEST_BLOOD_HU
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume
from train.data.cache import Prepared, ScanEntry
from train.data.slices import keep_large
from train.scores.cache import KeptRows, cache_key
from train.scores.confirmed import Finders, Propose, confirmed
from train.scores.metrics import dice
from train.scores.scans import LEAST_COMPONENT_PX, lesions_of, reference_of, volume_of

Mask = npt.NDArray[np.bool_]

#: The label of intraparenchymal blood in the sample's reference mask.
SAMPLE_IPH = 1

#: The rule's thresholds were chosen on these patients, the test patients of folds 0 and 1 of ``--split-seed 0`` that
#: have blood, each by the adapter of its own fold. Figures of the others are those to quote.
CHOSEN_ON = ("049", "051", "053", "067", "068", "069", "072", "075", "079", "088", "089")

#: As in ``native_slices``: the margin of the boxes at 256 x 256.
BOX_MARGIN_PX = 3.0

EVERY_SLICE = "every slice"

WAYS = {
    EVERY_SLICE: "one box per connected component on every slice with blood, from the reference mask",
    "one slice": "one box per connected component on the slice with most blood, no other",
    "one box": "one box around all blood of the slice with most blood, no other",
    "slice per lesion": "one box per component on the largest slice of each lesion (a 3D component of the reference)",
}

#: The ways that go on with proposals, and the way that each begins with: none, or one of WAYS.
WITH_PROPOSALS = {
    "proposals": None,
    "one box, proposals": "one box",
    "slice per lesion, proposals": "slice per lesion",
}


@dataclass(frozen=True)
class Row:
    """One scan prompted in one way; areas are pixels over all slices.

    ``false_*`` divides the voxels that are marked and not in the reference mask by where they lie, in this order:
    within 3 mm of bone; within 4 mm of the head's middle column (the falx); above 80 HU (calcification, metal); below
    45 HU (paler than blood); the rest, bright and away from both (tentorium, vessels, the blood's own rim).
    """

    patient: str
    kind: str
    part: str
    key: str
    way: str
    refinement: int
    dice: float
    reference_px: int
    marked_px: int
    boxes: int
    reference_slices: int
    false_slices: int
    missed_slices: int
    lesions: int
    lesion_dice: str
    """One per lesion, in the order of the 3D components, joined by ' '; empty unless each lesion was prompted."""
    stops: str
    """reason:count, joined by ' '."""
    false_px_beyond: int
    """Of the false voxels, those on slices without any reference blood."""
    false_bone: int
    false_middle: int
    false_bright: int
    false_pale: int
    false_rest: int
    answered: int
    """Boxes that the model answered for this row, and for none before it of the same scan."""
    seconds: float
    scan: str = ""
    least_likeness: str = ""
    """Of the rule, e.g. "0.25"; empty for a rule without one, and where no rule has a part."""
    accepted: int = 0
    """Proposals that were accepted after the boxes."""


class Remembering(Predictor):
    """Another predictor that answers the same box on the same slice of one scan only once.

    Several ways ask for the same boxes, and the refinement of one costs half a second.
    """

    def __init__(self, inner: Predictor) -> None:
        self._inner = inner
        self.name, self.title = inner.name, inner.title
        self.weights_sha256, self.second_look = inner.weights_sha256, inner.second_look
        self.takes_box = inner.takes_box
        self.answered = 0
        self._embedded: dict[int, SliceEmbedding] = {}
        self._known: dict[tuple[Any, ...], tuple[Mask, np.float32]] = {}

    def embed(self, slice_hu: npt.ArrayLike) -> SliceEmbedding:
        where = np.asarray(
            slice_hu
        ).ctypes.data  # slices are views of the scan that is being measured
        if where not in self._embedded:
            self._embedded[where] = self._inner.embed(slice_hu)
        return self._embedded[where]

    def cells(self, embedding: SliceEmbedding) -> Cells | None:
        return self._inner.cells(embedding)

    def predict(
        self,
        embedding: SliceEmbedding,
        boxes: Sequence[Box] | npt.ArrayLike,
        *,
        second_look: bool | None = None,
    ) -> SliceMasks:
        valid = as_boxes(boxes, embedding.shape_yx)
        keys = [(embedding.slice_hu.ctypes.data, second_look, box) for box in valid]
        new = {key: box for key, box in zip(keys, valid, strict=True) if key not in self._known}
        if new:
            self.answered += len(new)
            found = self._inner.predict(embedding, list(new.values()), second_look=second_look)
            self._known.update(zip(new, zip(found.masks, found.iou, strict=True), strict=True))
        masks = [self._known[key][0] for key in keys]
        return SliceMasks(np.stack(masks), np.array([self._known[key][1] for key in keys]))


@dataclass(frozen=True)
class Asked:
    """How scans are propagated: by which rule (None: a box on every slice), with refinement or not, and proposals."""

    rule: Rule | None
    refinement: bool
    proposals: bool = False

    @property
    def ways(self) -> tuple[str, ...]:
        """Of WAYS or WITH_PROPOSALS, those that this is about."""
        if self.proposals:
            return tuple(WITH_PROPOSALS)
        return tuple(way for way in WAYS if (way == EVERY_SLICE) == (self.rule is None))


def as_text(rule: Rule | None) -> str:
    """A rule's least likeness as a Row has it."""
    return "" if rule is None or rule.least_likeness is None else f"{rule.least_likeness:.2f}"


def measure_scan(
    predictor: Predictor,
    prepared: Prepared,
    scan: ScanEntry,
    part: str,
    asked: Mapping[str, Asked],
    propose: Propose | None = None,
) -> list[Row]:
    """Every way of prompting one scan, as it is asked for under each key."""
    measured = _Measured(Remembering(predictor), prepared, scan, part)
    proposals = [] if propose is None else propose(scan, measured.volume)
    rows = []
    for key, one in asked.items():
        for way in one.ways:
            first = WITH_PROPOSALS[way] if one.proposals else way
            prompts = {}
            if first is not None:
                prompts = prompts_of(first, measured.reference, measured.lesions, scan)
            accepted: list[Proposal] = []
            if one.proposals:
                _, marked = measured.found(one, prompts)
                accepted = confirmed(proposals, measured.reference, marked)
            rows.append(measured.row(key, way, one, prompts, accepted))
    return rows


class _Measured:
    """One scan, its reference, and the rows that are made of them."""

    def __init__(
        self, predictor: Remembering, prepared: Prepared, scan: ScanEntry, part: str
    ) -> None:
        self.predictor, self.scan, self.part = predictor, scan, part
        self.volume = volume_of(prepared, scan)
        self.reference = reference_of(prepared, scan)
        self.lesions = lesions_of(self.reference, scan)
        self._near = _Surroundings(self.volume)

    def row(
        self,
        key: str,
        way: str,
        asked: Asked,
        prompts: Mapping[int, Mapping[int, list[Box]]],
        accepted: Sequence[Proposal],
    ) -> Row:
        """The row of boxes by lesion and slice, and of accepted proposals, each a lesion."""
        started, before = time.perf_counter(), self.predictor.answered
        found, mask = self.found(asked, prompts, accepted)
        return Row(
            patient=self.scan.patient_id,
            kind=self.scan.kind,
            part=self.part,
            key=key,
            way=way,
            refinement=int(asked.refinement),
            dice=dice(mask, self.reference),
            boxes=sum(len(boxes) for one in prompts.values() for boxes in one.values()),
            lesions=len(self.lesions),
            lesion_dice=_lesion_dice(found, self.lesions) if way == "slice per lesion" else "",
            stops=_counted(found),
            answered=self.predictor.answered - before,
            seconds=time.perf_counter() - started,
            scan=self.scan.scan_id,
            least_likeness=as_text(asked.rule),
            accepted=len(accepted),
            **_against(mask, self.reference, self._near),
        )

    def found(
        self,
        asked: Asked,
        prompts: Mapping[int, Mapping[int, list[Box]]],
        accepted: Sequence[Proposal] = (),
    ) -> tuple[Propagation | None, Mask]:
        """What these boxes and proposals give, and its mask."""
        if asked.rule is None:
            mask = _answered(self.predictor, self.volume, prompts[0], asked.refinement)
            return None, mask
        lesions: dict[Hashable, Any] = dict(prompts.items())
        lesions |= {("proposal", number): one.boxes for number, one in enumerate(accepted)}
        if not lesions:
            return None, np.zeros_like(self.reference)
        found = propagate_lesions(
            self.predictor, self.volume, lesions, rule=asked.rule, second_look=asked.refinement
        )
        return found, found.mask_zyx()


def prompts_of(
    way: str, reference_zyx: Mask, lesions: Sequence[Mask], scan: ScanEntry
) -> dict[int, dict[int, list[Box]]]:
    """The boxes that a way of prompting gives: {lesion: {slice: boxes}}."""
    if way == "slice per lesion":
        return {
            number: {k: _reference_boxes(lesion[k], scan)}
            for number, lesion in enumerate(lesions)
            for k in [int(lesion.sum(axis=(1, 2)).argmax())]
        }
    if way == EVERY_SLICE:
        marked = map(int, np.flatnonzero(reference_zyx.any(axis=(1, 2))))
        return {0: {k: _reference_boxes(reference_zyx[k], scan) for k in marked}}
    k = int(reference_zyx.sum(axis=(1, 2)).argmax())
    boxes = _reference_boxes(reference_zyx[k], scan)
    if way == "one slice":
        return {number: {k: [box]} for number, box in enumerate(boxes)}
    corners = np.array([box.xyxy for box in boxes])
    whole = Box(*map(float, (*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0))))
    return {0: {k: [whole]}}


def _reference_boxes(mask: Mask, scan: ScanEntry) -> list[Box]:
    """A box for each component that is large enough; where none is, for the whole."""
    margin_px = BOX_MARGIN_PX * max(mask.shape) / MODEL_SIZE
    large = keep_large(mask, LEAST_COMPONENT_PX * scan.reference_scale**2) > 0
    if large.any():
        return boxes_from_mask(large, margin_px)
    whole = box_from_mask(mask, margin_px)
    return [] if whole is None else [whole]


def _answered(
    predictor: Predictor, volume: CTVolume, prompts: Mapping[int, Sequence[Box]], refinement: bool
) -> Mask:
    mask = np.zeros(volume.shape_zyx, bool)
    for k, boxes in prompts.items():
        embedding = predictor.embed(volume.hu_zyx[k])
        mask[k] = predictor.predict(embedding, boxes, second_look=refinement).union
    return mask


def _lesion_dice(found: Propagation | None, lesions: Sequence[Mask]) -> str:
    assert found is not None
    return " ".join(f"{dice(found.mask_zyx(n), mask):.4f}" for n, mask in enumerate(lesions))


def _counted(found: Propagation | None) -> str:
    reasons = Counter(stop.reason for stop in found.stops) if found else Counter()
    return " ".join(f"{reason}:{count}" for reason, count in sorted(reasons.items()))


class _Surroundings:
    """Where bone and the head's middle are on each slice of a scan."""

    def __init__(self, volume: CTVolume) -> None:
        self.volume = volume

    def of(self, k: int) -> tuple[Mask, Mask]:
        """Within 3 mm of bone, and within 4 mm of the middle column of the head: bool [y, x] both."""
        hu = self.volume.hu_zyx[k]
        spacing = self.volume.geometry.spacing_yx_mm
        bone = ndimage.binary_opening(hu > HIGHEST_BLOOD_HU)
        near = (
            ndimage.distance_transform_edt(~bone, sampling=spacing) <= 3
            if bone.any()
            else np.zeros(hu.shape, bool)
        )
        columns = np.flatnonzero(bone.any(axis=0))
        middle = columns[[0, -1]].mean() if columns.size else hu.shape[1] / 2
        across = np.abs(np.arange(hu.shape[1]) - middle) * spacing[1] <= 4
        return near, np.broadcast_to(across, hu.shape)


def _against(mask_zyx: Mask, reference_zyx: Mask, near: _Surroundings) -> dict[str, int]:
    """The counts of a Row that compare a mask with the reference mask."""
    marked, true = mask_zyx.any(axis=(1, 2)), reference_zyx.any(axis=(1, 2))
    wrong = mask_zyx & ~reference_zyx
    counts: Counter[str] = Counter()
    for k in map(int, np.flatnonzero(wrong.any(axis=(1, 2)))):
        bone, middle = near.of(k)
        hu = near.volume.hu_zyx[k]
        left = wrong[k].copy()
        for name, there in (
            ("bone", bone),
            ("middle", middle),
            ("bright", hu > 80),
            ("pale", hu < 45),
            ("rest", left),
        ):
            counts[f"false_{name}"] += int((left & there).sum())
            left &= ~there
    names = ("bone", "middle", "bright", "pale", "rest")
    return {
        "reference_px": int(reference_zyx.sum()),
        "marked_px": int(mask_zyx.sum()),
        "reference_slices": int(true.sum()),
        "false_slices": int((marked & ~true).sum()),
        "missed_slices": int((true & ~marked).sum()),
        "false_px_beyond": int(wrong[~true].sum()),
        **{f"false_{name}": counts[f"false_{name}"] for name in names},
    }


def sample_boxes(
    reference_zyx: Mask, spacing_yx_mm: tuple[float, float], count: int = 20, seed: int = 0
) -> list[tuple[int, Box]]:
    """Boxes a person might draw: on slices with a quarter of the largest area or more, each side off by up to 3 mm."""
    areas = reference_zyx.sum(axis=(1, 2))
    slices = np.flatnonzero(areas >= areas.max() / 4)
    rng = np.random.default_rng(seed)
    rows, columns = reference_zyx.shape[1:]
    out = []
    for number in range(count):
        k = int(slices[number % len(slices)])
        tight = box_from_mask(reference_zyx[k])
        assert tight is not None
        out.append((k, jitter(tight, 3 / min(spacing_yx_mm), rng, (rows, columns))))
    return out


def measure_sample(
    predictor: Predictor,
    rule: Rule | None = None,
    count: int = 20,
    refinement: bool = False,
) -> dict[bool, list[tuple[int, float, float]]]:
    """The sample's IPH from each of ``sample_boxes``: (slice, volume / reference volume, Dice), by refinement."""
    scan, mask = sample_paths()
    volume = read_volume(scan)
    reference = read_mask(mask, volume) == SAMPLE_IPH
    out: dict[bool, list[tuple[int, float, float]]] = {}
    for look in (True, False) if refinement and predictor.second_look else (False,):
        asking = Remembering(predictor)
        for k, box in sample_boxes(reference, volume.geometry.spacing_yx_mm, count):
            found = propagate_lesions(
                asking, volume, {0: {k: [box]}}, rule=rule, second_look=look
            ).mask_zyx()
            score = (k, float(found.sum() / reference.sum()), dice(found, reference))
            out.setdefault(look, []).append(score)
    return out


def _asked(rules: Sequence[Rule], refinement: bool, proposals: bool) -> Iterator[Asked]:
    """All that is asked of each scan."""
    for rule in (None, *rules):
        yield Asked(rule, refinement)
        if proposals and rule is not None:
            yield Asked(rule, refinement, proposals=True)


def measure_run(
    prepared: Prepared,
    path: Path,
    parts: Sequence[tuple[str, str, Sequence[str]]],
    load: Callable[[str], Predictor],
    *,
    rules: Sequence[Rule] = (Rule(),),
    finders: Finders | None = None,
    refinement: bool = False,
    on_scan: Callable[[str], None] | None = None,
) -> list[Row]:
    """Measure each part (name, model or adapter's folder, patients), writing ``path`` (CSV) after each scan.

    Each scan by each rule, and with the proposals of ``finders`` where they are given; ``refinement`` measures with
    it, too, where the model has it. What is there from the same model, code, data, rule and proposals (``cache_key``)
    is not measured again; what came from others leaves the file.
    """
    kept = KeptRows(path, Row, lambda row: (row.patient, row.scan, -row.refinement))
    wanted: list[Row] = []
    for part, source, patients in parts:
        predictor = load(source)
        looks = [True, False] if refinement and predictor.second_look else [False]
        propose = None if finders is None else finders.of(part)
        asked = {
            cache_key(
                predictor,
                prepared,
                refinement=one.refinement,
                code=("scores/propagation.py", "scores/confirmed.py", "scores/scans.py"),
                asked=({} if one.rule is None else dataclasses.asdict(one.rule))
                | ({"proposals": finders.identity(part)} if finders and one.proposals else {}),
            ): one
            for look in looks
            for one in _asked(rules, look, finders is not None)
        }
        for scan in prepared.scans_of(patients):
            there = [row for row in kept.rows if row.scan == scan.scan_id and row.key in asked]
            done = {row.key for row in there}
            if missing := {key: one for key, one in asked.items() if key not in done}:
                found = measure_scan(predictor, prepared, scan, part, missing, propose)
                kept.add(found)
                there += found
            wanted += [dataclasses.replace(row, part=part) for row in there]
            if on_scan is not None:
                on_scan(scan.scan_id)
    measured = {row.key for row in wanted}
    kept.keep(lambda row: row.key in measured)
    return wanted
