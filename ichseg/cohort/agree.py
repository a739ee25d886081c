"""How well two readers, or a reader and a method, agree over many scans: two folders of masks in, tables out.

Masks are paired by their file's name, else by the scan that they say they are of; lesions by type where both masks tell
the types of theirs, else by label. For each pair of lesions, and for all blood of a scan, there is a row. For each kind
of lesion the rows are summed up (``Summary``).

Sources: Bland and Altman 1999 for the limits of agreement and their standard errors; the intraclass correlation is
ICC(A,1) of McGraw and Wong 1996 (two-way random, absolute agreement, a single rater; ICC(2,1) of Shrout and Fleiss
1979), by pingouin.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ichseg import NOTICE
from ichseg.errors import InputError
from ichseg.files.mask import LabelledMask, read_mask_alone
from ichseg.files.names import ending_of
from ichseg.files.records import json_bytes
from ichseg.files.tables import csv_bytes
from ichseg.marks.lesion import UNSPECIFIED
from ichseg.measures.agreement import TOLERANCE_MM, compare
from ichseg.measures.dictionary import Column, package_record
from ichseg.scan.volume import CTVolume

#: Of the names of files that are taken for masks.
ENDINGS = (".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".mha")

#: What the rows of all blood of a scan are called.
ALL_BLOOD = "all blood"

#: An intraclass correlation is of so many pairs at least.
LEAST_PAIRS = 5

AGREEMENT_NAME, SUMMARY_NAME, PLOT_NAME = (
    *("agreement.csv", "agreement-summary.csv", "bland-altman.png"),
)

AGREEMENT_COLUMNS: tuple[Column, ...] = (
    Column("pair", "integer", about="The pair of masks, from 1, in the order of their names."),
    Column("mask_a", "string", about="The file in the first folder."),
    Column("mask_b", "string", about="The file in the second folder."),
    Column("lesion", "string", about=f"Which lesion: its type, else its label; or {ALL_BLOOD}."),
    Column("a_ml", title="Volume in A", about="Of the mask in the first folder."),
    Column("b_ml", title="Volume in B", about="Of the mask in the second folder."),
    Column("difference_ml", title="Difference", about="B less A."),
    Column("mean_ml", title="Mean", about="Of A and B."),
    Column("dice", title="Dice", about="Of the two masks; empty where both are."),
    Column(
        "surface_dice",
        title="Surface Dice",
        about=f"The share of both boundaries within {TOLERANCE_MM:g} mm of the other.",
    ),
    Column("notes", "string", about="What has to be read with the row."),
    Column("error", "string", about="Why there is no row of measures."),
    Column("notice", "string", about=NOTICE),
)


@dataclass(frozen=True)
class Summary:
    """The agreement over all pairs of one kind of lesion; None where there are too few to tell.

    ``bias_ml`` is the mean of B less A; ``low_ml`` and ``high_ml`` are the limits of agreement, bias -+ 1.96 SD, each
    with half of its 95 % confidence interval. Dice is over pairs in which either mask has the lesion.
    """

    lesion: str
    pairs: int
    bias_ml: float | None
    bias_ci_ml: float | None
    sd_ml: float | None
    low_ml: float | None
    high_ml: float | None
    limits_ci_ml: float | None
    icc: float | None
    icc_low: float | None
    icc_high: float | None
    dice_mean: float | None
    dice_sd: float | None
    surface_dice_mean: float | None
    surface_dice_sd: float | None
    not_computed: str = ""


SUMMARY_COLUMNS: tuple[Column, ...] = (
    Column("lesion", "string", about="The kind of lesion."),
    Column("pairs", "integer", about="Pairs of masks of which one at least has it."),
    Column("bias_ml", title="Bias", about="The mean of B less A."),
    Column("bias_ci_ml", about="Half of the bias's 95 % confidence interval."),
    Column("sd_ml", about="The standard deviation of the differences."),
    Column("low_ml", title="Lower limit", about="Of agreement: bias less 1.96 SD."),
    Column("high_ml", title="Upper limit", about="Of agreement: bias and 1.96 SD."),
    Column("limits_ci_ml", about="Half of either limit's 95 % confidence interval."),
    Column("icc", title="ICC(A,1)", about="Two-way random, absolute agreement, a single rater."),
    Column("icc_low", about="Its 95 % confidence interval, from"),
    Column("icc_high", about="and to."),
    Column("dice_mean", about="Mean of Dice."),
    Column("dice_sd", about="Its standard deviation."),
    Column("surface_dice_mean", about="Mean of surface Dice."),
    Column("surface_dice_sd", about="Its standard deviation."),
    Column("not_computed", "string", about="What the row lacks, and why."),
    Column("notice", "string", about=NOTICE),
)


def agreement_rows(folder_a: Path, folder_b: Path) -> list[dict[str, Any]]:
    """A row for each lesion of each pair of masks, and for all blood of it; one with an error where there is none.

    Raises InputError where there is no pair at all.
    """
    masks_a, masks_b = _masks_in(folder_a), _masks_in(folder_b)
    pairs = _pairs(masks_a, masks_b)
    if not any(a and b for a, b in pairs):
        raise InputError(
            "Masks of two folders are compared by their file's name, or by the scan that they say they are of; "
            f"{folder_a.name} has {len(masks_a)} and {folder_b.name} {len(masks_b)} "
            f"({', '.join(ENDINGS)}), and none goes with another; name them alike."
        )
    rows: list[dict[str, Any]] = []
    for number, (a, b) in enumerate(pairs, 1):
        same = {"pair": number, "mask_a": a and a.name, "mask_b": b and b.name}
        try:
            rows += [{**same, **row} for row in _compared(a, b)]
        except InputError as error:
            rows.append({**same, "error": str(error)})
    return rows


def _masks_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(
            f"Agreement is between two folders of masks; {folder.name} is none; check its path."
        )
    files = (one for one in sorted(folder.iterdir()) if one.is_file())
    return [one for one in files if ending_of(one, ENDINGS) and not one.name.startswith(".")]


def _pairs(masks_a: list[Path], masks_b: list[Path]) -> list[tuple[Path | None, Path | None]]:
    """The masks that go together, and those that are alone."""
    by_name = {_stem(one): one for one in masks_b}
    found: list[tuple[Path | None, Path | None]] = []
    alone = []
    for one in masks_a:
        other = by_name.pop(_stem(one), None)
        if other is None:
            alone.append(one)
        else:
            found.append((one, other))
    of_scan = _by_scan(by_name.values())
    own = _by_scan(alone)
    for one in alone:
        scan = next((sha for sha, path in own.items() if path == one), None)
        other = of_scan.pop(scan, None) if scan else None
        if other is not None:
            del by_name[_stem(other)]
        found.append((one, other))
    return [*found, *((None, one) for one in by_name.values())]


def _stem(path: Path) -> str:
    return path.name[: len(path.name) - len(ending_of(path, ENDINGS))]


def _by_scan(masks: Iterable[Path]) -> dict[str, Path]:
    """Masks by the scan that they say they are of, where one alone says so."""
    found: dict[str, list[Path]] = {}
    for one in masks:
        try:
            mask, _ = read_mask_alone(one)
        except InputError:
            continue  # it is refused when its turn comes
        if mask.scan_sha256:
            found.setdefault(mask.scan_sha256, []).append(one)
    return {sha: paths[0] for sha, paths in found.items() if len(paths) == 1}


def _compared(a: Path | None, b: Path | None) -> Iterable[dict[str, Any]]:
    if a is None or b is None:
        raise InputError("A mask is compared with one of the other folder; there is none for it.")
    mask_a, grid = read_mask_alone(a)
    mask_b, _ = read_mask_alone(b, grid)
    if mask_a.scan_sha256 and mask_b.scan_sha256 and mask_a.scan_sha256 != mask_b.scan_sha256:
        raise InputError(
            f"Two masks that are compared are of one scan; {a.name} and {b.name} say that they are of two; "
            "pair them by their names."
        )
    parts_a, parts_b = _lesions(mask_a, mask_b)
    zeros = np.zeros(mask_a.labels_zyx.shape, dtype=bool)
    rows = [
        _row(key, parts_a.get(key, zeros), parts_b.get(key, zeros), grid)
        for key in sorted(parts_a.keys() | parts_b.keys())
    ]
    rows.append(_row(ALL_BLOOD, mask_a.blood_zyx, mask_b.blood_zyx, grid))
    return rows


Parts = dict[str, npt.NDArray[np.bool_]]


def _lesions(a: LabelledMask, b: LabelledMask) -> tuple[Parts, Parts]:
    """The lesions of both masks by type, where both tell all of theirs; else by label."""
    told = all(_tells(one) for one in (a, b))
    return _parts(a, told), _parts(b, told)


def _tells(mask: LabelledMask) -> bool:
    """Whether a mask says the type of each of its lesions; an empty one has none to say."""
    types = {one.id: one.type for one in mask.lesions}
    present = [int(k) for k in np.unique(mask.labels_zyx) if k]
    return all(types.get(k, UNSPECIFIED) != UNSPECIFIED for k in present)


def _parts(mask: LabelledMask, by_type: bool) -> Parts:
    types = {one.id: one.type for one in mask.lesions}
    present = [int(k) for k in np.unique(mask.labels_zyx) if k]
    found: Parts = {}
    for k in present:
        key = types[k] if by_type else f"label {k}"
        found[key] = found.get(key, np.zeros(1, dtype=bool)) | (mask.labels_zyx == k)
    return found


def _row(
    lesion: str, a_zyx: npt.NDArray[np.bool_], b_zyx: npt.NDArray[np.bool_], grid: CTVolume
) -> dict[str, Any]:
    found = compare(b_zyx, a_zyx, grid)
    return {
        "lesion": lesion,
        "a_ml": found.reference_ml,
        "b_ml": found.volume_ml,
        "difference_ml": found.difference_ml,
        "mean_ml": (found.reference_ml + found.volume_ml) / 2,
        "dice": _known(found.dice),
        "surface_dice": _known(found.surface_dice),
        "notes": "Neither mask has it." if not (a_zyx.any() or b_zyx.any()) else "",
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def summaries(rows: Sequence[Mapping[str, Any]]) -> list[Summary]:
    """The agreement for each kind of lesion, all blood last.

    >>> rows = [{"lesion": "IPH", "a_ml": a, "b_ml": b, "dice": 0.9, "surface_dice": 1.0} for a, b in [(1, 2), (3, 6)]]
    >>> found = summaries(rows)[0]
    >>> found.pairs, found.bias_ml, round(found.high_ml, 2), found.icc
    (2, 2.0, 4.77, None)
    """
    kinds = sorted({row["lesion"] for row in rows if not row.get("error")})
    kinds.sort(key=lambda kind: kind == ALL_BLOOD)
    return [_summary(kind, [row for row in rows if row.get("lesion") == kind]) for kind in kinds]


def _summary(kind: str, rows: Sequence[Mapping[str, Any]]) -> Summary:
    seen = [row for row in rows if row["a_ml"] or row["b_ml"]]
    a, b = (np.array([row[name] for row in seen], dtype=float) for name in ("a_ml", "b_ml"))
    limits = _limits(b - a)
    icc, low, high, why = _icc(a, b)
    return Summary(
        kind,
        len(seen),
        **limits,
        icc=icc,
        icc_low=low,
        icc_high=high,
        **{
            f"{name}_{what}": value
            for name in ("dice", "surface_dice")
            for what, value in _mean_sd(row[name] for row in seen).items()
        },
        not_computed=why,
    )


def _limits(difference_ml: npt.NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Bias and limits of agreement, each with half of its 95 % confidence interval by Student's t."""
    from scipy import stats

    n = len(difference_ml)
    names = ("bias_ml", "bias_ci_ml", "sd_ml", "low_ml", "high_ml", "limits_ci_ml")
    if n < 2:
        return {**dict.fromkeys(names), "bias_ml": float(difference_ml[0]) if n else None}
    bias, sd = float(difference_ml.mean()), float(difference_ml.std(ddof=1))
    t = float(stats.t.ppf(0.975, n - 1))
    se_limit = sd * math.sqrt(1 / n + 1.96**2 / (2 * (n - 1)))
    values = (bias, t * sd / math.sqrt(n), sd, bias - 1.96 * sd, bias + 1.96 * sd, t * se_limit)
    return dict(zip(names, values, strict=True))


