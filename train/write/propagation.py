"""The document of ``python -m train propagate``."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ichseg.methods.follow_rule import Rule
from ichseg.replace_file import write_whole
from train.scores.confirmed import CONFIRMED_SHARE
from train.scores.likeness import best_likeness, by_likeness, likeness_by_part
from train.scores.metrics import Summary, paired_difference, summarise
from train.scores.propagation import CHOSEN_ON, EVERY_SLICE, WAYS, WITH_PROPOSALS, Row, as_text


def write_propagation(
    out: Path,
    rows: Sequence[Row],
    title: str,
    sample: Mapping[bool, Sequence[tuple[int, float, float]]] | None = None,
) -> str:
    """Write OUT.md, beside the rows in OUT.csv; return the Markdown."""
    text = report(rows, title, sample)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out.with_suffix(".md"), text.encode())
    return text


def report(
    rows: Sequence[Row],
    title: str,
    sample: Mapping[bool, Sequence[tuple[int, float, float]]] | None = None,
) -> str:
    """The document: how it was measured, then held-out patients, then those the rule was chosen on, then each.

    Args:
        rows: by the rules of ``rules_tried``. The tables are of the least likeness that was chosen for each part on the
            others; where there is one part alone, of the rule that the library has.
        title: of the model or the run.
        sample: what ``measure_sample`` gave.

    """
    rule = dataclasses.asdict(Rule())
    names = {row.part for row in rows}
    likeness = likeness_by_part(rows) if len(names) > 1 else dict.fromkeys(names, as_text(Rule()))
    now = by_likeness(rows, likeness)
    held_out = [row for row in now if row.patient not in CHOSEN_ON]
    chosen_on = [row for row in now if row.patient in CHOSEN_ON]
    lines = [
        "# One box, the whole hematoma",
        "",
        "Aim: within 0.03 Dice of a box on every slice, and the sample within 10 % of its volume from any reasonable "
        "box.",
        "Where the tables below fall short of that, it is not reached.",
        "",
        "Printed by `python -m train propagate`; the rows are in the CSV file beside this one.",
        "",
        *_INTRODUCTION,
        "",
        *(f"- {way}: {text}" for way, text in WAYS.items()),
        *(_PROPOSED if any(row.way in WITH_PROPOSALS for row in rows) else ()),
        "",
        f"The rule: {', '.join(f'{k} {v:g}' for k, v in rule.items() if v is not None)}.",
    ]
    if len(names) > 1:
        chosen = ", ".join(f"{part} {tried}" for part, tried in likeness.items())
        lines += ["", *_LIKENESS, "", f"Chosen: {chosen}; on all patients {best_likeness(rows)}."]
    for heading, some in (
        ("Patients that the rule was not chosen on", held_out),
        ("Patients that the rule was chosen on", chosen_on),
    ):
        lines += ["", f"## {heading}: {title}", ""]
        lines += list(_summary(some)) if some else ["None is measured yet."]
    if len(names) > 1:
        lines += ["", "## The discriminant and the thresholds", "", *_likeness_lines(rows, now)]
    if sample:
        lines += ["", "## The sample", "", *_sample_lines(sample)]
    lines += ["", "## Each patient", "", *_patients(now)]
    return "\n".join(lines) + "\n"


_INTRODUCTION = (
    "Whole-hematoma Dice per patient at native resolution: all slices of the scan together, those with blood on which",
    "nothing was marked and those marked without blood included. CT-ICH gives no spacing, so 0.35 mm a pixel and 5 mm",
    "between slices are assumed for the rule's millimetres. Boxes come from the reference mask, grown by 3 px at",
    "256 x 256: an optimistic setting. A lesion that does not touch the prompted one is out of reach of a single box:",
    "many of these patients have several, which is what the last way and the Dice per lesion are for.",
    "",
)


_PROPOSED = (
    "- proposals: no box; the proposals that the reference mask confirms are accepted, each with its boxes",
    f"- ..., proposals: the same after those boxes. Confirmed is a proposal of which {CONFIRMED_SHARE:.0%} or more is",
    "  blood, that much of it not marked yet. Proposals are by the fold's finder, which never saw the patient, and",
    "  shown by the rule that was chosen for it on the other folds",
)


_LIKENESS = (
    "A mask goes on where it looks like the prompted blood: where the mean in it of a linear discriminant in the",
    "embedding, 1 in the prompted blood and -1 in a ring around it, is least_likeness or more, and its area is",
    "least_area_mm2 or more. Growth, contrast, bone, overlap and IoU are asked only where the prompted blood is too",
    "small for a discriminant. Each fold's patients are scored with the least likeness by which one box has the best",
    "mean Dice on the patients of the other folds, which were followed by adapters that had not trained on them, but",
    "on the patients that are scored. Not blind: how small the prompted blood may be was lowered after a first run.",
)


def _likeness_lines(rows: Sequence[Row], now: Sequence[Row]) -> Iterator[str]:
    """What the discriminant gives beside the thresholds, and what each likeness would give on all patients."""
    yield "Better and worse are patients whose Dice differs by over 0.005."
    yield ""
    yield from _gain_lines(rows, now)
    yield ""
    ways = [way for way in _ways(now) if way != EVERY_SLICE]
    yield f"| least likeness, the same for all patients | {' | '.join(ways)} |"
    yield "|---" * (1 + len(ways)) + "|"
    for tried in sorted({row.least_likeness for row in rows}):
        mine = [row for row in rows if row.least_likeness == tried]
        cells = [f"{summarise(r.dice for r in _of(mine, way, 0)).mean:.3f}" for way in ways]
        yield f"| {tried or 'none: the thresholds alone'} | {' | '.join(cells)} |"


def _gain_lines(rows: Sequence[Row], now: Sequence[Row]) -> Iterator[str]:
    yield "| prompts | patients | the thresholds alone | with the discriminant | gain | better | worse |"
    yield "|---|---|---|---|---|---|---|"
    before = [row for row in rows if not row.least_likeness]
    for way in _ways(now):
        if way == EVERY_SLICE:
            continue
        for those, left_out in (("all", ()), ("not of the rule's choice", CHOSEN_ON)):
            old, new = (
                [row.dice for row in _of(some, way, 0) if row.patient not in left_out]
                for some in (before, now)
            )
            gain = paired_difference(new, old)
            better, worse = (
                sum(sign * (b - a) > 0.005 for a, b in zip(old, new, strict=True))
                for sign in (1, -1)
            )
            yield (
                f"| {way} | {those} ({len(new)}) | {_spread(summarise(old))} | {_spread(summarise(new))} "
                f"| {_interval(gain)} | {better} | {worse} |"
            )


def _summary(rows: Sequence[Row]) -> Iterator[str]:
    yield (
        "| prompts | refinement | Dice per patient | 95 % | less than a box on every slice by | Dice per lesion "
        "| boxes | proposals accepted |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for refinement in sorted({row.refinement for row in rows}, reverse=True):
        every = _of(rows, EVERY_SLICE, refinement)
        for way in _ways(rows):
            mine = _of(rows, way, refinement)
            value = summarise(row.dice for row in mine)
            loss = paired_difference([r.dice for r in every], [r.dice for r in mine])
            yield (
                f"| {way} | {'yes' if refinement else 'no'} | {_spread(value)} "
                f"| {value.interval[0]:.3f} to {value.interval[1]:.3f} "
                f"| {'' if way == EVERY_SLICE else _interval(loss)} "
                f"| {_lesions(mine)} | {sum(row.boxes for row in mine) / len(mine):.1f} "
                f"| {sum(row.accepted for row in mine) / len(mine):.1f} |"
            )
    yield ""
    yield (
        f"{len({row.patient for row in rows})} patients. Spread is the standard deviation, intervals are 95 % "
        "bootstrap over patients."
    )
    yield ""
    yield ("| prompts | refinement | false slices | missed slices | of slices with blood | stops |")
    yield "|---|---|---|---|---|---|"
    for way, refinement, mine in _groups(rows):
        stops: Counter[str] = Counter()
        for row in mine:
            stops.update({k: int(v) for k, v in (s.split(":") for s in row.stops.split())})
        yield (
            f"| {way} | {'yes' if refinement else 'no'} | {sum(r.false_slices for r in mine)} "
            f"| {sum(r.missed_slices for r in mine)} | {sum(r.reference_slices for r in mine)} "
            f"| {', '.join(f'{k} {v}' for k, v in stops.most_common())} |"
        )
    yield ""
    yield "Where the false voxels lie (shares of all false voxels):"
    yield ""
    yield (
        "| prompts | refinement | false, of marked | beyond the last true slice | at bone (3 mm) | falx (4 mm of the "
        "middle) | above 80 HU | below 45 HU | the rest |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    names = ("false_bone", "false_middle", "false_bright", "false_pale", "false_rest")
    for way, refinement, mine in _groups(rows):
        parts = [sum(getattr(row, name) for row in mine) for name in names]
        wrong = max(sum(parts), 1)
        beyond = sum(row.false_px_beyond for row in mine)
        marked = max(sum(row.marked_px for row in mine), 1)
        cells = " | ".join(f"{part / wrong:.0%}" for part in (beyond, *parts))
        yield f"| {way} | {'yes' if refinement else 'no'} | {sum(parts) / marked:.0%} | {cells} |"


def _groups(rows: Sequence[Row]) -> Iterator[tuple[str, int, list[Row]]]:
    for refinement in sorted({row.refinement for row in rows}, reverse=True):
        for way in _ways(rows):
            yield way, refinement, _of(rows, way, refinement)


def _ways(rows: Sequence[Row]) -> list[str]:
    """The ways of which there are rows, in their order."""
    measured = {row.way for row in rows}
    return [way for way in (*WAYS, *WITH_PROPOSALS) if way in measured]


def _of(rows: Sequence[Row], way: str, refinement: int) -> list[Row]:
    mine = [row for row in rows if (row.way, row.refinement) == (way, refinement)]
    return sorted(mine, key=lambda row: row.patient)


def _lesions(rows: Sequence[Row]) -> str:
    values = [(float(v), row.patient) for row in rows for v in row.lesion_dice.split()]
    if not values:
        return ""
    value = summarise([v for v, _ in values], [p for _, p in values])
    return f"{_spread(value)} ({value.n})"


def _patients(rows: Sequence[Row]) -> Iterator[str]:
    looks = sorted({row.refinement for row in rows}, reverse=True)
    ways = _ways(rows)
    names = [f"{way}{' (unrefined)' if not look else ''}" for look in looks for way in ways]
    yield f"| patient | kind | part | lesions | {' | '.join(names)} |"
    yield "|---" * (4 + len(names)) + "|"
    for patient in sorted({row.patient for row in rows}):
        mine = {(r.way, r.refinement): r for r in rows if r.patient == patient}
        first = next(iter(mine.values()))
        cells = [
            f"{mine[way, look].dice:.3f}" if (way, look) in mine else ""
            for look in looks
            for way in ways
        ]
        yield (
            f"| {patient} | {first.kind} | {first.part} | {first.lesions} | {' | '.join(cells)} |"
        )


def _sample_lines(sample: Mapping[bool, Sequence[tuple[int, float, float]]]) -> Iterator[str]:
    yield "The synthetic sample's intraparenchymal hematoma (30.1 mL) from one box, each side off by up to 3 mm, on any"
    yield "slice with at least a quarter of the largest area; by the model, or the run's first part."
    yield "These boxes were looked at, with two adapters, while the rule was made: not an independent test."
    yield ""
    yield "| refinement | boxes | within 10 % | volume / reference | Dice |"
    yield "|---|---|---|---|---|"
    for refinement, results in sample.items():
        ratios = [ratio for _, ratio, _ in results]
        within = sum(abs(ratio - 1) <= 0.1 for ratio in ratios)
        yield (
            f"| {'yes' if refinement else 'no'} | {len(results)} | {within} "
            f"| {min(ratios):.3f} to {max(ratios):.3f} | {_spread(summarise(d for *_, d in results))} |"
        )


def _spread(value: Summary) -> str:
    return f"{value.mean:.3f} ± {value.sd:.3f}"


def _interval(value: Summary) -> str:
    return f"{value.mean:.3f} ({value.interval[0]:.3f} to {value.interval[1]:.3f})"
