"""What several commands of the fine-tune take, and which folds are left to train."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ichseg.errors import InputError

console = Console(stderr=True)

Data = Annotated[Path, typer.Option("--data", help="The folder that `prepare` wrote.")]
Folds = Annotated[
    int, typer.Option(help="Parts of the cross-validation; 0 trains one adapter on every patient.")
]
CrossValidated = Annotated[
    Path | None,
    typer.Option(help="A cross-validated run: each fold's adapter on the patients it never saw."),
]
SplitSeed = Annotated[int, typer.Option("--split-seed", help="Seed of the split by patient.")]


def folds_to_train(
    out: Path, split: dict[str, Any], folds: int, chosen: list[int] | None, resume: bool
) -> Iterator[tuple[int, Path]]:
    """Each fold's number and folder (the run's own for 0 folds), without those that are complete already."""
    for number in chosen if chosen is not None else range(len(split["folds"])):
        if not 0 <= number < len(split["folds"]):
            raise InputError(
                f"Folds are numbered 0 to {len(split['folds']) - 1}; got {number}; give one of them."
            )
        target = out / f"fold-{number}" if folds else out
        if (target / "curves.png").exists() and resume:
            console.print(f"{target.name} is complete")
        else:
            yield number, target
