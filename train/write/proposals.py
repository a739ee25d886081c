"""Proposals as a document: the FROC, Dice without a box, false millilitres, and each patient."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ichseg.methods.proposals import FindRule
from train.data.files import replace_file, write_json
from train.scores.metrics import Summary, summarise
from train.scores.proposals import (
    FALSE_A_SCAN,
    LEAST_SHARE,
    Point,
    ProposalRow,
    ScanRow,
    at_false,
    choose_accepted,
    choose_extent,
    choose_least,
    dice_at,
    found_at,
    froc,
    slice_auc,
    taken,
)

#: Sizes of lesions, mL: up to which, and what they are called.
SIZES = (
    (1.0, "under 1 mL"),
    (5.0, "1 to 5 mL"),
    (20.0, "5 to 20 mL"),
    (float("inf"), "20 mL and more"),
)
_FALSE = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)

_INTRODUCTION = (
    "Every patient by a head, and an adapter, that never saw them; real patients alone. The embedding that the head",
    "reads is by a network that never saw them, either. CT-ICH gives no spacing: 0.35 mm a pixel and 5 mm between",
    "slices are assumed for all millilitres.",
    "",
    f"- A lesion is a 3D component of the reference mask, and is found where proposals cover {LEAST_SHARE:.0%} of it.",
    f"- A proposal is false where less than {LEAST_SHARE:.0%} of it is blood.",
    "- How far proposals reach, and from which score on they are shown or taken, is chosen for each fold on the other",
    "  folds' held-out patients. The curve takes each fold's proposals by their scores as they are.",
    "- The masks are the adapter's, for the boxes around each proposal's components, without refinement unless it says",
    "  so; Dice is over the whole scan, false slices and missed ones included.",
)


def write_proposals(
    out: Path,
    scans: Sequence[ScanRow],
    regions: Sequence[ProposalRow],
    rows: Sequence[ProposalRow],
    rules: Mapping[str, FindRule],
    *,
    refinement: bool,
) -> str:
    """Write OUT/proposals.md, froc.png and summary.json; return the document."""
    extent = choose_extent(scans, regions, None)
    rule = FindRule(
        extent=extent,
        least_score=choose_least(scans, rows, None),
        accept_score=choose_accepted(scans, rows, None),
    )
    # What nobody is shown is not taken either.
    rule, rules = _shown_first(rule), {name: _shown_first(one) for name, one in rules.items()}
    text = report(scans, rows, rules, rule, refinement=refinement)
    replace_file(out / "proposals.md", lambda part: part.write_text(text, encoding="utf-8"))
    _draw(froc(scans, rows), out / "froc.png")
    write_json(out / "summary.json", summary(scans, rows, rules, rule))
    return text


def _shown_first(rule: FindRule) -> FindRule:
    """A rule that takes nothing that it does not show."""
    return dataclasses.replace(rule, accept_score=max(rule.accept_score, rule.least_score))


def summary(
    scans: Sequence[ScanRow],
    rows: Sequence[ProposalRow],
    rules: Mapping[str, FindRule],
    rule: FindRule,
) -> dict[str, Any]:
    """The figures as JSON, and the rule that goes with what is trained on all patients."""
    accepted = _accepted(scans, rows, rules)
    dice = summarise(accepted.values())
    clean = summarise(_false_ml(scans, rows, rules, only_clean=True).values())
    point = at_false(froc(scans, rows), FALSE_A_SCAN)
    return {
        "rule": dataclasses.asdict(rule),
        "rules": {name: dataclasses.asdict(one) for name, one in rules.items()},
        "patients": len(scans),
        "patients_with_blood": dice.n,
        "automatic_dice": {"mean": dice.mean, "sd": dice.sd, "interval": list(dice.interval)},
        "slice_auc": slice_auc(scans),
        "sensitivity_at_2_false_a_scan": point.sensitivity,
        "clean_scans_false_ml": {
            "mean": clean.mean,
            "median": clean.median,
            "highest": max(_false_ml(scans, rows, rules, only_clean=True).values(), default=0.0),
        },
    }


def report(
    scans: Sequence[ScanRow],
    rows: Sequence[ProposalRow],
    rules: Mapping[str, FindRule],
    rule: FindRule,
    *,
    refinement: bool,
) -> str:
    """The document."""
    points = froc(scans, rows)
    bleeding = [scan for scan in scans if scan.reference_px]
    lines = [
        "# Proposals: blood found without a box",
        "",
        "Printed by `python -m train froc`; the rows are in the CSV files beside this one.",
        "",
        *_INTRODUCTION,
        "",
        f"{len(scans)} patients, {len(bleeding)} with blood"
        f"{'; masks with refinement' if refinement else ''}.",
        "",
        *_headline(scans, rows, rules, points),
        "",
        "## Lesions found, by false proposals a scan",
        "",
        "![FROC](froc.png)",
        "",
        f"| false proposals a scan | {' | '.join(f'{n:g}' for n in _FALSE)} |",
        "|---" * (1 + len(_FALSE)) + "|",
        f"| lesions found | {' | '.join(f'{at_false(points, n).sensitivity:.3f}' for n in _FALSE)} |",
        "",
        *_by_kind(scans, rows, points),
        "",
        "## What a person would be shown, and what is taken where nobody is asked",
        "",
        *_rules(rules, rule),
        "",
        "## Each patient with blood",
        "",
        *_patients(bleeding, rows, rules),
        "",
        "## Scans without blood",
        "",
        *_clean(scans, rows, rules),
    ]
    return "\n".join(lines) + "\n"


def _headline(
    scans: Sequence[ScanRow],
    rows: Sequence[ProposalRow],
    rules: Mapping[str, FindRule],
    points: Sequence[Point],
) -> Iterator[str]:
    dice = summarise(_accepted(scans, rows, rules).values())
    own = summarise(_accepted(scans, rows, rules, own=True).values())
    clean = summarise(_false_ml(scans, rows, rules, only_clean=True).values())
    point = at_false(points, FALSE_A_SCAN)
    yield "| | aim | found |"
    yield "|---|---|---|"
    yield f"| automatic Dice per patient, masks of the adapter | 0.50 | {_spread(dice)} |"
    yield f"| the same, of the proposals' own regions | | {_spread(own)} |"
    yield (
        f"| lesions found at {FALSE_A_SCAN:g} false proposals a scan | 0.75 | {point.sensitivity:.3f} |"
    )
    yield f"| slices with blood told from those without, AUC | | {slice_auc(scans):.3f} |"
    yield (
        f"| false mL on a scan without blood, taken automatically | | median {clean.median:.2f}, "
        f"mean {clean.mean:.2f} ± {clean.sd:.2f} |"
    )
    seconds = sum(scan.seconds for scan in scans)
    slices = sum(len(scan.slice_px.split()) for scan in scans)
    yield (
        "| s a slice, with its embedding there, on one core that other work shared | 0.03 "
        f"| {seconds / max(slices, 1):.3f} |"
    )


def _by_kind(
    scans: Sequence[ScanRow], rows: Sequence[ProposalRow], points: Sequence[Point]
) -> Iterator[str]:
    least = at_false(points, FALSE_A_SCAN).least
    found = found_at(scans, rows, least)
    ml = {
        (scan.patient, n): int(px) * scan.voxel_ml
        for scan in scans
        for n, px in enumerate(scan.lesion_px.split())
    }
    kinds = {scan.patient: scan.kind for scan in scans}

    def groups() -> Iterator[tuple[str, Callable[[tuple[str, int]], bool]]]:
        for kind in sorted({scan.kind for scan in scans if scan.reference_px}):
            yield kind, lambda lesion, kind=kind: kinds[lesion[0]] == kind  # type: ignore[misc]
        lowest = 0.0
        for highest, name in SIZES:
            yield (
                name,
                lambda lesion, low=lowest, high=highest: low <= ml[lesion] < high,  # type: ignore[misc]
            )
            lowest = highest

    yield f"By the kind of the patient's blood and by the lesion's size, at {FALSE_A_SCAN:g} false proposals a scan:"
    yield ""
    yield "| lesions | found | of |"
    yield "|---|---|---|"
    for name, belongs in groups():
        mine = [is_found for lesion, is_found in found.items() if belongs(lesion)]
        if mine:
            yield f"| {name} | {sum(mine)} ({sum(mine) / len(mine):.2f}) | {len(mine)} |"


def _rules(rules: Mapping[str, FindRule], rule: FindRule) -> Iterator[str]:
    yield "| chosen for | reaches to a probability of | shown from a score of | taken from a score of |"
    yield "|---|---|---|---|"
    for name, one in [*rules.items(), ("what ships, on all folds", rule)]:
        yield f"| {name} | {one.extent:g} | {one.least_score:g} | {one.accept_score:g} |"


def _patients(
    scans: Sequence[ScanRow], rows: Sequence[ProposalRow], rules: Mapping[str, FindRule]
) -> Iterator[str]:
    dice, own = _accepted(scans, rows, rules), _accepted(scans, rows, rules, own=True)
    found: dict[tuple[str, int], bool] = {}
    for scan in scans:
        found |= found_at([scan], rows, rules[scan.part].least_score)
    false = _false_ml(scans, rows, rules)
    yield (
        "| patient | kind | fold | mL | Dice | Dice of the regions | lesions shown | of | false mL taken |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for scan in sorted(scans, key=lambda scan: scan.patient):
        mine = [is_found for (patient, _), is_found in found.items() if patient == scan.patient]
        yield (
            f"| {scan.patient} | {scan.kind} | {scan.part} | {scan.reference_px * scan.voxel_ml:.1f} "
            f"| {dice[scan.patient]:.3f} | {own[scan.patient]:.3f} | {sum(mine)} | {len(mine)} "
            f"| {false[scan.patient]:.2f} |"
        )


def _clean(
    scans: Sequence[ScanRow], rows: Sequence[ProposalRow], rules: Mapping[str, FindRule]
) -> Iterator[str]:
    clean = [scan for scan in scans if not scan.reference_px]
    shown = summarise(
        sum(
            row.patient == scan.patient and row.score >= rules[scan.part].least_score
            for row in rows
        )
        for scan in clean
    )
    false = summarise(_false_ml(scans, rows, rules, only_clean=True).values())
    nothing = sum(ml == 0 for ml in _false_ml(scans, rows, rules, only_clean=True).values())
    yield (
        f"{len(clean)} scans. Proposals shown on each: {_spread(shown)}, median {shown.median:g}. Taken where nobody "
        f"is asked: {_spread(false, 2)} mL, median {false.median:.2f} mL, quartiles {false.quartiles[0]:.2f} to "
        f"{false.quartiles[1]:.2f} mL; nothing at all on {nothing}."
    )


def _accepted(
    scans: Sequence[ScanRow],
    rows: Sequence[ProposalRow],
    rules: Mapping[str, FindRule],
    *,
    own: bool = False,
) -> dict[str, float]:
    """Each bleeding patient's Dice, by the rule of its own fold."""
    out: dict[str, float] = {}
    for part, rule in rules.items():
        mine = [scan for scan in scans if scan.part == part]
        out |= dice_at(mine, rows, rule.accept_score, own=own)
    return out


