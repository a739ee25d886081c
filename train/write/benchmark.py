"""The comparison of every method as one table and one figure: benchmark.md, benchmark.csv, figure.png."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ichseg.replace_file import write_whole
from train.data.cache import Prepared
from train.data.files import cell
from train.data.slices import native_slices
from train.scores.benchmark import (
    BENCHMARK_PROTOCOLS,
    METHODS,
    SHIPPED,
    TIMED_SLICES,
    ZERO_SHOT,
    Method,
    Published,
    Row,
    machine,
    score_methods,
)
from train.scores.evaluate import summary_of
from train.scores.metrics import Summary, batch_pooled, paired_difference
from train.write import figure
from train.write.evaluation import OPTIMISTIC


def benchmark(
    prepared: Prepared,
    runs: Path,
    out: Path,
    *,
    wanted: Sequence[Method] = METHODS,
    cache: Path | None = None,
    with_images: bool = False,
    fetch_weights: bool = False,
    where: str | None = None,
    on_done: Callable[[int, int], None] | None = None,
) -> str:
    """Score every method, write benchmark.md, benchmark.csv and figure.png into ``out``, and return the Markdown.

    Args:
        prepared: the data; patients without blood are left out.
        runs: the folder of the cross-validated runs.
        out: made where it is not there.
        wanted: the table's rows.
        cache: where scores and masks are kept; ``runs / "benchmark"`` by default.
        with_images: draw the figure over the CT. Without, it shows outlines alone, and may be published with no
            thought of the images' licence.
        fetch_weights: bring weights that are not here from the hub.
        where: as in ``ichseg.cohort.each``. Times per slice are taken in this process, when nothing else is scored.
        on_done: called with (patients done, of how many), for a progress display.

    """
    rows = score_methods(
        prepared,
        runs,
        wanted,
        cache=runs / "benchmark" if cache is None else cache,
        fetch_weights=fetch_weights,
        where=where,
        on_done=on_done,
    )
    text = markdown(rows, prepared)
    out.mkdir(parents=True, exist_ok=True)
    write_table(out / "benchmark.csv", rows)
    write_whole(out / "benchmark.md", text.encode())
    _draw(rows, prepared, out / "figure.png", with_images)
    return text


def difference(row: Row, reference: Row, protocol: str) -> Summary | None:
    """Dice less the reference's, slice by slice, over the slices that both have; None without any."""
    theirs = {(one.scan, one.slice): one.dice for one in reference.of(protocol)}
    mine = [one for one in row.of(protocol) if (one.scan, one.slice) in theirs]
    if not mine:
        return None
    return paired_difference(
        [one.dice for one in mine],
        [theirs[one.scan, one.slice] for one in mine],
        [one.patient for one in mine],
    )


def as_paper(row: Row) -> tuple[float, float]:
    """Dice and Jaccard at 256 x 256, batches of 8 slices pooled, in the patients' order for every method alike."""
    return batch_pooled([mask for mask, _ in row.small], [reference for _, reference in row.small])


_SLICE_SCORES = ("dice", "jaccard", "volume_difference")

_SCORES = (*_SLICE_SCORES, *(f"patient_{name}" for name in _SLICE_SCORES))


