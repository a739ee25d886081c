"""The commands of proposals: python -m train proposals, which trains, and python -m train froc, which scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from train.data.cache import Prepared
from train.data.files import write_json
from train.data.split import check_same_test, make_split
from train.options import Data, Folds, SplitSeed, console, folds_to_train

if TYPE_CHECKING:
    from train.data.features import Features

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
    embedded_by: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="The cross-validated run of the fine-tune whose fold K embeds for fold K; with --folds 0 the adapter "
            "itself. Without it the un-tuned network embeds for all.",
        ),
    ] = None,
    folds: Folds = 5,
    fold: Annotated[list[int] | None, typer.Option(help="Train these folds alone.")] = None,
    split_seed: SplitSeed = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data.")] = None,
    seed: Annotated[int, typer.Option(help="Of the first weights and of all that is drawn.")] = 0,
    resume: Annotated[bool, typer.Option(help="Go on where each fold was left.")] = False,
    device: Annotated[str, typer.Option(help="auto, or cpu to leave a GPU alone.")] = "auto",
) -> None:
    """Train the head that finds blood without a prompt, on the folds of the fine-tune. Interrupt it at any moment."""
    from ichseg.methods.catalogue import load_predictor
    from train.data.features import Features
    from train.proposals import ProposalsConfig, predict_held_out, train_proposals

    config = ProposalsConfig(seed=seed)
    if epochs is not None:
        config = dataclasses.replace(config, epochs=epochs)
    prepared = Prepared(data)
    shared = Features(features or data / "features", prepared)
    split = make_split(prepared, folds, split_seed)
    incomplete = dict(folds_to_train(out, split, folds, fold, resume))
    with Progress(console=console) as progress:
        task = progress.add_task("features", total=None)

        def tell(name: str, done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, description=name)

        shared.complete_images(tell)
        kept = {}
        for number in fold if fold is not None else range(len(split["folds"])):
            mine = (
                shared
                if embedded_by is None
                else _by_adapter(shared, split, number, embedded_by, folds)
            )
            mine.complete(partial(load_predictor, mine.network, device), tell)
            kept[number] = mine
    for number, mine in kept.items():
        if number in incomplete:
            train_proposals(
                config,
                mine,
                split,
                number,
                incomplete[number],
                resume=resume,
                console=console,
                device=device,
            )
        predict_held_out(mine, out / f"fold-{number}" if folds else out, device=device)
    if folds:
        write_json(out / "split.json", split)


def _by_adapter(
    shared: Features, split: Mapping[str, Any], number: int, adapters: str, folds: int
) -> Features:
    """The features of a fold by its own adapter; with no folds by the adapter of all patients.

    Raises:
        InputError: an adapter that held out other patients.

    """
    from ichseg.methods.catalogue import load_predictor
    from train.proposals import part_of, rows_of

    part = part_of(split, number)
    network, name = adapters, "all"
    if folds:
        run = Path(adapters) / f"fold-{number}"
        name = run.name
        network = (run / "adapter").as_posix()
        check_same_test(run, part["test"])
    hashes = load_predictor(network).weights_sha256
    return shared.by(network, hashes, name, rows_of(shared, part))


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
