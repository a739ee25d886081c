"""Ranks and dropouts in turn, as the paper varied them: one table and one plot."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ichseg.replace_file import write_whole
from train.adapter import finetune
from train.data.cache import Prepared
from train.recipes import FinetuneConfig
from train.write.curves import draw_sweep, read_epochs


def sweep(
    prepared: Prepared,
    out: Path,
    *,
    base: FinetuneConfig,
    ranks: Sequence[int],
    dropouts: Sequence[float],
    split: Mapping[str, Any],
    fold: int,
    console: Console,
) -> str:
    """Train a recipe at each rank with alpha = 2 rank and each dropout on one fold; return a table of scores.

    Complete runs are kept. Writes sweep.md and sweep.png into ``out``.
    """
    rows = []
    for rank in ranks:
        for dropout in dropouts:
            config = dataclasses.replace(base, rank=rank, alpha=2 * rank, dropout=dropout)
            target = out / f"rank-{rank}-dropout-{dropout:g}"
            if not (target / "curves.png").exists():
                finetune(config, prepared, split, fold, target, resume=True, console=console)
            rows.append((rank, dropout, max(read_epochs(target), key=_validation)))
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
    draw_sweep(rows, out / "sweep.png")
    return table


def _validation(epoch: Mapping[str, float]) -> float:
    return epoch["validation_dice"] + epoch["validation_jaccard"]