def _icc(
    a: npt.NDArray[np.floating[Any]], b: npt.NDArray[np.floating[Any]]
) -> tuple[float | None, float | None, float | None, str]:
    """ICC(A,1) with its 95 % confidence interval, and why there is none."""
    if len(a) < LEAST_PAIRS:
        return None, None, None, f"icc: of {len(a)} pairs; it takes {LEAST_PAIRS}"
    if not (a - b).any():
        why = "icc: all volumes are alike" if not np.ptp(a) else ""
        return (None if why else 1.0), (None if why else 1.0), (None if why else 1.0), why
    try:
        import pandas
        import pingouin
    except ImportError:
        return None, None, None, "icc: pip install 'ichseg[agree]' computes it"
    pairs = range(len(a))
    table = pandas.DataFrame(
        {
            "pair": [*pairs, *pairs],
            "rater": ["a"] * len(a) + ["b"] * len(b),
            "ml": [*a, *b],
        }
    )
    with warnings.catch_warnings():  # of its use of pandas, which is not ours
        warnings.simplefilter("ignore")
        found = pingouin.intraclass_corr(table, "pair", "rater", "ml").set_index("Type")
    row = found.loc["ICC(A,1)"]
    low, high = row.loc["CI95"]
    return float(row["ICC"]), float(low), float(high), ""


def _mean_sd(values: Iterable[float | None]) -> dict[str, float | None]:
    known = np.array([value for value in values if value is not None])
    return {
        "mean": float(known.mean()) if len(known) else None,
        "sd": float(known.std(ddof=1)) if len(known) > 1 else None,
    }


def agreement_tables(
    rows: Sequence[Mapping[str, Any]], found: Sequence[Summary]
) -> dict[str, bytes]:
    """The tables with their dictionary, by their names."""
    tables = {AGREEMENT_NAME: AGREEMENT_COLUMNS, SUMMARY_NAME: SUMMARY_COLUMNS}
    content: dict[str, Sequence[Mapping[str, Any]]] = {
        AGREEMENT_NAME: rows,
        SUMMARY_NAME: [summary_record(one) for one in found],
    }
    return {
        **{
            name: csv_bytes(
                [column.name for column in columns],
                ({**row, "notice": NOTICE} for row in content[name]),
            )
            for name, columns in tables.items()
        },
        "datapackage.json": json_bytes(
            package_record("agreement", "Agreement of two raters' masks, by lesion", tables)
        ),
    }


def summary_record(found: Summary) -> dict[str, Any]:
    """A summary for JSON and CSV."""
    return asdict(found)
