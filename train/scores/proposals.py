"""How much blood proposals find, and what they take for blood: python -m train froc --data ... --run ... --out ...

Each fold's head proposes on the patients it never saw, and the boxes of its proposals go to the adapter of the same
fold. How far a proposal reaches, and from which score on it is taken where nobody is asked, is chosen for each fold on
the proposals of the other folds, each on its own held-out patients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ichseg.errors import InputError
from ichseg.methods.detection import load_proposals
from ichseg.methods.predictor import Predictor, SliceEmbedding
from ichseg.methods.proposals import FindRule, Proposal, find, top_mean
from ichseg.scan.volume import CTVolume
from train.data.cache import Prepared, ScanEntry
from train.data.split import check_same_test, held_out_by
from train.scores.cache import KeptRows, cache_key
from train.scores.scans import lesions_of, reference_of, volume_of

Mask = npt.NDArray[np.bool_]
Probability = npt.NDArray[np.float32]

#: What is chosen from, for how far a proposal reaches.
EXTENTS = (0.2, 0.35, 0.5)
#: Everything over this is scored, so that a curve can be drawn; nobody is shown proposals as weak as the last.
LEAST_SCORE = 0.05
#: A lesion is found where proposals cover this share of it; a proposal is false where less of it is blood.
LEAST_SHARE = 0.1
#: The sensitivity that is asked for is at this many false proposals a scan.
FALSE_A_SCAN = 2.0


@dataclass(frozen=True)
class ScanRow:
    """One scan. Lists are joined by ' ': pixels of each lesion; of each slice its pixels of blood and its suspicion.

    A slice's suspicion is ``top_mean`` of its probability; ``seconds`` are those of all heads on all slices.
    """

    patient: str
    kind: str
    part: str
    key: str
    voxel_ml: float
    reference_px: int
    lesion_px: str
    slice_px: str
    suspicion: str
    seconds: float


@dataclass(frozen=True)
class ProposalRow:
    """One proposal of a scan, by falling score from 1. Pixels are native, over all slices.

    ``taken_*`` are of this proposal and all before it: of their own regions (``taken_own_px`` and, of them, blood), and
    of the masks that the fold's adapter gave for their boxes (-1 where it was not asked).
    """

    patient: str
    part: str
    key: str
    extent: float
    number: int
    score: float
    peak: float
    volume_ml: float
    boxes: int
    px: int
    blood_px: int
    lesions: str
    """lesion:pixels of it that this proposal covers, joined by ' '."""
    taken_own_px: int
    taken_own_blood_px: int
    taken_px: int = -1
    taken_blood_px: int = -1


@dataclass(frozen=True)
class Fold:
    """A fold to score: its answers, the adapter that is given the boxes, and the patients that neither saw."""

    name: str
    weights_sha256: Mapping[str, str]
    """Of its finder."""
    held_out: Path
    """What its finder answers on the patients it never saw (``train proposals`` wrote it)."""
    adapter: str
    patients: tuple[str, ...]


def folds_of(run: Path, adapters: Path) -> list[Fold]:
    """The folds of a run of ``train proposals``, each with the adapter of the same number.

    Raises:
        InputError: no folds, or one that is still in training; an adapter whose fold held out other patients.

    """
    out = []
    for folder in sorted(run.glob("fold-*")):
        adapter = adapters / folder.name
        held_out = folder / "held-out.npz"
        if not held_out.exists():
            raise InputError(
                f"A run is scored when it is finished; '{run.name}/{folder.name}' is not; resume it first."
            )
        mine = held_out_by(folder)
        check_same_test(adapter, mine)
        hashes = load_proposals(str(folder / "model")).weights_sha256
        out.append(Fold(folder.name, hashes, held_out, str(adapter / "adapter"), mine))
    if not out:
        raise InputError(
            f"A cross-validated run holds fold-0, fold-1, ...; '{run.name}' has none; train it with --folds 5."
        )
    return out


def measure(
    folds: Sequence[Fold],
    prepared: Prepared,
    out: Path,
    load: Callable[[str], Predictor],
    *,
    refinement: bool = False,
    on_scan: Callable[[str], object] = lambda _: None,
) -> tuple[list[ScanRow], list[ProposalRow], list[ProposalRow], dict[str, FindRule]]:
    """Score every fold; scan by scan into OUT/scans.csv, regions.csv and proposals.csv, which are gone on with.

    Returns the scans, the proposals of every extent, those of the extent that was chosen for each fold with the masks,
    and each fold's rule.
    """
    scans = KeptRows(out / "scans.csv", ScanRow)
    regions = KeptRows(out / "regions.csv", ProposalRow)
    keys = {fold.name: _key(fold, prepared, load, refinement) for fold in folds}
    for kept in (scans, regions):
        kept.keep(lambda row: keys.get(row.part) == row.key)
    for fold in folds:
        for scan in prepared.scans_of(fold.patients):
            if not any(row.patient == scan.patient_id for row in scans.rows):
                row, proposed = _measure_scan(fold, prepared, scan, keys[fold.name])
                if proposed:
                    regions.add(proposed)
                scans.add([row])
            on_scan(f"{fold.name} regions")
    extents = {fold.name: choose_extent(scans.rows, regions.rows, fold.name) for fold in folds}
    proposals = KeptRows(out / "proposals.csv", ProposalRow)
    proposals.keep(
        lambda row: keys.get(row.part) == row.key and extents.get(row.part) == row.extent
    )
    for fold in folds:
        adapter = load(fold.adapter)
        mine = {row.patient for row in proposals.rows}
        for scan in prepared.scans_of(fold.patients):
            asked = [
                row
                for row in regions.rows
                if (row.patient, row.extent) == (scan.patient_id, extents[fold.name])
            ]
            if asked and scan.patient_id not in mine:
                volume = volume_of(prepared, scan)
                probability, _ = held_out_of(fold, scan)
                found = _proposals(probability, volume, extents[fold.name])
                proposals.add(
                    _with_masks(
                        asked, found, volume, reference_of(prepared, scan), adapter, refinement
                    )
                )
            on_scan(f"{fold.name} masks")
    rules = {
        fold.name: FindRule(
            extent=extents[fold.name],
            least_score=choose_least(scans.rows, proposals.rows, fold.name),
            accept_score=choose_accepted(scans.rows, proposals.rows, fold.name),
        )
        for fold in folds
    }
    return scans.rows, regions.rows, proposals.rows, rules


def _key(fold: Fold, prepared: Prepared, load: Callable[[str], Predictor], refinement: bool) -> str:
    asked = {"finder": dict(fold.weights_sha256), "least": LEAST_SCORE}
    code = ("scores/proposals.py", "scores/scans.py", "data/features.py")
    return cache_key(load(fold.adapter), prepared, refinement=refinement, code=code, asked=asked)


def held_out_of(fold: Fold, scan: ScanEntry) -> tuple[Probability, float]:
    """A scan's probabilities [z, 256, 256] by the fold that held it out, and the seconds that they took."""
    with np.load(fold.held_out) as kept:
        return kept[scan.scan_id].astype(np.float32), float(kept[f"seconds {scan.scan_id}"])


