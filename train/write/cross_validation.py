"""The cross-validation as a document: the methods side by side, the patients, the worst slices, the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ichseg.errors import InputError
from ichseg.replace_file import write_whole
from train.scores.cache import read_rows
from train.scores.evaluate import Score
from train.scores.protocols import PROTOCOLS_TEXT, current_name
from train.write.curves import draw_runs
from train.write.evaluation import OPTIMISTIC, compare, read_summary

#: How many of the worst slices are listed.
WORST = 20


def write_cross_validation(
    out: Path, scores: Sequence[Path], runs: Sequence[Path], *, protocol: str = "component"
) -> str:
    """Write OUT.md and, of the runs' folds, OUT-curves.png; return the Markdown.

    Args:
        out: where to, without an ending.
        scores: folders that ``evaluate`` wrote, the last one of the method whose failures are listed.
        runs: cross-validated runs, whose epochs are drawn (the paper's Figure 3).
        protocol: which one the tables by type, by patient and of the worst slices go by.

    Raises:
        InputError: a folder without scores.

    """
    for folder in scores:
        if not (folder / "summary.json").is_file():
            raise InputError(
                f"Scores are a folder that `evaluate` wrote; '{folder.name}' has no summary.json; evaluate first."
            )
    contents = [read_summary(folder / "summary.json") for folder in scores]
    rows = [
        [
            row
            for row in read_rows(folder / "scores.csv", Score)
            if current_name(row.protocol) == protocol
        ]
        for folder in scores
    ]
    titles = [content["title"] for content in contents]
    last = contents[-1]
    lines = [
        "# Cross-validation",
        "",
        f"{last['slices']} slices of {last['patients']} patients, each scored by a model that never saw the patient "
        f"(methods without training: by the one that there is). {OPTIMISTIC}",
        "",
    ]
    protocols = [
        name
        for name in last["protocols"]
        if all(name in content["protocols"] for content in contents)
    ]
    for name in protocols:
        lines += [compare([folder / "summary.json" for folder in scores], name)]
    lines += [PROTOCOLS_TEXT, ""]
    lines += _pooled(contents)
    lines += _types(contents, titles, protocol)
    lines += _patients(rows, titles, protocol)
    lines += _worst(rows[-1], titles[-1], protocol)
    if runs:
        picture = draw_runs(runs, out.with_name(f"{out.name}-curves.png"))
        lines += [
            "## Curves",
            "",
            f"![Loss, and validation Dice, by epoch, one line a fold]({picture.name})",
            "",
        ]
    text = "\n".join(lines)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out.with_name(f"{out.name}.md"), text.encode())
    return text


def _pooled(contents: Sequence[Mapping[str, Any]]) -> list[str]:
    """The paper's own way of counting, where it was asked for; its parts are the folds."""
    if not all(content.get("paper_protocol") for content in contents):
        return []
    lines = [
        "## In the paper's protocol",
        "",
        "At 256 x 256, one box per slice, the pixels of 8 slices pooled into one score: it reads higher, as large "
        "hematomas weigh most. The paper reports 0.9249 / 0.8725 for its adapter and 0.8103 / 0.7127 for LiteMedSAM, "
        "on its own private scans.",
        "",
        "| method | Dice | Jaccard |",
        "|---|---|---|",
    ]
    for content in contents:
        pairs = list(content["paper_protocol"].values())
        cells = (f"{np.mean([pair[key] for pair in pairs]):.4f}" for key in ("dice", "jaccard"))
        lines.append(f"| {content['title']} | {' | '.join(cells)} |")
    return [*lines, ""]


def _types(
    contents: Sequence[Mapping[str, Any]], titles: Sequence[str], protocol: str
) -> list[str]:
    lines = [
        f"## By type of hemorrhage ({protocol})",
        "",
        "Dice per slice; a slice with several types counts under each.",
        "",
        f"| type | slices | patients | {' | '.join(titles)} |",
        f"|---|---|---|{'---|' * len(titles)}",
    ]
    kinds = contents[-1]["dice_by_type"][protocol]
    for kind, counted in kinds.items():
        found = (content["dice_by_type"][protocol][kind] for content in contents)
        cells = (f"{value['mean']:.3f} ± {value['sd']:.3f}" for value in found)
        lines.append(f"| {kind} | {counted['n']} | {counted['n_patients']} | {' | '.join(cells)} |")
    return [*lines, ""]


def _patients(rows: Sequence[Sequence[Score]], titles: Sequence[str], protocol: str) -> list[str]:
    lines = [
        f"## By patient ({protocol})",
        "",
        "Mean Dice over the patient's slices.",
        "",
        f"| patient | slices | {' | '.join(titles)} |",
        f"|---|---|{'---|' * len(titles)}",
    ]
    for patient in sorted({row.patient for row in rows[-1]}):
        mine = [[row.dice for row in method if row.patient == patient] for method in rows]
        cells = (f"{np.mean(values):.3f}" for values in mine)
        lines.append(f"| {patient} | {len(mine[-1])} | {' | '.join(cells)} |")
    return [*lines, ""]


def _worst(rows: Sequence[Score], title: str, protocol: str) -> list[str]:
    lines = [
        f"## The {WORST} worst slices of {title} ({protocol})",
        "",
        "| patient | slice | types | components | true pixels | found pixels | Dice |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: row.dice)[:WORST]:
        lines.append(
            f"| {row.patient} | {row.slice} | {row.types or 'not recorded'} | {row.components} | {row.reference_px} "
            f"| {row.predicted_px} | {row.dice:.3f} |"
        )
    return [*lines, ""]
