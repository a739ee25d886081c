"""Tables and plots of scores: one run, a cross-validated run, a sweep, several methods side by side."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress

from ichseg.errors import InputError
from ichseg.models import load_predictor
from ichseg.predictor import Predictor
from train.dataset import Prepared, native_slices, write_json
from train.evaluate import (
    Protocol,
    Score,
    by_type,
    read_scores,
    score,
    score_as_paper,
    summary_of,
    write_scores,
)
from train.metrics import Summary

#: Patients that a fold never trained on: those it is scored by, and those that were watched while it trained.
Part = Literal["test", "validation"]

OPTIMISTIC = (
    "Boxes come from the truth, on slices with blood: an optimistic setting. "
    "Jittered boxes stand for a person's. Intervals are 95 % bootstrap over patients."
)


def evaluate_run(
    prepared: Prepared,
    out: Path,
    protocols: Sequence[Protocol],
    *,
    model: str | None = None,
    run: Path | None = None,
    patients: Sequence[str] | None = None,
    part: Part = "test",
    paper: bool = True,
    console: Console | None = None,
) -> tuple[list[Score], dict[str, Any] | None]:
    """Score a model on all patients, or a cross-validated run's adapters each on the patients it never saw.

    ``part`` "validation" scores a run's folds on the patients they were watched on, for choices that the test patients
    have no part in. It wants an ``out`` of its own.

    Scores are written part by part to ``out``, and a part that is there is not scored again. Returns the rows and, with
    ``paper``, Dice and Jaccard in the paper's protocol, one pair a part.
    """
    rows: list[Score] = []
    pooled: dict[str, Any] = {}
    for name, source, held_out in parts(prepared, model, run, patients, part):
        path = out / f"scores-{name}.csv"
        wanted = [protocol.name for protocol in protocols]
        there = read_scores(path) if path.exists() else []
        missing = [p for p in protocols if p.name not in {row.protocol for row in there}]
        predictor: Predictor | None = None
        if missing:
            predictor = load_predictor(source)
            slices = list(native_slices(prepared, held_out))
            with Progress(console=console or Console(stderr=True)) as progress:
                task = progress.add_task(name, total=len(slices))
                there += score(
                    predictor, slices, missing, on_slice=lambda task=task: progress.advance(task)
                )
            write_scores(path, there)
        rows += [row for row in there if row.protocol in wanted]
        pooled_path = out / f"paper-{name}.json"
        if paper and not pooled_path.exists():
            dice, jaccard = score_as_paper(
                predictor or load_predictor(source), native_slices(prepared, held_out)
            )
            write_json(pooled_path, {"dice": dice, "jaccard": jaccard})
        if paper:
            pooled[name] = json.loads(pooled_path.read_text())
    return rows, pooled if paper else None


def parts(
    prepared: Prepared,
    model: str | None,
    run: Path | None,
    patients: Sequence[str] | None,
    part: Part = "test",
) -> Iterator[tuple[str, str, list[str]]]:
    """(name, model or trained folder, patients to score) of each part."""
    with_blood = {name for name, kind in prepared.patients.items() if kind != "none"}
    if model is not None:
        yield "all", model, sorted(patients or with_blood)
        return
    assert run is not None
    folds = sorted(run.glob("fold-*"), key=lambda path: int(path.name.split("-")[1]))
    if not folds:
        raise InputError(
            f"A cross-validated run holds fold-0, fold-1, ...; '{run.name}' has none; train it with --folds 5."
        )
    for fold in folds:
        model = fold / "model"  # of a method that is no adapter
        trained = model if model.is_dir() else fold / "adapter"
        # The curves are drawn last: a fold without them is still in training, its adapter not the final one.
        if not (fold / "curves.png").exists():
            raise InputError(
                f"A run is scored when it is finished; '{run.name}/{fold.name}' is not; resume it first."
            )
        split = json.loads((fold / "split.json").read_text())
        yield fold.name, str(trained), [name for name in split[part] if name in with_blood]


def write_report(
    out: Path, rows: Sequence[Score], pooled: Mapping[str, Any] | None, *, title: str
) -> str:
    """Write scores.csv, summary.json and summary.md, and return the Markdown."""
    write_scores(out / "scores.csv", rows)
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
    (out / "summary.md").write_text(text)
    return text


def _markdown(
    content: Mapping[str, Any], summary: Mapping[str, Mapping[str, Summary]], rows: Sequence[Score]
) -> str:
    lines = [
        f"## {content['title']}",
        "",
        f"{content['slices']} slices of {content['patients']} patients. {OPTIMISTIC}",
        "",
        "| protocol | Dice a slice | 95 % | Jaccard | abs. volume difference "
        "| Dice a patient | volume difference a patient |",
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
        f"Dice a slice by type of hemorrhage ({first}):",
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


def compare(summaries: Sequence[Path], protocol: str) -> str:
    """One Markdown row for each summary.json: the cross-validation table."""
    lines = [
        f"| method ({protocol}) | Dice a slice | 95 % | Jaccard | abs. volume difference | Dice a patient |",
        "|---|---|---|---|---|---|",
    ]
    for path in summaries:
        content = json.loads(path.read_text())
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


def sweep(
    prepared: Prepared,
    out: Path,
    *,
    recipe: str,
    ranks: Sequence[int],
    dropouts: Sequence[float],
    split: Mapping[str, Any],
    fold: int,
    settings: Sequence[str],
    console: Console,
) -> str:
    """Train each rank with alpha = 2 rank and each dropout on one fold; return a table of validation scores.

    Complete runs are kept. Writes sweep.md and sweep.png into ``out``.
    """
    from train.finetune import RECIPES, finetune

    base = RECIPES[recipe].with_settings(settings)
    rows = []
    for rank in ranks:
        for dropout in dropouts:
            config = dataclasses.replace(base, rank=rank, alpha=2 * rank, dropout=dropout)
            target = out / f"rank-{rank}-dropout-{dropout:g}"
            if not (target / "curves.png").exists():
                finetune(config, prepared, split, fold, target, resume=True, console=console)
            rows.append((rank, dropout, _best_epoch(target)))
    lines = [
        f"Fold {fold}, validation patients: {', '.join(split['folds'][fold]['validation'])}.",
        "",
        "| rank | alpha | dropout | best epoch | validation loss | Dice | Jaccard |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {rank} | {2 * rank} | {dropout:g} | {best['epoch']:.0f} | {best['validation_loss']:.4f} "
        f"| {best['validation_dice']:.4f} | {best['validation_jaccard']:.4f} |"
        for rank, dropout, best in rows
    ]
    table = "\n".join(lines) + "\n"
    (out / "sweep.md").write_text(table)
    _draw_sweep(rows, out / "sweep.png")
    return table


def _best_epoch(run: Path) -> dict[str, float]:
    import csv

    with (run / "epochs.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return max(rows, key=lambda row: row["validation_dice"] + row["validation_jaccard"])


def _draw_sweep(rows: Sequence[tuple[int, float, Mapping[str, float]]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    for dropout in dict.fromkeys(row[1] for row in rows):
        mine = [(rank, best["validation_dice"]) for rank, other, best in rows if other == dropout]
        axes.plot(*zip(*mine, strict=True), marker="o", label=f"dropout {dropout:g}")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("rank")
    axes.set_ylabel("validation Dice")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