def _measure_scan(
    fold: Fold, prepared: Prepared, scan: ScanEntry, key: str
) -> tuple[ScanRow, list[ProposalRow]]:
    """A scan's row and those of its proposals for each extent."""
    volume = volume_of(prepared, scan)
    reference = reference_of(prepared, scan)
    lesions = lesions_of(reference, scan)
    probability, seconds = held_out_of(fold, scan)
    row = ScanRow(
        patient=scan.patient_id,
        kind=scan.kind,
        part=fold.name,
        key=key,
        voxel_ml=float(volume.voxel_volumes_ml.mean()),
        reference_px=int(reference.sum()),
        lesion_px=" ".join(str(int(lesion.sum())) for lesion in lesions),
        slice_px=" ".join(str(int(mask.sum())) for mask in reference),
        suspicion=" ".join(f"{top_mean(one):.4f}" for one in probability),
        seconds=seconds,
    )
    proposed: list[ProposalRow] = []
    for extent in EXTENTS:
        taken = np.zeros_like(reference)
        for number, one in enumerate(_proposals(probability, volume, extent), 1):
            region = one.region_zyx(volume.shape_zyx)
            taken |= region
            covered = {n: int((region & lesion).sum()) for n, lesion in enumerate(lesions)}
            proposed.append(
                ProposalRow(
                    patient=scan.patient_id,
                    part=fold.name,
                    key=key,
                    extent=extent,
                    number=number,
                    score=one.score,
                    peak=one.peak,
                    volume_ml=one.volume_ml,
                    boxes=sum(len(boxes) for boxes in one.boxes.values()),
                    px=int(region.sum()),
                    blood_px=int((region & reference).sum()),
                    lesions=" ".join(f"{n}:{px}" for n, px in covered.items() if px),
                    taken_own_px=int(taken.sum()),
                    taken_own_blood_px=int((taken & reference).sum()),
                )
            )
    return row, proposed