def records(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """The table as flat records, one a method and protocol; what is not known is None."""
    reference = next((row for row in rows if row.method.name == ZERO_SHOT), None)
    for row in rows:
        method, published = row.method, row.method.published
        base: dict[str, Any] = {
            "method": method.name,
            "title": method.title,
            "published_dice": published.test[0] if published else None,
            "published_jaccard": published.test[1] if published else None,
        }
        if row.reason or row.facts is None:
            yield {**base, "not_run_because": row.reason}
            continue
        summary = summary_of(row.scores)
        paper_dice, paper_jaccard = as_paper(row)
        for protocol in BENCHMARK_PROTOCOLS:
            record = {**base, "boxes": protocol.name}
            own = summary[protocol.name]
            record |= {"slices": own["dice"].n + own["dice"].n_left_out}
            record |= {"patients": len({one.patient for one in row.of(protocol.name)})}
            for name in _SCORES:
                record |= {f"{name}_mean": own[name].mean, f"{name}_sd": own[name].sd}
            gain = difference(row, reference, protocol.name) if reference else None
            if gain is not None and row is not reference:
                low, high = gain.interval
                record |= {"gain_dice": gain.mean, "gain_low": low, "gain_high": high}
            yield record | {
                "seconds_a_slice": row.seconds[protocol.name],
                "parameters": row.facts.parameters,
                "trainable": row.facts.trainable,
                "takes_box": row.facts.takes_box,
                "recipe": row.recipe,
                "dice_as_paper": paper_dice,
                "jaccard_as_paper": paper_jaccard,
                "timed_on": machine(),
            }


COLUMNS = (
    *("method", "title", "boxes", "not_run_because", "slices", "patients"),
    *(f"{name}_{end}" for name in _SCORES for end in ("mean", "sd")),
    *("gain_dice", "gain_low", "gain_high", "seconds_a_slice", "parameters", "trainable", "takes_box"),
    *("dice_as_paper", "jaccard_as_paper", "published_dice", "published_jaccard", "recipe", "timed_on"),
)  # fmt: skip


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """The table as CSV, one row a method and protocol, empty where there is nothing to say."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in records(rows):
        writer.writerow({key: cell(value) for key, value in record.items()})
    write_whole(path, text.getvalue().encode())


def markdown(rows: Sequence[Row], prepared: Prepared) -> str:
    """The table for people, what it means, and the paper's own figures beside it."""
    blood = {name for name, kind in prepared.patients.items() if kind != "none"}
    found = list(records(rows))
    missing = [one for one in found if "not_run_because" in one]
    partial = {
        one["title"]: one["patients"] for one in found if 0 < one.get("patients", 0) < len(blood)
    }
    lines = [
        "# The comparison",
        "",
        f"Every method on the same slices with blood of {prepared.dataset}: {len(blood)} patients. {OPTIMISTIC} "
        "Methods with a recipe, a forest or a network trained here are cross-validated: each patient is scored by a "
        "model that never saw it.",
        "",
        *_main_table(found),
        "",
        "Mean ± standard deviation. *Per slice*: over slices; *per patient*: over patients, each by the mean of its "
        "slices (volume: by all its slices taken together). Volume difference is |predicted - true| / true. *Gain* "
        f"is the paired difference in Dice per slice to un-tuned {_title(rows, ZERO_SHOT)}, with its 95 % bootstrap "
        "interval over patients. *Boxes*: one per slice, around all blood, or one per connected component. *Takes "
        "a box*: where it says no, the method runs on the whole slice and its answer is cut to the boxes, which spares "
        "it every false alarm elsewhere. *Trained*: the share of the parameters that learned from hemorrhage here. "
        "*s per slice*: median seconds from a new slice with its boxes to the mask, over "
        f"{TIMED_SLICES} slices, on {machine()}.",
    ]
    if partial:
        told = (f"{title} {count}" for title, count in partial.items())
        lines += ["", f"Of the {len(blood)} patients not all are scored yet by: {', '.join(told)}."]
    if missing:
        lines += ["", "Not run here:", ""]
        lines += [f"- {one['title']}: {one['not_run_because']}" for one in missing]
    lines += ["", "## Beside the paper's own figures", "", *_paper_table(rows)]
    lines += ["", *_FIGURE_TEXT]
    return "\n".join(lines) + "\n"


_FIGURE_TEXT = (
    "## The figure",
    "",
    "![Rows of slices, columns of methods: outlines of each answer and of the reference mask, and Dice](figure.png)",
    "",
    "Columns are methods; rows are slices that rules choose by their Dice with one method, which is named above the "
    "figure. " + figure.RULES_TEXT[0].upper() + figure.RULES_TEXT[1:],
    "",
    "It shows outlines alone, without the CT behind them, so that no image of the data set is in this repository; "
    "`--with-images` draws them over the CT, for one's own use.",
)


def _main_table(found: Sequence[Mapping[str, Any]]) -> list[str]:
    heads = [
        "method",
        "boxes",
        "Dice per slice",
        "Jaccard per slice",
        "volume difference per slice",
    ]
    heads += ["Dice per patient", "Jaccard per patient", "volume difference per patient"]
    heads += ["gain in Dice", "s per slice", "parameters", "trained", "takes a box"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for one in found:
        if "not_run_because" in one:
            lines.append(f"| {one['title']} | not run here |" + " |" * (len(heads) - 2))
            continue
        cells = [one["title"], one["boxes"]]
        for name in _SCORES:
            cells.append(f"{one[f'{name}_mean']:.3f} ± {one[f'{name}_sd']:.3f}")
        gain = one.get("gain_dice")
        interval = "" if gain is None else f"{one['gain_low']:+.3f} to {one['gain_high']:+.3f}"
        cells.append("" if gain is None else f"{gain:+.3f} ({interval})")
        cells += [f"{one['seconds_a_slice']:.2g}", *_parameters(one)]
        lines.append("| " + " | ".join([*cells, "yes" if one["takes_box"] else "no, cut"]) + " |")
    return lines


def _parameters(one: Mapping[str, Any]) -> tuple[str, str]:
    """(Parameters, share trained on hemorrhage) as people read them."""
    total, trainable = one["parameters"], one["trainable"]
    if total is None:
        return "trees", "all"
    if total == 0:
        return "none", ""
    return f"{total:,}", f"{100 * trainable / total:.1f} %"


def _paper_table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "Guo, Law and Park (2024), Table I, on their own private scans: other patients, another scanner, other "
        "raters. The columns on the left are this project's, in the paper's own protocol (256 x 256, components under "
        "100 px dropped, one box per slice, batches of 8 slices pooled), on the data above. The two sides are not the "
        "same test, and their difference is not a gain or a loss.",
        "",
        "| method | Dice here | Jaccard here | Dice, paper's test | Jaccard, paper's test "
        "| Dice, paper's validation | Jaccard, paper's validation |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        here = as_paper(row) if not row.reason else (None, None)
        published = row.method.published or Published((np.nan, np.nan))
        values = [*here, *published.test, *(published.validation or (np.nan, np.nan))]
        cells = ["" if value is None or np.isnan(value) else f"{value:.4f}" for value in values]
        note = f" ({published.note})" if published.note else ""
        lines.append(f"| {row.method.title}{note} | " + " | ".join(cells) + " |")
    return lines


def _title(rows: Sequence[Row], name: str) -> str:
    return next((row.method.title for row in rows if row.method.name == name), name)


def _draw(rows: Sequence[Row], prepared: Prepared, path: Path, with_images: bool) -> None:
    """Figure 4: the slices that the rules choose, each by every method that ran."""
    ran = [row for row in rows if row.scores]
    by_name = {row.method.name: row for row in ran}
    chooser = by_name.get(SHIPPED) or by_name.get(ZERO_SHOT) or (ran[-1] if ran else None)
    if chooser is None:
        path.unlink(missing_ok=True)
        return
    first = BENCHMARK_PROTOCOLS[0].name
    patients = sorted({one.patient for one in chooser.scores})
    slices = {(one.scan_id, one.slice_index): one for one in native_slices(prepared, patients)}
    dice = {(one.scan, one.slice): one.dice for one in chooser.of(first)}
    cases = figure.choose([(slices[where], dice[where]) for where in sorted(dice)])
    columns = [
        figure.Column(
            row.method.title + ("" if row.facts and row.facts.takes_box else "\n(no box)"),
            row.masks,
            {(one.scan, one.slice): one.dice for one in row.of(first)},
        )
        for row in ran
    ]
    figure.draw(path, cases, columns, chosen_by=chooser.method.title, with_images=with_images)
