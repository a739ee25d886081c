"""The scores of one model or run, as tables and files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ichseg.replace_file import write_whole
from train.data.files import write_json
from train.scores.cache import write_rows
from train.scores.evaluate import Score, by_type, summary_of
from train.scores.metrics import Summary
from train.scores.protocols import PROTOCOLS_TEXT, current_name

OPTIMISTIC = (
    "Boxes come from the reference mask, on slices with blood: an optimistic setting. "
    "Jittered boxes stand for a person's. Intervals are 95 % bootstrap over patients."
)


def write_report(
    out: Path, rows: Sequence[Score], pooled: Mapping[str, Any] | None, *, title: str
) -> str:
    """Write scores.csv, summary.json and summary.md, and return the Markdown."""
    write_rows(out / "scores.csv", rows)
    summary = summary_of(rows)
    content: dict[str, Any] = {
        "title": title,
        "slices": len({(row.scan, row.slice) for row in rows}),
        "patients": len({row.patient for row in rows}),
        "protocols": {
            name: {key: dataclasses.asdict(value) for key, value in scores.items()}
            for name, scores in summary.items()
        },
        "dice_by_type": {
            name: {kind: dataclasses.asdict(value) for kind, value in by_type(rows, name).items()}
            for name in summary
        },
    }
    if pooled:
        content["paper_protocol"] = dict(pooled)
    write_json(out / "summary.json", content)
    text = _markdown(content, summary, rows)
    write_whole(out / "summary.md", text.encode())
    return text


def _markdown(
    content: Mapping[str, Any], summary: Mapping[str, Mapping[str, Summary]], rows: Sequence[Score]
) -> str:
    lines = [
        f"## {content['title']}",
        "",
        f"{content['slices']} slices of {content['patients']} patients. {OPTIMISTIC}",
        "",
        "| protocol | Dice per slice | 95 % | Jaccard | abs. volume difference "
        "| Dice per patient | volume difference per patient |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, scores in summary.items():
        low, high = scores["dice"].interval
        lines.append(
            f"| {name} | {_spread(scores['dice'])} | {low:.3f} to {high:.3f} | {_spread(scores['jaccard'])} "
            f"| {_spread(scores['volume_difference'])} | {_spread(scores['patient_dice'])} "
            f"| {_spread(scores['patient_volume_difference'])} |"
        )
    first = next(iter(summary))
    lines += [
        "",
        PROTOCOLS_TEXT,
        "",
        f"Dice per slice by type of hemorrhage ({first}):",
        "",
        "| type | Dice | slices | patients |",
    ]
    lines.append("|---|---|---|---|")
    for kind, value in by_type(rows, first).items():
        lines.append(f"| {kind} | {_spread(value)} | {value.n} | {value.n_patients} |")
    if pooled := content.get("paper_protocol"):
        pairs = list(pooled.values())
        dice = sum(pair["dice"] for pair in pairs) / len(pairs)
        jaccard = sum(pair["jaccard"] for pair in pairs) / len(pairs)
        lines += [
            "",
            f"In the paper's protocol (256 x 256, batches of 8 pooled): Dice {dice:.4f}, Jaccard {jaccard:.4f}.",
        ]
    return "\n".join(lines) + "\n"


def _spread(value: Summary) -> str:
    return f"{value.mean:.3f} ± {value.sd:.3f}"


def read_summary(path: Path) -> dict[str, Any]:
    """What ``write_report`` wrote as summary.json, with the protocols by the names they have today."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for table in ("protocols", "dice_by_type"):
        content[table] = {current_name(name): value for name, value in content[table].items()}
    return content


def compare(summaries: Sequence[Path], protocol: str) -> str:
    """One Markdown row for each summary.json: the cross-validation table."""
    lines = [
        f"| method ({protocol}) | Dice per slice | 95 % | Jaccard | abs. volume difference | Dice per patient |",
        "|---|---|---|---|---|---|",
    ]
    for path in summaries:
        content = read_summary(path)
        scores = content["protocols"][protocol]
        low, high = scores["dice"]["interval"]
        cells = [
            f"{scores[key]['mean']:.3f} ± {scores[key]['sd']:.3f}"
            for key in ("dice", "jaccard", "volume_difference", "patient_dice")
        ]
        lines.append(
            f"| {content['title']} | {cells[0]} | {low:.3f} to {high:.3f} | {cells[1]} | {cells[2]} | {cells[3]} |"
        )
    return "\n".join(lines) + "\n"