def _with_masks(
    rows: Sequence[ProposalRow],
    proposals: Sequence[Proposal],
    volume: CTVolume,
    reference: Mask,
    adapter: Predictor,
    refinement: bool,
) -> list[ProposalRow]:
    """The rows of one scan with what the adapter gave for the boxes of each proposal and of those before it."""
    embedded: dict[int, SliceEmbedding] = {}
    taken = np.zeros_like(reference)
    out = []
    for row, one in zip(rows, proposals, strict=True):
        for k, boxes in one.boxes.items():
            if k not in embedded:
                hu = volume.hu_zyx[k]
                embedded[k] = SliceEmbedding(hu) if refinement else adapter.embed(hu)
            taken[k] |= adapter.predict(embedded[k], boxes, second_look=refinement).union
        overlap = int((taken & reference).sum())
        out.append(dataclasses.replace(row, taken_px=int(taken.sum()), taken_blood_px=overlap))
    return out


def _proposals(probability: Probability, volume: CTVolume, extent: float) -> list[Proposal]:
    return find(probability, volume, FindRule(extent, least_score=LEAST_SCORE))


# What the rows say


def others(rows: Sequence[ScanRow], part: str | None) -> list[ScanRow]:
    """The scans of all folds but one, or of all."""
    return [row for row in rows if row.part != part]


def dice_at(
    scans: Sequence[ScanRow], rows: Sequence[ProposalRow], least: float, *, own: bool = False
) -> dict[str, float]:
    """Patient-level Dice of each scan with blood when all proposals of at least a score are taken.

    ``own``: of the proposals' own regions, else of the adapter's masks for their boxes.
    """
    by_patient = _by_patient(rows)
    out = {}
    for scan in scans:
        if not scan.reference_px:
            continue
        marked, blood = taken(by_patient.get(scan.patient, []), least, own=own)
        out[scan.patient] = 2 * blood / (marked + scan.reference_px)
    return out


def taken(rows: Sequence[ProposalRow], least: float, *, own: bool = False) -> tuple[int, int]:
    """(pixels, pixels of blood) of one scan's proposals of at least a score together."""
    mine = [row for row in rows if row.score >= least]
    if not mine:
        return 0, 0
    last = max(mine, key=lambda row: row.number)
    if own:
        return last.taken_own_px, last.taken_own_blood_px
    return last.taken_px, last.taken_blood_px


@dataclass(frozen=True)
class Point:
    """Of a curve: from a score on, the share of lesions found and the false proposals a scan."""

    least: float
    sensitivity: float
    false_a_scan: float


