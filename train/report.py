"""Tables and plots of scores: one run, a cross-validated run, a sweep, several methods side by side."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress

from ichseg.errors import InputError
from ichseg.methods.catalogue import load_predictor
from ichseg.methods.predictor import Predictor
from ichseg.replace_file import write_whole
from train.cache_key import cache_key
from train.dataset import Prepared, native_slices, replace_file, write_json
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

    Scores are written patient by patient to ``out``. What is there is not scored again if it came from the same model,
    code, data and protocol (``cache_key``); what came from others is replaced. Returns the rows of the patients and
    protocols that are asked for and, with ``paper``, Dice and Jaccard in the paper's protocol, one pair a part.
    """
    rows: list[Score] = []
    pooled: dict[str, Any] = {}
    for name, source, held_out in parts(prepared, model, run, patients, part):
        predictor = load_predictor(source)
        with Progress(console=console or Console(stderr=True)) as progress:
            task = progress.add_task(name, total=len(held_out))
            rows += _scored(
                predictor,
                prepared,
                held_out,
                protocols,
                out / f"scores-{name}.csv",
                on_patient=lambda task=task, progress=progress: progress.advance(task),
            )
        if paper:
            pooled[name] = _as_paper(predictor, prepared, held_out, out / f"paper-{name}.json")
    return rows, pooled if paper else None


def _scored(
    predictor: Predictor,
    prepared: Prepared,
    patients: Sequence[str],
    protocols: Sequence[Protocol],
    path: Path,
    on_patient: Callable[[], object],
) -> list[Score]:
    """A model's scores of some patients, those that ``path`` has among them, and all of them in it when it is done."""
    keys = {
        protocol.name: cache_key(
            predictor,
            prepared,
            refinement=protocol.second_look,
            asked=dataclasses.asdict(protocol),
        )
        for protocol in protocols
    }
    # Other protocols of the same model stay: their keys are compared when they are asked for.
    there = read_scores(path) if path.exists() else []
    there = [row for row in there if keys.get(row.protocol, row.key) == row.key != ""]
    for patient in patients:
        done = {row.protocol for row in there if row.patient == patient}
        if missing := [protocol for protocol in protocols if protocol.name not in done]:
            found = score(predictor, native_slices(prepared, [patient]), missing)
            there += [dataclasses.replace(row, key=keys[row.protocol]) for row in found]
            write_scores(path, there)
        on_patient()
    wanted = set(patients)
    return [row for row in there if row.patient in wanted and row.protocol in keys]


def _as_paper(
    predictor: Predictor, prepared: Prepared, patients: Sequence[str], path: Path
) -> dict[str, float]:
    """Dice and Jaccard in the paper's protocol, which pools the patients' slices; from ``path`` where it has them."""
    key = cache_key(
        predictor, prepared, refinement=False, asked={"paper": True, "patients": list(patients)}
    )
    kept = json.loads(path.read_text()) if path.exists() else {}
    if kept.get("key") != key:
        dice, jaccard = score_as_paper(predictor, native_slices(prepared, patients))
        kept = {"dice": dice, "jaccard": jaccard, "key": key}
        write_json(path, kept)
    return {"dice": kept["dice"], "jaccard": kept["jaccard"]}


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
    write_whole(out / "sweep.md", table.encode())
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
    replace_file(path, lambda part: figure.savefig(part, dpi=120))