def _false_ml(
    scans: Sequence[ScanRow],
    rows: Sequence[ProposalRow],
    rules: Mapping[str, FindRule],
    *,
    only_clean: bool = False,
) -> dict[str, float]:
    """Millilitres taken by the rule of the scan's fold that are no blood."""
    out = {}
    for scan in scans:
        if only_clean and scan.reference_px:
            continue
        mine = [row for row in rows if row.patient == scan.patient]
        marked, blood = taken(mine, rules[scan.part].accept_score)
        out[scan.patient] = (marked - blood) * scan.voxel_ml
    return out


def _spread(value: Summary, digits: int = 3) -> str:
    return f"{value.mean:.{digits}f} ± {value.sd:.{digits}f}"


def _draw(points: Sequence[Point], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.step(
        [point.false_a_scan for point in points],
        [point.sensitivity for point in points],
        where="post",
        color="#b2182b",
    )
    axes.axhline(0.75, color="0.7", linewidth=0.8)
    axes.axvline(FALSE_A_SCAN, color="0.7", linewidth=0.8)
    axes.set(
        xlabel="false proposals a scan",
        ylabel="share of lesions found",
        xlim=(0, 8),
        ylim=(0, 1),
    )
    replace_file(path, lambda part: figure.savefig(part, format="png"))