def froc(scans: Sequence[ScanRow], rows: Sequence[ProposalRow]) -> list[Point]:
    """The curve from the strongest proposal on, one point for each score that is there."""
    found: dict[tuple[str, int], float] = {}
    lesions = {
        (scan.patient, n): int(px) for scan in scans for n, px in enumerate(scan.lesion_px.split())
    }
    patients = {scan.patient for scan in scans}
    covered: dict[tuple[str, int], int] = {}
    mine = sorted((row for row in rows if row.patient in patients), key=lambda row: -row.score)
    false, points = 0, []
    for row in mine:
        false += row.blood_px < LEAST_SHARE * row.px
        for text in row.lesions.split():
            n, px = map(int, text.split(":"))
            lesion = (row.patient, n)
            covered[lesion] = covered.get(lesion, 0) + px
            if covered[lesion] >= LEAST_SHARE * lesions[lesion]:
                found.setdefault(lesion, row.score)
        points.append(
            Point(row.score, len(found) / max(len(lesions), 1), false / max(len(scans), 1))
        )
    return points


def found_at(
    scans: Sequence[ScanRow], rows: Sequence[ProposalRow], least: float
) -> dict[tuple[str, int], bool]:
    """Whether each lesion is found by the proposals of at least a score: {(patient, lesion): found}."""
    by_patient = _by_patient(rows)
    out = {}
    for scan in scans:
        covered: dict[int, int] = {}
        for row in by_patient.get(scan.patient, []):
            if row.score >= least:
                for text in row.lesions.split():
                    n, px = map(int, text.split(":"))
                    covered[n] = covered.get(n, 0) + px
        for n, px in enumerate(map(int, scan.lesion_px.split())):
            out[scan.patient, n] = covered.get(n, 0) >= LEAST_SHARE * px
    return out


def at_false(points: Sequence[Point], false_a_scan: float) -> Point:
    """The last point of a curve with at most so many false proposals a scan."""
    kept = [point for point in points if point.false_a_scan <= false_a_scan]
    return kept[-1] if kept else Point(1.0, 0.0, 0.0)


def slice_auc(scans: Sequence[ScanRow]) -> float:
    """The chance that a slice with blood is more suspicious than one without, over all pairs; NaN without a pair."""
    suspicion = np.array([float(v) for scan in scans for v in scan.suspicion.split()])
    blood = np.array([int(v) > 0 for scan in scans for v in scan.slice_px.split()])
    if blood.all() or not blood.any():
        return float("nan")
    without, with_blood = np.sort(suspicion[~blood]), suspicion[blood]
    less = np.searchsorted(without, with_blood, "left")
    no_more = np.searchsorted(without, with_blood, "right")
    return float((less + no_more).mean() / 2 / without.size)


# What is chosen, for a fold on the others, and for what ships on all


def choose_extent(scans: Sequence[ScanRow], rows: Sequence[ProposalRow], part: str | None) -> float:
    """The extent by which the proposals' own regions, at the best score for each, have the best mean Dice."""
    some = others(scans, part)

    def best(extent: float) -> float:
        mine = [row for row in rows if row.extent == extent]
        return max(_mean_dice(some, mine, least, own=True) for least in _SCORES)

    return max(EXTENTS, key=best)


def choose_accepted(
    scans: Sequence[ScanRow], rows: Sequence[ProposalRow], part: str | None
) -> float:
    """The score from which on proposals are taken where nobody is asked: by the mean Dice of the adapter's masks."""
    some = others(scans, part)
    return max(_SCORES, key=lambda least: _mean_dice(some, rows, least))


def choose_least(scans: Sequence[ScanRow], rows: Sequence[ProposalRow], part: str | None) -> float:
    """The score from which on a person is shown proposals: FALSE_A_SCAN of them are false."""
    point = at_false(froc(others(scans, part), rows), FALSE_A_SCAN)
    return float(np.floor(100 * point.least) / 100)


_SCORES = tuple(round(0.05 * n, 2) for n in range(1, 20))


def _mean_dice(
    scans: Sequence[ScanRow], rows: Sequence[ProposalRow], least: float, *, own: bool = False
) -> float:
    values = list(dice_at(scans, rows, least, own=own).values())
    return float(np.mean(values)) if values else 0.0


def _by_patient(rows: Sequence[ProposalRow]) -> Mapping[str, list[ProposalRow]]:
    out: dict[str, list[ProposalRow]] = {}
    for row in rows:
        out.setdefault(row.patient, []).append(row)
    return out
