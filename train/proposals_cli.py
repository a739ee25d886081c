"""The commands of proposals: python -m train proposals, which trains, and python -m train froc, which scores."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from train.data.cache import Prepared
from train.data.files import write_json
from train.data.split import make_split
from train.options import Data, Folds, SplitSeed, console, folds_to_train

FeaturesFolder = Annotated[
    Path | None,
    typer.Option(
        "--features",
        help="Where embeddings are kept, 2 MB a slice; DATA/features by default. Made where they lack, and resumable.",
    ),
]


def proposals_command(
    data: Data,
    out: Annotated[Path, typer.Option(help="The run's folder; fold K goes to OUT/fold-K.")],
    features: FeaturesFolder = None,
    folds: Folds = 5,
    fold: Annotated[list[int] | None, typer.Option(help="Train these folds alone.")] = None,
    split_seed: SplitSeed = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data.")] = None,
    seed: Annotated[int, typer.Option(help="Of the first weights and of all that is drawn.")] = 0,
    implants: Annotated[
        int,
        typer.Option(
            min=0, help="Slices with blood of another patient laid into them; 700 is enough."
        ),
    ] = 0,
    resume: Annotated[bool, typer.Option(help="Go on where each fold was left.")] = False,
    device: Annotated[str, typer.Option(help="auto, or cpu to leave a GPU alone.")] = "auto",
) -> None:
    """Train the head that finds blood without a prompt, on the folds of the fine-tune. Interrupt it at any moment."""
    from ichseg.methods.blood_finder import EMBEDDED_BY
    from ichseg.methods.catalogue import load_predictor
    from train.data.features import Features
    from train.proposals import ProposalsConfig, predict_held_out, train_proposals

    config = ProposalsConfig(implants=implants, seed=seed)
    if epochs is not None:
        config = dataclasses.replace(config, epochs=epochs)
    prepared = Prepared(data)
    kept = Features(features or data / "features", prepared, implants)
    with Progress(console=console) as progress:
        task = progress.add_task("features", total=None)
        kept.complete(
            lambda: load_predictor(EMBEDDED_BY, device),
            lambda name, done, total: progress.update(
                task, completed=done, total=total, description=name
            ),
        )
    split = make_split(prepared, folds, split_seed)
    incomplete = dict(folds_to_train(out, split, folds, fold, resume))
    for number in fold if fold is not None else range(len(split["folds"])):
        if number in incomplete:
            train_proposals(
                config,
                kept,
                split,
                number,
                incomplete[number],
                resume=resume,
                console=console,
                device=device,
            )
        predict_held_out(kept, out / f"fold-{number}" if folds else out, device=device)
    if folds:
        write_json(out / "split.json", split)


def froc_command(
    data: Data,
    run: Annotated[
        Path, typer.Option(help="A cross-validated run of `proposals`: the folder of its folds.")
    ],
    out: Annotated[Path, typer.Option(help="Where to write proposals.md, froc.png and the rows.")],
    adapters: Annotated[
        Path, typer.Option(help="The cross-validated run whose adapters are given the boxes.")
    ],
    refinement: Annotated[
        bool, typer.Option(help="Masks with refinement: half a second a box on a CPU.")
    ] = False,
) -> None:
    """Score proposals, each patient by a fold that never saw them: FROC, Dice without a box, false mL; resumable."""
    from ichseg.methods.catalogue import load_predictor
    from train.scores.proposals import folds_of, measure
    from train.write.proposals import write_proposals

    prepared = Prepared(data)
    folds = folds_of(run, adapters)
    with Progress(console=console) as progress:
        total = 2 * sum(len(prepared.scans_of(fold.patients)) for fold in folds)
        task = progress.add_task("scans", total=total)
        scans, regions, rows, rules = measure(
            folds,
            prepared,
            out,
            load_predictor,
            refinement=refinement,
            on_scan=lambda name: progress.update(task, advance=1, description=name),
        )
    print(write_proposals(out, scans, regions, rows, rules, refinement=refinement))
