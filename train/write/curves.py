"""Curves of training: by epoch, by fold, by rank and by cutoff."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from train.data.files import replace_file


def read_epochs(run: Path) -> list[dict[str, float]]:
    """The epochs of a run, as its epochs.csv has them."""
    with (run / "epochs.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def draw_curves(out: Path) -> Path:
    """Losses, and validation Dice and Jaccard, by epoch (the paper's Figure 3): ``out / "curves.png"``."""
    from matplotlib.figure import Figure

    rows = read_epochs(out)
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for axes, names in (
        (losses, ("train_loss", "validation_loss")),
        (scores, ("validation_dice", "validation_jaccard")),
    ):
        for name in names:
            axes.plot(epochs, [row[name] for row in rows], marker="o", label=name.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.legend(frameon=False)
    losses.set_ylabel("loss")
    scores.set_ylim(0, 1)
    replace_file(out / "curves.png", lambda part: figure.savefig(part, dpi=120))
    return out / "curves.png"


def draw_runs(runs: Sequence[Path], path: Path) -> Path:
    """Losses and validation Dice by epoch, one line a fold and one row of plots a run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3 * len(runs)), layout="constrained")
    grid = figure.subplots(len(runs), 3, squeeze=False)
    for axes, run in zip(grid, runs, strict=True):
        for fold in sorted(run.glob("fold-*")):
            epochs = read_epochs(fold)
            for panel, name in zip(
                axes, ("train_loss", "validation_loss", "validation_dice"), strict=True
            ):
                panel.plot(
                    [row["epoch"] for row in epochs],
                    [row[name] for row in epochs],
                    marker="o",
                    label=fold.name,
                )
                panel.set_title(f"{run.name}: {name.replace('_', ' ')}", fontsize=9)
                panel.set_xlabel("epoch")
        axes[0].legend(frameon=False, fontsize=7)
        axes[2].set_ylim(0, 1)
    replace_file(path, lambda part: figure.savefig(part, dpi=120))
    return path


def draw_sweep(rows: Sequence[tuple[int, float, Mapping[str, float]]], path: Path) -> None:
    """Validation Dice by rank, one line a dropout."""
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


def draw_cutoffs(
    cutoffs: npt.NDArray[np.float64], dice: npt.NDArray[np.float64], cutoff: float, path: Path
) -> None:
    """Dice by the cutoff of a forest, and the one that is chosen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(cutoffs, dice, marker="o")
    axes.axvline(cutoff, color="grey", linestyle=":")
    axes.set_xlabel("cutoff of the chance of blood")
    axes.set_ylabel("Dice, inner folds")
    replace_file(path, lambda part: figure.savefig(part, dpi=120))
